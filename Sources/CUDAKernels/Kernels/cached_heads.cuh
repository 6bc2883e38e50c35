// What attention of new tokens over a cache in pages works on: its arguments, heads made ready, features as they are stored.
#pragma once
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
  /// Whether every multiprocessor gets one block, so that the next kernel's may begin at once.
  i64 uniform;
};

/// What turns the head's elements lane, lane + 32, …, which is known before the head is; nothing where it does not turn.
template <int D> struct Turn {
  float cosine[D / 32], sine[D / 32];
};
template <int D> DEVICE void load_turn(const CachedAttention &p, bool turns, i64 position, Turn<D> &turn) {
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    int half = (int)p.half, at = (int)threadIdx.x % 32 + 32 * i, pair = at < half ? at : at - half;
    turn.cosine[i] = 1, turn.sine[i] = 0;
    if (turns && p.cosines != 0 && at < 2 * half)
      turn.cosine[i] = p.cosines[position * half + pair], turn.sine[i] = p.sines[position * half + pair];
  }
}

/// The head's elements lane, lane + 32, …, with their bias, norm and rotation; `room`: D floats of the warp's own.
template <int D>
DEVICE void prepare_head(const CachedAttention &p, const u16 *x, const float *bias, const float *gamma, const Turn<D> &turn,
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
#pragma unroll
  for (int i = 0; i < D / 32; i++) room[lane + 32 * i] = result[i];
  __syncwarp();
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    int at = lane + 32 * i;
    if (at >= 2 * half) continue;
    float c = turn.cosine[i], s = turn.sine[i];
    result[i] = at < half ? room[at] * c - room[at + half] * s : room[at] * c + room[at - half] * s;
  }
}

/// Four features of a cached key or value, of which there are fewer or which lie anyhow, one by one.
DEVICE uint2 load_features(const u16 *p, int n) {
  u32 e[4];
#pragma unroll
  for (int i = 0; i < 4; i++) e[i] = i < n ? p[i] : 0;
  return make_uint2(e[0] | e[1] << 16, e[2] | e[3] << 16);
}
DEVICE void widen_features(float (&f)[4], uint2 x) {
  f[0] = widen((u16)x.x), f[1] = widen((u16)(x.x >> 16)), f[2] = widen((u16)x.y), f[3] = widen((u16)(x.y >> 16));
}
