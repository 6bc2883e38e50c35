// Attention forward (Dao, 2023): softmax(scale · q kᵀ) v within documents, causal, never forming a matrix of scores.
#include "attention.cuh"

// A block of 4 warps takes 64 queries of one head, 16 to a warp, and passes over their keys 64 at a time, keys and values
// two tiles deep in shared memory. Scores, probabilities and the output stay in registers. Grid: x over tiles, longest
// first; y over heads.
enum { queries = 64, keys = 64 };

/// tiles: {first row of q, rows, first row of k and v, keys that the first query sees} each. q rows [heads, d] at ldq; k, v
/// rows [heads / group, d]; o like q; lse fp32 [heads, lse_stride], or null. window 0: none. pages: where the 64 keys of each of a
/// single document's tiles lie, at key_offset and value_offset elements, in place of k and v; null where those are whole.
template <int D>
DEVICE void attention(const int4 *tiles, const u16 *q, i64 ldq, const u16 *k, i64 ldk, const u16 *v, i64 ldv, u16 *o, i64 ldo,
                      float *lse, i64 lse_stride, int group, int d, int window, float scale, int aligned, const u64 *pages,
                      i64 key_offset, i64 value_offset) {
  DYNAMIC_SHARED(memory);
  u16 *key_tiles = (u16 *)memory, *value_tiles = key_tiles + 2 * keys * PITCH(D);
  int4 tile = tiles[blockIdx.x];
  int head = blockIdx.y, rows = tile.y, seen = tile.w, count = seen + rows - 1;  // keys that the last query sees
  q += tile.x * ldq + (i64)head * d;
  k += tile.z * ldk + (i64)(head / group) * d;
  v += tile.z * ldv + (i64)(head / group) * d;
  auto key_tile = [&](int block) {
    return pages == 0 ? k + (i64)block * keys * ldk : (const u16 *)pages[block] + key_offset + (i64)(head / group) * d;
  };
  auto value_tile = [&](int block) {
    return pages == 0 ? v + (i64)block * keys * ldv : (const u16 *)pages[block] + value_offset + (i64)(head / group) * d;
  };
  int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;

  // The queries pass through the first tile's place into registers.
  load_tile<queries, D>(key_tiles, q, ldq, rows, d, aligned);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  u32 query[D / 16][4];
  load_rows<D>(query, key_tiles + warp * 16 * PITCH(D));
  __syncthreads();

  float output[D / 8][4] = {}, highest[2] = {-INFINITE, -INFINITE}, sum[2] = {};
  int first = window > 0 && seen > window ? (seen - window) / keys : 0, last = (count + keys - 1) / keys;
  load_tile<keys, D>(key_tiles, key_tile(first), ldk, count - first * keys, d, aligned);
  load_tile<keys, D>(value_tiles, value_tile(first), ldv, count - first * keys, d, aligned);
  commit_copies();
  float factor = scale * LOG2_E;
  for (int block = first; block < last; block++) {
    int stage = (block - first) % 2;
    if (block + 1 < last) {
      int next = (block + 1) * keys;
      load_tile<keys, D>(key_tiles + (1 - stage) * keys * PITCH(D), key_tile(block + 1), ldk, count - next, d, aligned);
      load_tile<keys, D>(value_tiles + (1 - stage) * keys * PITCH(D), value_tile(block + 1), ldv, count - next, d, aligned);
    }
    commit_copies();
    wait_copies<1>();
    __syncthreads();

    float score[keys / 8][4] = {};
    multiply_transposed<keys, D>(score, query, key_tiles + stage * keys * PITCH(D));
    // Row i sees keys [seen + i - window, seen + i).
    int base = block * keys, low = seen + warp * 16 + g;
    bool cut = base + keys > seen || (window > 0 && base < count - window);
    float top[2] = {highest[0], highest[1]};
#pragma unroll
    for (int n = 0; n < keys / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int column = base + n * 8 + t * 2 + i % 2, end = low + i / 2 * 8;
        score[n][i] *= factor;
        if (cut && (column >= end || (window > 0 && column < end - window))) score[n][i] = -INFINITE;
        top[i / 2] = fmaxf(top[i / 2], score[n][i]);
      }
    }
    float shift[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      top[half] = fmaxf(top[half], __shfl_xor_sync(0xffffffffu, top[half], 1));
      top[half] = fmaxf(top[half], __shfl_xor_sync(0xffffffffu, top[half], 2));
      // Rows that have seen no key yet have no maximum to subtract.
      shift[half] = top[half] == -INFINITE ? 0.0f : top[half];
      float shrink = power2(highest[half] - shift[half]);
      highest[half] = top[half];
      sum[half] *= shrink;
#pragma unroll
      for (int n = 0; n < D / 8; n++) output[n][half * 2] *= shrink, output[n][half * 2 + 1] *= shrink;
    }
#pragma unroll
    for (int n = 0; n < keys / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        score[n][i] = power2(score[n][i] - shift[i / 2]);
        sum[i / 2] += score[n][i];
      }
    }
    u32 probability[keys / 16][4];
    narrow_fragments<keys>(probability, score);
    multiply<keys, D>(output, probability, value_tiles + stage * keys * PITCH(D));
    __syncthreads();
  }

#pragma unroll
  for (int half = 0; half < 2; half++) {
    sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
    sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
    int row = warp * 16 + g + half * 8;
    if (lse != 0 && t == 0 && row < rows)
      lse[head * lse_stride + tile.x + row] = highest[half] * LN_2 + logf(sum[half]);
  }
  store_rows<D>(output, o + (i64)(tile.x + warp * 16) * ldo + (i64)head * d, ldo, rows - warp * 16, d,
                sum[0] > 0.0f ? 1.0f / sum[0] : 0.0f, sum[1] > 0.0f ? 1.0f / sum[1] : 0.0f, aligned);
}

#define ATTENTION(D)                                                                                                     \
  KERNEL(128, 2) attention_forward_##D(const int4 *tiles, const u16 *q, i64 ldq, const u16 *k, i64 ldk, const u16 *v,    \
                                       i64 ldv, u16 *o, i64 ldo, float *lse, i64 lse_stride, int group, int d,           \
                                       int window, float scale, int aligned, const u64 *pages, i64 key_offset,           \
                                       i64 value_offset) {                                                               \
    attention<D>(tiles, q, ldq, k, ldk, v, ldv, o, ldo, lse, lse_stride, group, d, window, scale, aligned, pages,        \
                 key_offset, value_offset);                                                                              \
  }
ATTENTION(64)
ATTENTION(96)
ATTENTION(128)
