// Matrix products: oneDNN's, which run single-threaded inside the tasks of our own pool, with rows of the result cut into
// tiles, or, for the few rows and columns of an adapter's gradient, the summed dimension. Packed matrices of bf16 lie in
// panels of our own where those are faster (panels.c), and go through linear.c.
#include "include/matmul.h"

#include <stdlib.h>

#include "include/linear.h"
#include "include/threads.h"
#include "onednn.h"
#include "packed_layout.h"
#include "scratch.h"

typedef struct {
  const sl_product *whole, *rest;  // a full tile's product and the last, smaller one's
  int64_t tile, total;          // along the dimension that is cut
  const char *a, *b;
  char *c;
  size_t a_step, b_step, c_step;  // bytes from one tile's operand to the next one's
  _Atomic int status;
} tiled;

static void run_tile(void *context, int64_t task, int thread) {
  tiled *job = context;
  (void)thread;
  size_t i = (size_t)task;
  const sl_product *p = (task + 1) * job->tile <= job->total ? job->whole : job->rest;
  dnnl_status_t status =
      sl_onednn_execute(p, job->a + i * job->a_step, job->b + i * job->b_step, job->c + i * job->c_step);
  if (status != dnnl_success) job->status = status;
}

/// Rows of a tile.
static int64_t tile_rows(int64_t m, size_t b_size) {
  int64_t threads = sl_thread_count();
  // A B beyond the caches is read from memory once per tile: as few tiles as keep all threads busy. Else about four tiles
  // a thread even out what the threads lose to others; smaller than 32 rows a product is inefficient, larger than 256 it
  // no longer gains.
  int64_t wanted = b_size > (size_t)8 << 20 ? (m + threads - 1) / threads : m / (4 * threads);
  int64_t tile = (wanted + 31) / 32 * 32, most = b_size > (size_t)8 << 20 ? 1024 : 256;
  tile = tile < 32 ? 32 : tile > most ? most : tile;
  return tile < m ? tile : m;
}

/// Cuts the rows of A and C into tiles.
static int run_by_rows(sl_product_key key, const api_layout *packed, const void *a, const void *b, void *c) {
  size_t operand = sl_dtype_size(key.operand_type);
  int64_t m = key.m, tile = tile_rows(m, (size_t)key.k * (size_t)key.n * operand);
  tiled job = {.tile = tile, .total = m, .a = a, .b = b, .c = c};
  job.a_step = (size_t)(tile * (key.transpose_a ? 1 : key.lda)) * operand;
  job.c_step = (size_t)(tile * key.ldc) * sl_dtype_size(key.c_type);
  dnnl_status_t status = dnnl_success;
  if (m >= tile) {
    key.m = tile;
    TRY(sl_onednn_product(&key, packed, &job.whole));
  }
  if (m % tile) {
    key.m = m % tile;
    TRY(sl_onednn_product(&key, packed, &job.rest));
  }
  sl_parallel((m + tile - 1) / tile, run_tile, &job);
  status = job.status;
done:
  return status;
}

typedef struct {
  float *c;
  const float *parts;
  int64_t m, n, ldc, count;
  int accumulate;
} sum_job;

__attribute__((target_clones("avx512f", "avx2", "default"))) static void add_rows(int64_t n, const float *restrict from,
                                                                                 float *restrict to) {
  for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

static void sum_row(void *context, int64_t row, int thread) {
  const sum_job *job = context;
  (void)thread;
  float *to = job->c + row * job->ldc;
  for (int64_t part = 0; part < job->count; part++) {
    const float *from = job->parts + (part * job->m + row) * job->n;
    if (part == 0 && !job->accumulate) memcpy(to, from, (size_t)job->n * sizeof *to);
    else add_rows(job->n, from, to);
  }
}

/// Cuts the summed dimension: parts of fixed size, added in order, so that the result depends on no thread count.
static int run_by_depth(sl_product_key key, const void *a, const void *b, float *c) {
  enum { depth = 512 };
  int64_t k = key.k, parts = (k + depth - 1) / depth;
  static float *room;  // grows to the largest adapter's gradient; all calls come from one thread
  static size_t room_size;
  size_t wanted = (size_t)(parts * key.m * key.n) * sizeof(float);
  if (wanted > room_size) {
    free(room);
    room = aligned_alloc(4096, (wanted + 4095) / 4096 * 4096);
    room_size = room ? wanted : 0;
    if (!room) return dnnl_out_of_memory;
  }
  size_t operand = sl_dtype_size(key.operand_type);
  tiled job = {.tile = depth, .total = k, .a = a, .b = b, .c = (char *)room};
  job.a_step = (size_t)(depth * (key.transpose_a ? key.lda : 1)) * operand;
  job.b_step = (size_t)(depth * (key.transpose_b ? 1 : key.ldb)) * operand;
  job.c_step = (size_t)(key.m * key.n) * sizeof(float);
  sum_job sum = {.c = c, .parts = room, .m = key.m, .n = key.n, .ldc = key.ldc, .count = parts,
                 .accumulate = key.accumulate};
  key.ldc = key.n, key.accumulate = 0;
  dnnl_status_t status = dnnl_success;
  key.k = depth;
  TRY(sl_onednn_product(&key, NULL, &job.whole));
  if (k % depth) {
    key.k = k % depth;
    TRY(sl_onednn_product(&key, NULL, &job.rest));
  }
  sl_parallel(parts, run_tile, &job);
  status = job.status;
  if (status == dnnl_success) sl_parallel(key.m, sum_row, &sum);
done:
  return status;
}

int sl_matmul(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, int transpose_a, const void *b, int64_t ldb,
              int transpose_b, sl_dtype operand_type, void *c, sl_dtype c_type, int64_t ldc, int accumulate) {
  dnnl_status_t status;
  sl_product_key key;
  memset(&key, 0, sizeof key);  // the padding takes part in the comparison
  key.m = m, key.n = n, key.k = k, key.lda = lda, key.ldb = ldb, key.ldc = ldc;
  key.transpose_a = transpose_a != 0, key.transpose_b = transpose_b != 0;
  key.operand_type = operand_type, key.c_type = c_type, key.accumulate = accumulate != 0;
  // A sum over the tokens of a batch has few and short rows.
  if (m == 1 && !transpose_a) {
    sl_block_layout plain = {.k = k, .n = n, .k_block = 1, .n_block = 1, .pair = 1,
                             .k_stride = transpose_b ? 1 : ldb, .n_stride = transpose_b ? ldb : 1};
    sl_matvec(&plain, operand_type, a, b, c, c_type, accumulate);
    return 0;
  }
  int by_depth = transpose_a && c_type == SL_F32 && k > 512;
  status = sl_onednn_begin();
  if (status == dnnl_success) status = by_depth ? run_by_depth(key, a, b, c) : run_by_rows(key, NULL, a, b, c);
  sl_onednn_end();
  return status;
}

/// Rows times a matrix in strips where there are no panels: by pieces of dense rows that a cache holds.
static int multiply_strips(int64_t m, const void *a, int64_t lda, const sl_packed_matrix *b, void *c, sl_dtype c_type,
                           int64_t ldc, int accumulate) {
  const int64_t size = (int64_t)sl_dtype_size(b->dtype), rows = (int64_t)4 << 20;
  int64_t piece = rows / (b->k * size) / strip_rows * strip_rows;
  piece = piece < strip_rows ? strip_rows : piece;
  void *room = sl_take_scratch((size_t)(piece * b->k * size));
  if (!room) return dnnl_out_of_memory;
  int status = 0;
  for (int64_t first = 0; first < b->n && status == 0; first += piece) {
    int64_t end = first + piece < b->n ? first + piece : b->n;
    sl_blocks_unpack(b, first, end, b->dtype, room);
    status = sl_matmul(m, end - first, b->k, a, lda, 0, room, b->k, 1, b->dtype,
                       (char *)c + (size_t)first * sl_dtype_size(c_type), c_type, ldc, accumulate);
  }
  sl_return_scratch(room);
  return status;
}

int sl_matmul_packed(int64_t m, const void *a, int64_t lda, const sl_packed_matrix *b, void *c, sl_dtype c_type,
                     int64_t ldc, int accumulate) {
  sl_product_key key;
  memset(&key, 0, sizeof key);
  key.m = m, key.n = b->n, key.k = b->k, key.lda = lda, key.ldc = ldc, key.packed = 1;
  key.operand_type = b->dtype, key.c_type = c_type, key.accumulate = accumulate != 0;
  if (m == 1 && b->blocks.n_block > 0) {
    sl_matvec(&b->blocks, b->dtype, a, b->values, c, c_type, accumulate);
    return 0;
  }
  if (b->in_strips && m == 1) {
    sl_linear_part part = {.w = b, .y = c, .y_type = c_type};
    return sl_blocks_linear(b->dtype, 1, a, lda, b->k, 1, &part, accumulate) == 0 ? 0 : dnnl_out_of_memory;
  }
  if (b->in_strips && !sl_linear_is_fused(b)) return multiply_strips(m, a, lda, b, c, c_type, ldc, accumulate);
  if (b->in_panels || b->in_strips) {
    sl_linear_part part = {.w = b, .y = c, .y_type = c_type, .ldy = ldc};
    return sl_linear_forward(m, a, lda, b->k, 1, &part, accumulate, NULL, 0) == 0 ? 0 : dnnl_out_of_memory;
  }
  dnnl_status_t status = sl_onednn_begin();
  if (status == dnnl_success) status = run_by_rows(key, &b->layout, a, b->values, c);
  sl_onednn_end();
  return status;
}
