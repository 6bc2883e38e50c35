// Attention backward (Dao, 2023), without atomics: one kernel for dk and dv, which computes the scores transposed, and one
// for dq. Seven products instead of five, but no sum depends on the order in which blocks run, and the query heads of a
// group add up in the registers of the block that owns their key head.
#include "attention.cuh"

enum { owned = 64, other = 32 };  // rows that a block owns, 16 to a warp, and rows that pass by at a time

/// delta[h, row] = Σ dO · O. One warp per row and head; grid: x over rows / 4, y over heads.
KERNEL(128, 1) attention_delta(i64 rows, const u16 *output, i64 ldo, const u16 *gradient, i64 ldg, float *delta, int d) {
  i64 row = (i64)blockIdx.x * 4 + threadIdx.x / 32;
  if (row >= rows) return;
  const u16 *o = output + row * ldo + (i64)blockIdx.y * d, *g = gradient + row * ldg + (i64)blockIdx.y * d;
  float sum = 0;
  for (int i = threadIdx.x % 32; i < d; i += 32) sum += widen(o[i]) * widen(g[i]);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) delta[(i64)blockIdx.y * rows + row] = sum;
}

/// tiles: {first row of k and v, rows, first row of q, queries, the first query that sees the tile's first key (negative:
/// before the first), 0, 0, 0} each; longest first. Grid: x over tiles, y over key heads.
template <int D>
DEVICE void keys_and_values(const int4 *tiles, const u16 *q, i64 ldq, const u16 *k, i64 ldk, const u16 *v, i64 ldv,
                            const u16 *dout, i64 lddo, const float *lse, i64 lse_stride, const float *delta,
                            i64 delta_stride, u16 *dk, i64 lddk, u16 *dv, i64 lddv, int group, int d, int window,
                            float scale, int aligned) {
  DYNAMIC_SHARED(memory);
  u16 *key_tile = (u16 *)memory, *value_tile = key_tile + owned * PITCH(D);
  u16 *query_tiles = value_tile + owned * PITCH(D), *gradient_tiles = query_tiles + 2 * other * PITCH(D);
  float *statistics = (float *)(gradient_tiles + 2 * other * PITCH(D));  // [2][lse, delta][other]
  int4 tile = tiles[2 * blockIdx.x];
  int diagonal = tiles[2 * blockIdx.x + 1].x, count = tile.w, rows = tile.y;
  int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  load_tile<owned, D>(key_tile, k + tile.x * ldk + (i64)blockIdx.y * d, ldk, rows, d, aligned);
  load_tile<owned, D>(value_tile, v + tile.x * ldv + (i64)blockIdx.y * d, ldv, rows, d, aligned);

  // Query i sees key j of the tile where diagonal + j <= i < diagonal + j + window.
  int first = diagonal > 0 ? diagonal / other : 0, end = count;
  if (window > 0 && diagonal + rows - 1 + window < end) end = diagonal + rows - 1 + window;
  int blocks = end > first * other ? (end + other - 1) / other - first : 0, steps = blocks * group;
  float key_gradient[D / 8][4] = {}, value_gradient[D / 8][4] = {};
  float factor = scale * LOG2_E;
  // Step s reads block s % blocks of head s / blocks of the group; its tiles start on their way one step before.
  int head = blockIdx.y * group, next = first;
  for (int step = -1; step < steps; step++) {
    if (step + 1 < steps) {
      int at = next * other, stage = (step + 1) % 2;
      i64 row = (i64)tile.z + at;
      load_tile<other, D>(query_tiles + stage * other * PITCH(D), q + row * ldq + (i64)head * d, ldq, count - at, d, aligned);
      load_tile<other, D>(gradient_tiles + stage * other * PITCH(D), dout + row * lddo + (i64)head * d, lddo, count - at, d,
                          aligned);
      if (threadIdx.x < other) {
        bool inside = at + (int)threadIdx.x < count;
        float *room = statistics + stage * 2 * other + threadIdx.x;
        room[0] = inside ? lse[head * lse_stride + row + threadIdx.x] * LOG2_E : 0.0f;
        room[other] = inside ? delta[head * delta_stride + row + threadIdx.x] : 0.0f;
      }
      if (++next == first + blocks) next = first, head++;
    }
    commit_copies();
    if (step < 0) continue;
    wait_copies<1>();
    __syncthreads();
    const u16 *query = query_tiles + step % 2 * other * PITCH(D), *gradient = gradient_tiles + step % 2 * other * PITCH(D);
    const float *row_lse = statistics + step % 2 * 2 * other, *row_delta = row_lse + other;
    int at = (first + step % blocks) * other;
    // Rows are keys, columns are queries.
    float x[other / 8][4] = {};
    multiply_rows_transposed<other, D>(x, key_tile + warp * 16 * PITCH(D), query);
#pragma unroll
    for (int n = 0; n < other / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int column = n * 8 + t * 2 + i % 2, row = at + column, begin = diagonal + warp * 16 + g + i / 2 * 8;
        bool seen = row >= begin && row < count && (window == 0 || row < begin + window);
        x[n][i] = seen ? power2(x[n][i] * factor - row_lse[column]) : 0.0f;
      }
    }
    u32 probability[other / 16][4], operand[other / 16][4];
    narrow_fragments<other>(probability, x);
    multiply<other, D>(value_gradient, probability, gradient);
    // From here on probabilities are kept as the operand that they were: registers are short.
#pragma unroll
    for (int n = 0; n < other / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) x[n][i] = 0.0f;
    }
    multiply_rows_transposed<other, D>(x, value_tile + warp * 16 * PITCH(D), gradient);
#pragma unroll
    for (int n = 0; n < other / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        u32 pair = probability[n / 2][n % 2 * 2 + i / 2];
        x[n][i] = widen((u16)(pair >> i % 2 * 16)) * (x[n][i] - row_delta[n * 8 + t * 2 + i % 2]);
      }
    }
    narrow_fragments<other>(operand, x);
    multiply<other, D>(key_gradient, operand, query);
    __syncthreads();
  }
  wait_copies<0>();
  i64 row = tile.x + warp * 16;
  store_rows<D>(key_gradient, dk + row * lddk + (i64)blockIdx.y * d, lddk, rows - warp * 16, d, scale, scale, aligned);
  store_rows<D>(value_gradient, dv + row * lddv + (i64)blockIdx.y * d, lddv, rows - warp * 16, d, 1.0f, 1.0f, aligned);
}

/// tiles: as in the forward pass. Grid: x over tiles, y over heads.
template <int D>
DEVICE void queries(const int4 *tiles, const u16 *q, i64 ldq, const u16 *k, i64 ldk, const u16 *v, i64 ldv, const u16 *dout,
                    i64 lddo, const float *lse, i64 lse_stride, const float *delta, i64 delta_stride, u16 *dq, i64 lddq,
                    int group, int d, int window, float scale, int aligned) {
  DYNAMIC_SHARED(memory);
  u16 *key_tiles = (u16 *)memory, *value_tiles = key_tiles + 2 * other * PITCH(D);
  int4 tile = tiles[blockIdx.x];
  int head = blockIdx.y, rows = tile.y, seen = tile.w, count = seen + rows - 1;
  int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  k += tile.z * ldk + (i64)(head / group) * d;
  v += tile.z * ldv + (i64)(head / group) * d;

  // Queries and output gradients pass through shared memory into registers.
  u32 query[D / 16][4], gradient[D / 16][4];
  load_tile<owned, D>(key_tiles, q + tile.x * ldq + (i64)head * d, ldq, rows, d, aligned);
  load_tile<owned, D>(value_tiles, dout + tile.x * lddo + (i64)head * d, lddo, rows, d, aligned);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  load_rows<D>(query, key_tiles + warp * 16 * PITCH(D));
  load_rows<D>(gradient, value_tiles + warp * 16 * PITCH(D));
  __syncthreads();
  float row_lse[2], row_delta[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = warp * 16 + g + half * 8;
    row_lse[half] = row < rows ? lse[head * lse_stride + tile.x + row] * LOG2_E : 0.0f;
    row_delta[half] = row < rows ? delta[head * delta_stride + tile.x + row] : 0.0f;
  }

  float query_gradient[D / 8][4] = {};
  int first = window > 0 && seen > window ? (seen - window) / other : 0, last = (count + other - 1) / other;
  load_tile<other, D>(key_tiles, k + (i64)first * other * ldk, ldk, count - first * other, d, aligned);
  load_tile<other, D>(value_tiles, v + (i64)first * other * ldv, ldv, count - first * other, d, aligned);
  commit_copies();
  float factor = scale * LOG2_E;
  for (int block = first; block < last; block++) {
    int stage = (block - first) % 2;
    if (block + 1 < last) {
      int next = (block + 1) * other;
      load_tile<other, D>(key_tiles + (1 - stage) * other * PITCH(D), k + next * ldk, ldk, count - next, d, aligned);
      load_tile<other, D>(value_tiles + (1 - stage) * other * PITCH(D), v + next * ldv, ldv, count - next, d, aligned);
    }
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const u16 *key = key_tiles + stage * other * PITCH(D), *value = value_tiles + stage * other * PITCH(D);
    float p[other / 8][4] = {}, dp[other / 8][4] = {};
    multiply_transposed<other, D>(p, query, key);
    multiply_transposed<other, D>(dp, gradient, value);
#pragma unroll
    for (int n = 0; n < other / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int column = block * other + n * 8 + t * 2 + i % 2, end = seen + warp * 16 + g + i / 2 * 8;
        bool visible = column < end && column < count && (window == 0 || column >= end - window);
        float probability = visible ? power2(p[n][i] * factor - row_lse[i / 2]) : 0.0f;
        dp[n][i] = probability * (dp[n][i] - row_delta[i / 2]);
      }
    }
    u32 operand[other / 16][4];
    narrow_fragments<other>(operand, dp);
    multiply<other, D>(query_gradient, operand, key);
    __syncthreads();
  }
  wait_copies<0>();
  store_rows<D>(query_gradient, dq + (i64)(tile.x + warp * 16) * lddq + (i64)head * d, lddq, rows - warp * 16, d, scale,
                scale, aligned);
}

#define ATTENTION(D)                                                                                                      \
  KERNEL(128, 2) attention_keys_values_##D(                                                                               \
      const int4 *tiles, const u16 *q, i64 ldq, const u16 *k, i64 ldk, const u16 *v, i64 ldv, const u16 *dout, i64 lddo,  \
      const float *lse, i64 lse_stride, const float *delta, i64 delta_stride, u16 *dk, i64 lddk, u16 *dv, i64 lddv,       \
      int group, int d, int window, float scale, int aligned) {                                                           \
    keys_and_values<D>(tiles, q, ldq, k, ldk, v, ldv, dout, lddo, lse, lse_stride, delta, delta_stride, dk, lddk, dv,     \
                       lddv, group, d, window, scale, aligned);                                                           \
  }                                                                                                                       \
  KERNEL(128, 2) attention_queries_##D(const int4 *tiles, const u16 *q, i64 ldq, const u16 *k, i64 ldk, const u16 *v,     \
                                       i64 ldv, const u16 *dout, i64 lddo, const float *lse, i64 lse_stride,              \
                                       const float *delta, i64 delta_stride, u16 *dq, i64 lddq, int group, int d,         \
                                       int window, float scale, int aligned) {                                            \
    queries<D>(tiles, q, ldq, k, ldk, v, ldv, dout, lddo, lse, lse_stride, delta, delta_stride, dq, lddq, group, d,       \
               window, scale, aligned);                                                                                   \
  }
ATTENTION(64)
ATTENTION(96)
ATTENTION(128)
