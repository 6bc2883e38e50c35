// Attention of one new token for each sequence over a cache in pages (Dao et al., "Flash-Decoding", 2023): keys are divided among
// blocks, whose results the last of them merges. The token's own query and key are turned here, and its key and value written
// to the cache.
#include "prelude.cuh"

enum { page_tokens = 64, warps = 8, threads = 32 * warps };

/// All fields take eight bytes.
struct CachedAttention {
  /// What the projections gave: bf16, a row per sequence.
  const u16 *q, *k, *v;
  i64 ldq, ldk, ldv;
  /// bf16 [rows, heads · d].
  u16 *output;
  i64 ldo;
  /// Biases: fp32 [heads · d] each, and γ of heads' norms, fp32 [d]; null where there are none.
  const float *bias_q, *bias_k, *bias_v, *gamma_q, *gamma_k;
  /// Angles by position: fp32 [·, half]; null where nothing turns.
  const float *cosines, *sines;
  i64 half;
  /// By row: how many tokens came before, negative where there is no sequence, and the list of its pages' addresses.
  const int *positions;
  const u64 *const *pages;
  /// Where a layer's keys and values begin in a page, and elements from one token to the next, all in elements.
  i64 key_offset, value_offset, width;
  i64 heads, key_heads, d, window, splits;
  /// By row, head and split: highest score, sum, and D sums of values; by row and block of heads: how many splits are done.
  float *partial;
  int *done;
  double scale, epsilon;
};

/// The head's elements lane, lane + 32, …, with their bias, norm and rotation; `room`: D floats of the warp's own.
template <int D>
DEVICE void prepare_head(const CachedAttention &p, const u16 *x, const float *bias, const float *gamma, bool turns, i64 position,
                         float *room, float (&result)[D / 32]) {
  int lane = (int)threadIdx.x % 32, d = (int)p.d, half = (int)p.half;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    int at = lane + 32 * i;
    float value = at < d ? widen(x[at]) + (bias != 0 ? bias[at] : 0.0f) : 0.0f;
    result[i] = value;
    sum += value * value;
  }
  if (gamma != 0) {
    float r = 1.0f / sqrtf(warp_sum(sum) / (float)d + (float)p.epsilon);
#pragma unroll
    for (int i = 0; i < D / 32; i++)
      if (lane + 32 * i < d) result[i] *= r * gamma[lane + 32 * i];
  }
  if (!turns || p.cosines == 0) return;
#pragma unroll
  for (int i = 0; i < D / 32; i++) room[lane + 32 * i] = result[i];
  __syncwarp();
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    int at = lane + 32 * i;
    if (at >= 2 * half) continue;
    int pair = at < half ? at : at - half;
    float c = p.cosines[position * half + pair], s = p.sines[position * half + pair];
    result[i] = at < half ? room[pair] * c - room[pair + half] * s : room[pair + half] * c + room[pair] * s;
  }
  __syncwarp();
}

/// Four features of a cached key or value.
DEVICE uint2 load_features(const u16 *p, int n, int aligned) {
  if (n <= 0) return make_uint2(0, 0);
  if (aligned && n >= 4) return *(const uint2 *)p;
  u32 e[4];
#pragma unroll
  for (int i = 0; i < 4; i++) e[i] = i < n ? p[i] : 0;
  return make_uint2(e[0] | e[1] << 16, e[2] | e[3] << 16);
}
DEVICE void widen_features(float (&f)[4], uint2 x) {
  f[0] = widen((u16)x.x), f[1] = widen((u16)(x.x >> 16)), f[2] = widen((u16)x.y), f[3] = widen((u16)(x.y >> 16));
}

/// A block of 8 warps takes up to H query heads of one key head and a share of the keys, 32 at a time: eight lanes to a key,
/// each with every eighth group of four features. A group of eight lanes keeps a softmax of its own; they are merged at the
/// end. Grid: x over splits, blocks of heads and key heads; y over rows.
template <int D, int H> DEVICE void attend(const CachedAttention &p) {
  enum { chunks = D / 32 };
  __shared__ float query[H][D], heads_room[warps][D], tops[warps][H], sums[warps][H], values[warps][H][D], factors[H][64];
  __shared__ int is_last;
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, d = (int)p.d, splits = (int)p.splits;
  int group = (int)(p.heads / p.key_heads), blocks = (group + H - 1) / H;
  int split = (int)blockIdx.x % splits, head_block = (int)blockIdx.x / splits, key_head = head_block / blocks;
  int first_head = key_head * group + head_block % blocks * H;
  int heads = (key_head + 1) * group - first_head < H ? (key_head + 1) * group - first_head : H;
  i64 row = blockIdx.y;
  // Positions and pages were there before the step began: what the cache has of the share is on its way to the second cache
  // while the projections are still being computed.
  const u64 *pages = p.pages[row];
  // A thread asks for half a key or half a value of a token's head, 128 bytes at most.
  auto ask = [&](i64 page) {
    int feature = (int)threadIdx.x % 2 * 64;
    if (feature < d)
      prefetch_far((const u16 *)pages[page] + (threadIdx.x % 4 < 2 ? p.key_offset : p.value_offset) +
                   (i64)(threadIdx.x / 4) * p.width + (i64)key_head * d + feature);
  };
  i64 position = p.positions[row], count = position + 1;
  i64 first = p.window > 0 && count > p.window ? count - p.window : 0;
  i64 first_page = first / page_tokens, last_page = (count + page_tokens - 1) / page_tokens;
  i64 share = (last_page - first_page + splits - 1) / splits;
  int active = share > 0 ? (int)((last_page - first_page + share - 1) / share) : 0;
  i64 page = first_page + split * share, end = page + share < last_page ? page + share : last_page;
  for (i64 ahead = page; ahead < end && ahead < page + 4; ahead++)
    if (ahead * page_tokens + threadIdx.x / 4 < position) ask(ahead);
  wait_for_previous();
  let_next_begin();
  u16 *output = p.output + row * p.ldo + (i64)first_head * d;
  if (position < 0) {
    for (int i = (int)threadIdx.x; split == 0 && i < heads * d; i += threads) output[i] = 0;
    return;
  }
  if (split >= active) return;

  for (int item = warp; item < heads + (end == last_page ? 2 : 0); item += warps) {
    float e[D / 32];
    if (item < heads) {
      i64 head = first_head + item;
      prepare_head<D>(p, p.q + row * p.ldq + head * d, p.bias_q != 0 ? p.bias_q + head * d : 0, p.gamma_q, true, position,
                      heads_room[warp], e);
#pragma unroll
      for (int i = 0; i < D / 32; i++)
        query[item][lane + 32 * i] = widen(narrow(e[i])) * (float)p.scale * LOG2_E;
      continue;
    }
    bool is_key = item == heads;
    const float *bias = is_key ? p.bias_k : p.bias_v;
    prepare_head<D>(p, (is_key ? p.k + row * p.ldk : p.v + row * p.ldv) + (i64)key_head * d,
                    bias != 0 ? bias + (i64)key_head * d : 0, is_key ? p.gamma_k : 0, is_key, position, heads_room[warp], e);
    u16 *to = (u16 *)pages[position / page_tokens] + (is_key ? p.key_offset : p.value_offset) +
              position % page_tokens * p.width + (i64)key_head * d;
#pragma unroll
    for (int i = 0; i < D / 32; i++)
      if (lane + 32 * i < d) to[lane + 32 * i] = narrow(e[i]);
  }
  __syncthreads();

  float q[H][chunks * 4], sum_of[H][chunks * 4] = {}, top[H], sum[H];
  int key_lane = lane % 8, slot = warp * 4 + lane / 8, aligned = d % 4 == 0 && p.width % 4 == 0;
#pragma unroll
  for (int h = 0; h < H; h++) {
    top[h] = -INFINITE, sum[h] = 0;
#pragma unroll
    for (int i = 0; i < chunks * 4; i++) q[h][i] = h < heads ? query[h][i / 4 * 32 + key_lane * 4 + i % 4] : 0.0f;
  }
  for (; page < end; page++) {
    const u16 *base = (const u16 *)pages[page] + (i64)key_head * d + key_lane * 4;
#pragma unroll 2
    for (int at = 0; at < page_tokens; at += 4 * warps) {
      i64 key = page * page_tokens + at + slot;
      bool seen = key >= first && key < count;
      const u16 *token = base + (i64)(at + slot) * p.width;
      uint2 k[chunks], v[chunks];
#pragma unroll
      for (int c = 0; c < chunks; c++) {
        int n = seen ? d - c * 32 - key_lane * 4 : 0;
        k[c] = load_features(token + p.key_offset + c * 32, n, aligned);
        v[c] = load_features(token + p.value_offset + c * 32, n, aligned);
      }
      float score[H] = {};
#pragma unroll
      for (int c = 0; c < chunks; c++) {
        float f[4];
        widen_features(f, k[c]);
#pragma unroll
        for (int h = 0; h < H; h++)
#pragma unroll
          for (int i = 0; i < 4; i++) score[h] += q[h][c * 4 + i] * f[i];
      }
      float probability[H];
#pragma unroll
      for (int h = 0; h < H; h++) {
#pragma unroll
        for (int step = 4; step > 0; step /= 2) score[h] += __shfl_xor_sync(0xffffffffu, score[h], step);
        float next = seen ? fmaxf(top[h], score[h]) : top[h];
        float shrink = next == -INFINITE ? 0.0f : power2(top[h] - next);
        probability[h] = seen ? power2(score[h] - next) : 0.0f;
        top[h] = next;
        sum[h] = sum[h] * shrink + probability[h];
#pragma unroll
        for (int i = 0; i < chunks * 4; i++) sum_of[h][i] *= shrink;
      }
#pragma unroll
      for (int c = 0; c < chunks; c++) {
        float f[4];
        widen_features(f, v[c]);
#pragma unroll
        for (int h = 0; h < H; h++)
#pragma unroll
          for (int i = 0; i < 4; i++) sum_of[h][c * 4 + i] += probability[h] * f[i];
      }
    }
  }

  // The warp's four softmaxes become one, then the block's eight.
#pragma unroll
  for (int h = 0; h < H; h++) {
    float highest = fmaxf(top[h], __shfl_xor_sync(0xffffffffu, top[h], 8));
    highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 16));
    float factor = top[h] == -INFINITE ? 0.0f : power2(top[h] - highest), all = sum[h] * factor;
    all += __shfl_xor_sync(0xffffffffu, all, 8);
    all += __shfl_xor_sync(0xffffffffu, all, 16);
    if (lane == 0) tops[warp][h] = highest, sums[warp][h] = all;
#pragma unroll
    for (int i = 0; i < chunks * 4; i++) {
      float value = sum_of[h][i] * factor;
      value += __shfl_xor_sync(0xffffffffu, value, 8);
      value += __shfl_xor_sync(0xffffffffu, value, 16);
      if (lane < 8) values[warp][h][i / 4 * 32 + key_lane * 4 + i % 4] = value;
    }
  }
  __syncthreads();
  i64 stride = D + 2;
  float *partial = p.partial + ((row * p.heads + first_head) * splits + split) * stride;
  for (int i = (int)threadIdx.x; i < heads * D; i += threads) {
    int h = i / D, feature = i % D;
    float highest = -INFINITE, all = 0, value = 0;
#pragma unroll
    for (int w = 0; w < warps; w++) highest = fmaxf(highest, tops[w][h]);
#pragma unroll
    for (int w = 0; w < warps; w++) {
      float factor = tops[w][h] == -INFINITE ? 0.0f : power2(tops[w][h] - highest);
      all += sums[w][h] * factor, value += values[w][h][feature] * factor;
    }
    if (active == 1) {
      if (feature < d) output[h * d + feature] = narrow(all > 0.0f ? value / all : 0.0f);
      continue;
    }
    float *to = partial + h * splits * stride;
    if (feature == 0) to[0] = highest, to[1] = all;
    to[2 + feature] = value;
  }
  if (active == 1) return;

  // Whoever is done last merges, in the splits' order.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int *done = p.done + row * (p.key_heads * blocks) + head_block;
    is_last = atomicAdd(done, 1) == active - 1;
    if (is_last) *done = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  partial = p.partial + (row * p.heads + first_head) * splits * stride;
  for (int h = warp; h < heads; h += warps) {
    const float *from = partial + h * splits * stride;
    float highest = -INFINITE, all = 0;
    for (int s = lane; s < active; s += 32) highest = fmaxf(highest, load_fresh(from + s * stride));
    highest = warp_max(highest);
    for (int s = lane; s < active; s += 32) {
      float one = load_fresh(from + s * stride);
      factors[h][s] = one == -INFINITE ? 0.0f : power2(one - highest);
      all += load_fresh(from + s * stride + 1) * factors[h][s];
    }
    all = warp_sum(all);
    __syncwarp();
    for (int feature = lane; feature < d; feature += 32) {
      float value = 0;
      for (int s = 0; s < active; s++) value += load_fresh(from + s * stride + 2 + feature) * factors[h][s];
      output[h * d + feature] = narrow(all > 0.0f ? value / all : 0.0f);
    }
  }
}

#define ATTENTION(D)                                                                                              \
  KERNEL(threads, 2) attention_decode_##D##_1(const GRID_CONSTANT CachedAttention p) { attend<D, 1>(p); }         \
  KERNEL(threads, 1) attention_decode_##D##_2(const GRID_CONSTANT CachedAttention p) { attend<D, 2>(p); }         \
  KERNEL(threads, 1) attention_decode_##D##_4(const GRID_CONSTANT CachedAttention p) { attend<D, 4>(p); }
ATTENTION(64)
ATTENTION(96)
ATTENTION(128)

/// Keys and values of `count` tokens from `begin` on, bf16 [count, width] at ldk and ldv, to the pages of their sequence.
KERNEL(256, 1) cache_store(i64 count, i64 begin, i64 width, const u16 *k, i64 ldk, const u16 *v, i64 ldv, const u64 *pages,
                           i64 key_offset, i64 value_offset, int aligned) {
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < count; row += (i64)gridDim.y * blockDim.y) {
    u16 *page = (u16 *)pages[(begin + row) / page_tokens] + (begin + row) % page_tokens * width;
    for (i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8; at < width; at += (i64)gridDim.x * blockDim.x * 8) {
      store8(page + key_offset + at, load8(k + row * ldk + at, width - at, aligned), width - at, aligned);
      store8(page + value_offset + at, load8(v + row * ldv + at, width - at, aligned), width - at, aligned);
    }
  }
}
