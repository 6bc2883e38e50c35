// Matrix products through oneDNN's C API, which runs single-threaded inside the tasks of our own pool: rows of the result
// are cut into tiles, or, for the few rows and columns of an adapter's gradient, the summed dimension is. Packed matrices
// of bf16 lie in panels of our own where those are faster (panels.c), and go through linear.c.
//
// Versions 2 and 3 of the API differ in how a memory and a product are described; the differences are the functions named
// api_* at the top, and nothing else.
#include "include/matmul.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/linear.h"
#include "include/nf4.h"
#include "include/threads.h"
#include "matvec.h"
#include "packed_matrix.h"
#include "panels.h"
#include "scratch.h"
#include "slab.h"
#include "strips.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t api_layout;  // owned
static dnnl_status_t api_strided(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type,
                                 const dnnl_dims_t strides) {
  return dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides);
}
static dnnl_status_t api_any(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type) {
  return dnnl_memory_desc_create_with_tag(out, 2, dims, type, dnnl_format_tag_any);
}
static void api_layout_free(api_layout *layout) {
  if (*layout) dnnl_memory_desc_destroy(*layout);
  *layout = NULL;
}
static dnnl_status_t api_copy(api_layout *out, const api_layout *from) { return dnnl_memory_desc_clone(out, *from); }
static size_t api_layout_size(const api_layout *layout) { return dnnl_memory_desc_get_size(*layout); }
static dnnl_status_t api_memory(dnnl_memory_t *memory, const api_layout *layout, dnnl_engine_t engine, void *handle) {
  return dnnl_memory_create(memory, *layout, engine, handle);
}
static dnnl_status_t api_append_sum(dnnl_post_ops_t ops) {
  return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
static dnnl_status_t api_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const api_layout *a,
                                const api_layout *b, const api_layout *c, dnnl_primitive_attr_t attributes) {
  return dnnl_matmul_primitive_desc_create(out, engine, *a, *b, NULL, *c, attributes);
}
static dnnl_status_t api_queried(api_layout *out, dnnl_primitive_desc_t description, dnnl_query_t what) {
  const_dnnl_memory_desc_t found = dnnl_primitive_desc_query_md(description, what, 0);
  return found ? dnnl_memory_desc_clone(out, found) : dnnl_runtime_error;
}
typedef struct {
  dnnl_dims_t strides, sizes, dimensions;
  int count;
} api_blocks;
static int api_query_blocks(api_blocks *out, const api_layout *layout) {
  dnnl_dims_t *strides, *sizes, *dimensions;
  if (dnnl_memory_desc_query(*layout, dnnl_query_inner_nblks_s32, &out->count) != dnnl_success ||
      dnnl_memory_desc_query(*layout, dnnl_query_strides, &strides) != dnnl_success ||
      dnnl_memory_desc_query(*layout, dnnl_query_inner_blks, &sizes) != dnnl_success ||
      dnnl_memory_desc_query(*layout, dnnl_query_inner_idxs, &dimensions) != dnnl_success)
    return 0;
  memcpy(out->strides, *strides, sizeof out->strides);
  memcpy(out->sizes, *sizes, sizeof out->sizes);
  memcpy(out->dimensions, *dimensions, sizeof out->dimensions);
  return 1;
}
static dnnl_status_t api_reorder(dnnl_primitive_desc_t *out, const api_layout *from, const api_layout *to,
                                 dnnl_engine_t engine) {
  return dnnl_reorder_primitive_desc_create(out, *from, engine, *to, engine, NULL);
}
#else
typedef dnnl_memory_desc_t api_layout;  // a plain value
static dnnl_status_t api_strided(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type,
                                 const dnnl_dims_t strides) {
  return dnnl_memory_desc_init_by_strides(out, 2, dims, type, strides);
}
static dnnl_status_t api_any(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type) {
  return dnnl_memory_desc_init_by_tag(out, 2, dims, type, dnnl_format_tag_any);
}
static void api_layout_free(api_layout *layout) { (void)layout; }
static dnnl_status_t api_copy(api_layout *out, const api_layout *from) {
  *out = *from;
  return dnnl_success;
}
static size_t api_layout_size(const api_layout *layout) { return dnnl_memory_desc_get_size(layout); }
static dnnl_status_t api_memory(dnnl_memory_t *memory, const api_layout *layout, dnnl_engine_t engine, void *handle) {
  return dnnl_memory_create(memory, layout, engine, handle);
}
static dnnl_status_t api_append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }
static dnnl_status_t api_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const api_layout *a,
                                const api_layout *b, const api_layout *c, dnnl_primitive_attr_t attributes) {
  dnnl_matmul_desc_t product;
  dnnl_status_t status = dnnl_matmul_desc_init(&product, a, b, NULL, c);
  return status != dnnl_success ? status : dnnl_primitive_desc_create(out, &product, attributes, engine, NULL);
}
static dnnl_status_t api_queried(api_layout *out, dnnl_primitive_desc_t description, dnnl_query_t what) {
  const dnnl_memory_desc_t *found = dnnl_primitive_desc_query_md(description, what, 0);
  if (!found) return dnnl_runtime_error;
  *out = *found;
  return dnnl_success;
}
typedef struct {
  dnnl_dims_t strides, sizes, dimensions;
  int count;
} api_blocks;
static int api_query_blocks(api_blocks *out, const api_layout *layout) {
  if (layout->format_kind != dnnl_blocked) return 0;
  const dnnl_blocking_desc_t *blocking = &layout->format_desc.blocking;
  out->count = blocking->inner_nblks;
  memcpy(out->strides, blocking->strides, sizeof out->strides);
  memcpy(out->sizes, blocking->inner_blks, sizeof out->sizes);
  memcpy(out->dimensions, blocking->inner_idxs, sizeof out->dimensions);
  return 1;
}
static dnnl_status_t api_reorder(dnnl_primitive_desc_t *out, const api_layout *from, const api_layout *to,
                                 dnnl_engine_t engine) {
  return dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, NULL);
}
#endif

#define TRY(call)                                \
  do {                                           \
    status = (call);                             \
    if (status != dnnl_success) goto done;       \
  } while (0)

static dnnl_engine_t engine;

// The table of primitives and the room for partial sums are shared: products take turns, each on all threads.
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

// Where oneDNN was built on OpenMP this makes the calling thread a team of one; other builds have no such symbol.
extern void omp_set_num_threads(int count) __attribute__((weak));

static void run_alone(void) {
  static _Thread_local int done;
  if (done) return;
  done = 1;
  if (omp_set_num_threads) omp_set_num_threads(1);
}

static void keep_table_small(void);

static dnnl_status_t start(void) {
  run_alone();
  keep_table_small();
  if (engine) return dnnl_success;
  // Our own table below keeps the primitives; a second copy in oneDNN's cache would only hold memory.
  dnnl_set_primitive_cache_capacity(0);
  return dnnl_engine_create(&engine, dnnl_cpu, 0);
}

/// The calling thread's stream; made once per thread.
static dnnl_stream_t own_stream(void) {
  static _Thread_local dnnl_stream_t stream;
  run_alone();
  if (!stream && dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success) stream = NULL;
  return stream;
}

static dnnl_data_type_t type_of(sl_dtype dtype) { return dtype == SL_BF16 ? dnnl_bf16 : dnnl_f32; }

struct sl_packed_matrix {
  api_layout layout;  // of oneDNN's, unless in panels or in strips
  int in_panels, in_strips;
  size_t size;
  sl_dtype dtype;
  int64_t k, n;
  sl_block_layout blocks;  // n_block 0: a layout that `sl_matvec` does not read
  sl_strips strips;
  void *values;
  slab *owner;
};

// MARK: Primitives, one per shape

typedef struct {
  int64_t m, n, k, lda, ldb, ldc;
  uint8_t transpose_a, transpose_b, packed, operand_type, c_type, accumulate, unused[2];
} product_key;

typedef struct {
  product_key key;
  dnnl_primitive_t primitive;
  api_layout a, b, c, scratchpad;
} product;

// Bounds the memory that compiled primitives take when a run meets many lengths: a full table is emptied.
enum { table_size = 2048, table_limit = 1024 };
static product *table[table_size];
static int table_count;

static void product_destroy(product *p) {
  if (!p) return;
  if (p->primitive) dnnl_primitive_destroy(p->primitive);
  api_layout_free(&p->a), api_layout_free(&p->b), api_layout_free(&p->c), api_layout_free(&p->scratchpad);
  free(p);
}

static uint64_t hash_key(const product_key *key) {
  const unsigned char *bytes = (const unsigned char *)key;
  uint64_t h = 1469598103934665603ull;  // FNV-1a
  for (size_t i = 0; i < sizeof *key; i++) h = (h ^ bytes[i]) * 1099511628211ull;
  return h ^ (h >> 29);
}

static dnnl_status_t matrix_layout(api_layout *out, int64_t rows, int64_t columns, int64_t ld, int transposed,
                                   dnnl_data_type_t type) {
  dnnl_dims_t dims = {rows, columns};
  dnnl_dims_t strides = {transposed ? 1 : ld, transposed ? ld : 1};
  return api_strided(out, dims, type, strides);
}

static dnnl_status_t describe(dnnl_primitive_desc_t *out, const api_layout *a, const api_layout *b,
                              const api_layout *c, int accumulate) {
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t ops = NULL;
  dnnl_status_t status = dnnl_success;
  TRY(dnnl_primitive_attr_create(&attributes));
  // The library's own scratchpad belongs to the thread that makes a primitive; ours run on every thread.
  TRY(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
  if (accumulate) {
    TRY(dnnl_post_ops_create(&ops));
    TRY(api_append_sum(ops));
    TRY(dnnl_primitive_attr_set_post_ops(attributes, ops));
  }
  TRY(api_matmul(out, engine, a, b, c, attributes));
done:
  if (ops) dnnl_post_ops_destroy(ops);
  if (attributes) dnnl_primitive_attr_destroy(attributes);
  return status;
}

static dnnl_status_t product_create(const product_key *key, const api_layout *packed, product **out) {
  dnnl_status_t status = dnnl_success;
  dnnl_primitive_desc_t description = NULL;
  product *p = calloc(1, sizeof *p);
  if (!p) return dnnl_out_of_memory;
  p->key = *key;
  dnnl_data_type_t operand = type_of(key->operand_type);
  TRY(matrix_layout(&p->a, key->m, key->k, key->lda, key->transpose_a, operand));
  TRY(matrix_layout(&p->c, key->m, key->n, key->ldc, 0, type_of(key->c_type)));
  TRY(packed ? api_copy(&p->b, packed) : matrix_layout(&p->b, key->k, key->n, key->ldb, key->transpose_b, operand));
  TRY(describe(&description, &p->a, &p->b, &p->c, key->accumulate));
  TRY(api_queried(&p->scratchpad, description, dnnl_query_scratchpad_md));
  TRY(dnnl_primitive_create(&p->primitive, description));
  *out = p;
  p = NULL;
done:
  if (description) dnnl_primitive_desc_destroy(description);
  product_destroy(p);
  return status;
}

/// Empties a full table; between products only, whose tiles hold what they use of it.
static void keep_table_small(void) {
  if (table_count < table_limit) return;
  for (int i = 0; i < table_size; i++) product_destroy(table[i]), table[i] = NULL;
  table_count = 0;
}

static dnnl_status_t product_for(const product_key *key, const api_layout *packed, product **out) {
  uint64_t slot = hash_key(key) % table_size;
  while (table[slot]) {
    if (memcmp(&table[slot]->key, key, sizeof *key) == 0) {
      *out = table[slot];
      return dnnl_success;
    }
    slot = (slot + 1) % table_size;
  }
  dnnl_status_t status = product_create(key, packed, out);
  if (status == dnnl_success) table[slot] = *out, table_count++;
  return status;
}

/// Memory of the calling thread's own, at least `size` bytes; NULL when there is none.
static void *own_scratchpad(size_t size) {
  static _Thread_local void *room;
  static _Thread_local size_t room_size;
  if (size > room_size) {
    free(room);
    room = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    room_size = room ? size : 0;
  }
  return room;
}

/// One product on the calling thread.
static dnnl_status_t execute(const product *p, const void *a, const void *b, void *c) {
  dnnl_status_t status = dnnl_success;
  dnnl_memory_t memory_a = NULL, memory_b = NULL, memory_c = NULL, scratchpad = NULL;
  dnnl_stream_t stream = own_stream();
  if (!stream) return dnnl_runtime_error;
  TRY(api_memory(&memory_a, &p->a, engine, (void *)a));
  TRY(api_memory(&memory_b, &p->b, engine, (void *)b));
  TRY(api_memory(&memory_c, &p->c, engine, c));
  size_t size = api_layout_size(&p->scratchpad);
  if (size > 0) {
    void *room = own_scratchpad(size);
    if (!room) {
      status = dnnl_out_of_memory;
      goto done;
    }
    TRY(api_memory(&scratchpad, &p->scratchpad, engine, room));
  }
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, memory_a},
                                 {DNNL_ARG_WEIGHTS, memory_b},
                                 {DNNL_ARG_DST, memory_c},
                                 {DNNL_ARG_SCRATCHPAD, scratchpad}};
  TRY(dnnl_primitive_execute(p->primitive, stream, scratchpad ? 4 : 3, arguments));
  TRY(dnnl_stream_wait(stream));
done:
  if (memory_a) dnnl_memory_destroy(memory_a);
  if (memory_b) dnnl_memory_destroy(memory_b);
  if (memory_c) dnnl_memory_destroy(memory_c);
  if (scratchpad) dnnl_memory_destroy(scratchpad);
  return status;
}

// MARK: Products

typedef struct {
  const product *whole, *rest;  // a full tile's product and the last, smaller one's
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
  const product *p = (task + 1) * job->tile <= job->total ? job->whole : job->rest;
  dnnl_status_t status =
      execute(p, job->a + i * job->a_step, job->b + i * job->b_step, job->c + i * job->c_step);
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
static int run_by_rows(product_key key, const api_layout *packed, const void *a, const void *b, void *c) {
  size_t operand = sl_dtype_size(key.operand_type);
  int64_t m = key.m, tile = tile_rows(m, (size_t)key.k * (size_t)key.n * operand);
  tiled job = {.tile = tile, .total = m, .a = a, .b = b, .c = c};
  job.a_step = (size_t)(tile * (key.transpose_a ? 1 : key.lda)) * operand;
  job.c_step = (size_t)(tile * key.ldc) * sl_dtype_size(key.c_type);
  dnnl_status_t status = dnnl_success;
  if (m >= tile) {
    key.m = tile;
    TRY(product_for(&key, packed, (product **)&job.whole));
  }
  if (m % tile) {
    key.m = m % tile;
    TRY(product_for(&key, packed, (product **)&job.rest));
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
static int run_by_depth(product_key key, const void *a, const void *b, float *c) {
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
  TRY(product_for(&key, NULL, (product **)&job.whole));
  if (k % depth) {
    key.k = k % depth;
    TRY(product_for(&key, NULL, (product **)&job.rest));
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
  product_key key;
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
  pthread_mutex_lock(&turn);
  status = start();
  if (status == dnnl_success) status = by_depth ? run_by_depth(key, a, b, c) : run_by_rows(key, NULL, a, b, c);
  pthread_mutex_unlock(&turn);
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
  product_key key;
  memset(&key, 0, sizeof key);
  key.m = m, key.n = b->n, key.k = b->k, key.lda = lda, key.ldc = ldc, key.packed = 1;
  key.operand_type = b->dtype, key.c_type = c_type, key.accumulate = accumulate != 0;
  if (m == 1 && b->blocks.n_block > 0) {
    sl_matvec(&b->blocks, b->dtype, a, b->values, c, c_type, accumulate);
    return 0;
  }
  if (b->in_strips && m == 1) {
    sl_linear_part part = {.w = b, .y = c, .y_type = c_type};
    return sl_blocks_linear(b->dtype, a, b->k, 1, &part, accumulate) == 0 ? 0 : dnnl_out_of_memory;
  }
  if (b->in_strips && !sl_linear_is_fused(b)) return multiply_strips(m, a, lda, b, c, c_type, ldc, accumulate);
  if (b->in_panels || b->in_strips) {
    sl_linear_part part = {.w = b, .y = c, .y_type = c_type, .ldy = ldc};
    return sl_linear_forward(m, a, lda, b->k, 1, &part, accumulate, NULL, 0) == 0 ? 0 : dnnl_out_of_memory;
  }
  pthread_mutex_lock(&turn);
  dnnl_status_t status = start();
  if (status == dnnl_success) status = run_by_rows(key, &b->layout, a, b->values, c);
  pthread_mutex_unlock(&turn);
  return status;
}

// MARK: Packing

/// The layout as `sl_matvec` knows it; n_block is 0 for one that it does not read.
static sl_block_layout blocks_of(const sl_packed_matrix *packed) {
  sl_block_layout none = {0}, l = {.k = packed->k, .n = packed->n, .k_block = 1, .n_block = 1, .pair = 1};
  api_blocks found;
  if (!api_query_blocks(&found, &packed->layout)) return none;
  l.k_stride = found.strides[0], l.n_stride = found.strides[1];
  // Outermost first: [k_block / pair] along k, then n_block along n, then perhaps a pair along k.
  if (found.count == 2 || found.count == 3) {
    if (found.dimensions[0] != 0 || found.dimensions[1] != 1) return none;
    if (found.count == 3 && found.dimensions[2] != 0) return none;
    l.pair = found.count == 3 ? found.sizes[2] : 1;
    l.k_block = found.sizes[0] * l.pair, l.n_block = found.sizes[1];
  } else if (found.count == 1 && found.dimensions[0] == 1) {
    l.n_block = found.sizes[0];
  } else if (found.count != 0) {
    return none;
  }
  return sl_matvec_reads(&l, packed->dtype) ? l : none;
}

const uint32_t *sl_packed_panels(const sl_packed_matrix *packed) {
  return packed != NULL && packed->in_panels ? packed->values : NULL;
}
const sl_strips *sl_packed_strips(const sl_packed_matrix *packed) {
  return packed != NULL && packed->in_strips ? &packed->strips : NULL;
}
int sl_is_in_blocks(const sl_packed_matrix *packed) { return packed != NULL && packed->in_strips; }
sl_dtype sl_packed_type(const sl_packed_matrix *packed) { return packed->dtype; }
int64_t sl_packed_rows(const sl_packed_matrix *packed) { return packed->k; }
int64_t sl_packed_columns(const sl_packed_matrix *packed) { return packed->n; }

typedef struct {
  const sl_packed_matrix *packed;
  const uint16_t *source;
  int64_t ld;
  int transposed;
} panel_job;

static void pack_panel(void *context, int64_t panel, int thread) {
  const panel_job *job = context;
  (void)thread;
  sl_pack_panel(job->packed->k, job->packed->n, job->source, job->ld, job->transposed, panel, job->packed->values);
}

static sl_block_layout panel_blocks(int64_t k, int64_t n) {
  return (sl_block_layout){.k = k, .n = n, .k_block = k, .n_block = panel_columns, .pair = 2,
                           .n_stride = panel_columns * k};
}

static int pack_in_panels(int64_t k, int64_t n, const void *source, int64_t ld, int transposed,
                          sl_packed_matrix **packed) {
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return dnnl_out_of_memory;
  result->in_panels = 1, result->dtype = SL_BF16, result->k = k, result->n = n;
  result->size = (size_t)sl_panel_units(k, n) * sizeof(uint32_t);
  result->blocks = panel_blocks(k, n);
  result->values = slab_allocate(result->size, &result->owner);
  if (!result->values) {
    sl_packed_matrix_destroy(result);
    return dnnl_out_of_memory;
  }
  panel_job job = {result, source, ld, transposed};
  sl_parallel(sl_panel_count(n), pack_panel, &job);
  *packed = result;
  return dnnl_success;
}

typedef struct {
  const sl_packed_matrix *packed;
  const void *const *rows;
  _Atomic int status;
} strips_job;

static void pack_strip(void *context, int64_t strip, int thread) {
  strips_job *job = context;
  (void)thread;
  const sl_strips *s = &job->packed->strips;
  int status = sl_strip_pack(s, job->rows, strip, (uint8_t *)job->packed->values + strip * strip_bytes(s->format, s->k));
  if (status != 0) job->status = status;
}

int sl_pack_blocks(sl_dtype dtype, sl_block_format format, int64_t k, int64_t n, const void *const *rows,
                   sl_packed_matrix **packed) {
  if (k <= 0 || n <= 0 || k % strip_group(format) != 0) return dnnl_invalid_arguments;
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return dnnl_out_of_memory;
  result->in_strips = 1, result->dtype = dtype, result->k = k, result->n = n;
  result->size = (size_t)(strip_count(n) * strip_bytes(format, k));
  result->values = slab_allocate(result->size, &result->owner);
  result->strips = (sl_strips){format, k, n, result->values};
  strips_job job = {result, rows, 0};
  if (result->values) sl_parallel(strip_count(n), pack_strip, &job);
  int status = result->values ? job.status : dnnl_out_of_memory;
  if (status != 0) sl_packed_matrix_destroy(result);
  else *packed = result;
  return status;
}

size_t sl_nf4_packed_size(int64_t k, int64_t n) { return (size_t)sl_panel_units(k, n) * sizeof(uint32_t); }

sl_packed_matrix *sl_nf4_packed(int64_t k, int64_t n, void *values) {
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return NULL;
  result->in_panels = 1, result->dtype = SL_BF16, result->k = k, result->n = n;
  result->size = sl_nf4_packed_size(k, n);
  result->blocks = panel_blocks(k, n);
  result->values = values;
  return result;
}

int sl_pack_matrix(sl_dtype dtype, int64_t k, int64_t n, const void *source, int64_t ld, int transposed,
                   sl_packed_matrix **packed) {
  if (dtype == SL_BF16 && k % 2 == 0 && sl_uses_panels()) return pack_in_panels(k, n, source, ld, transposed, packed);
  pthread_mutex_lock(&turn);
  dnnl_status_t status = start();
  pthread_mutex_unlock(&turn);
  if (status != dnnl_success) return status;
  // The layout is asked for at a typical number of rows and then used for every number.
  const int64_t typical_rows = 512;
  api_layout a, b, c, plain;
  memset(&a, 0, sizeof a), memset(&b, 0, sizeof b), memset(&c, 0, sizeof c), memset(&plain, 0, sizeof plain);
  dnnl_primitive_desc_t description = NULL, reorder_description = NULL;
  dnnl_primitive_t reorder = NULL;
  dnnl_memory_t from = NULL, to = NULL;
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return dnnl_out_of_memory;
  result->dtype = dtype, result->k = k, result->n = n;
  dnnl_data_type_t type = type_of(dtype);
  dnnl_dims_t b_dims = {k, n};
  TRY(matrix_layout(&a, typical_rows, k, k, 0, type));
  TRY(api_any(&b, b_dims, type));
  TRY(matrix_layout(&c, typical_rows, n, n, 0, type));
  TRY(describe(&description, &a, &b, &c, 0));
  TRY(api_queried(&result->layout, description, dnnl_query_weights_md));
  TRY(matrix_layout(&plain, k, n, ld, transposed, type));
  result->size = api_layout_size(&result->layout);
  result->values = slab_allocate(result->size, &result->owner);
  if (!result->values) {
    status = dnnl_out_of_memory;
    goto done;
  }
  TRY(api_reorder(&reorder_description, &plain, &result->layout, engine));
  TRY(dnnl_primitive_create(&reorder, reorder_description));
  TRY(api_memory(&from, &plain, engine, (void *)source));
  TRY(api_memory(&to, &result->layout, engine, result->values));
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  dnnl_stream_t stream = own_stream();
  if (!stream) {
    status = dnnl_runtime_error;
    goto done;
  }
  TRY(dnnl_primitive_execute(reorder, stream, 2, arguments));
  TRY(dnnl_stream_wait(stream));
  result->blocks = blocks_of(result);
  *packed = result;
  result = NULL;
done:
  if (from) dnnl_memory_destroy(from);
  if (to) dnnl_memory_destroy(to);
  if (reorder) dnnl_primitive_destroy(reorder);
  if (reorder_description) dnnl_primitive_desc_destroy(reorder_description);
  if (description) dnnl_primitive_desc_destroy(description);
  api_layout_free(&a), api_layout_free(&b), api_layout_free(&c), api_layout_free(&plain);
  sl_packed_matrix_destroy(result);
  return status;
}

void sl_packed_matrix_destroy(sl_packed_matrix *packed) {
  if (!packed) return;
  if (!packed->in_panels && !packed->in_strips) api_layout_free(&packed->layout);
  slab_release(packed->owner);
  free(packed);
}

size_t sl_packed_matrix_size(const sl_packed_matrix *packed) { return packed->size; }

// MARK: Names

const char *sl_matmul_error(int status) {
  switch (status) {
    case dnnl_success: return "success";
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "not offered by this oneDNN on this CPU";
    case dnnl_runtime_error: return "run-time error";
    default: return "unknown error";
  }
}

const char *sl_matmul_library(void) {
  static char name[128];
  if (!name[0]) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
  }
  return name;
}
