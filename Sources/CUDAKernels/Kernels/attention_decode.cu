// Attention of one new token for each sequence over a cache in pages (Dao et al., "Flash-Decoding", 2023): keys are divided among
// blocks, whose results the last of them merges. The token's own query and key are turned here, and its key and value written
// to the cache.
#include "cached_heads.cuh"

/// A block of 8 warps takes up to H query heads of one key head and a share of the keys, 32 at a time: eight lanes to a key,
/// each with every eighth group of four features. A group of eight lanes keeps a softmax of its own; they are merged at the
/// end. Keys and values come by way of shared memory, `stages` times 32 of them at once, each lane's own to a place of its own.
/// Grid: x over splits, blocks of heads and key heads, and blocks that do nothing; y over rows.
template <int D, int H> DEVICE void attend(const CachedAttention &p) {
  enum { chunks = D / 32, stages = H > 2 ? 4 : 5, step_tokens = 4 * warps };
  __shared__ float query[H][D], heads_room[warps][D], tops[warps][H], sums[warps][H], values[warps][H][D];
  /// The new token's key and value.
  __shared__ uint2 fresh[2][D / 4];
  __shared__ int is_last;
  DYNAMIC_SHARED(memory);
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, d = (int)p.d, splits = (int)p.splits;
  int group = (int)(p.heads / p.key_heads), blocks = (group + H - 1) / H;
  int split = (int)blockIdx.x % splits, head_block = (int)blockIdx.x / splits, key_head = head_block / blocks;
  int first_head = key_head * group + head_block % blocks * H;
  int heads = (key_head + 1) * group - first_head < H ? (key_head + 1) * group - first_head : H;
  i64 row = blockIdx.y;
  bool is_uniform = p.uniform != 0;
  if (is_uniform) let_next_begin();
  if (key_head >= (int)p.key_heads) {
    // It holds its place on the multiprocessor until the projections are there: others' blocks come to the rest evenly.
    wait_for_previous();
    return;
  }
  // Positions, pages, angles and what the cache has of the share were there before the step began: they are read while the
  // projections are still being computed.
  const u64 *pages = p.pages[row];
  i64 position = p.positions[row], count = position + 1;
  i64 first = p.window > 0 && count > p.window ? count - p.window : 0;
  i64 first_page = first / page_tokens, last_page = (count + page_tokens - 1) / page_tokens;
  i64 share = (last_page - first_page + splits - 1) / splits;
  int active = share > 0 ? (int)((last_page - first_page + share - 1) / share) : 0;
  i64 page = first_page + split * share, end = page + share < last_page ? page + share : last_page;
  i64 tokens = (end * page_tokens < count ? end * page_tokens : count) - page * page_tokens;
  int steps = tokens > 0 ? (int)((tokens + step_tokens - 1) / step_tokens) : 0;
  int key_lane = lane % 8, slot = warp * 4 + lane / 8, aligned = d % 4 == 0 && p.width % 4 == 0;
  uint2 *ring = (uint2 *)memory + threadIdx.x;
  i64 own = (i64)key_head * d + key_lane * 4 + (i64)slot * p.width;
  // A page's address is read a page ahead.
  const u16 *here = 0, *next = steps > 0 ? (const u16 *)pages[page] : 0;
  int fetched = 0, to_stage = 0;
  auto fetch = [&] {
    if (fetched < steps) {
      int half = fetched % 2;
      if (half == 0) {
        here = next;
        if (fetched + 2 < steps) next = (const u16 *)pages[page + fetched / 2 + 1];
      }
      // The new token's are not in the cache yet.
      i64 key = page * page_tokens + (i64)fetched * step_tokens + slot;
      int n = key >= first && key < position ? d - key_lane * 4 : 0;
      const u16 *from = here + own + (half != 0 ? step_tokens * p.width : 0);
      uint2 *to = ring + to_stage * (2 * chunks * threads);
#pragma unroll
      for (int i = 0; i < 2 * chunks; i++) {
        int c = i % chunks;
        const u16 *features = from + (i < chunks ? p.key_offset : p.value_offset) + c * 32;
        if (n - c * 32 <= 0 || (aligned && n - c * 32 >= 4)) {
          copy_async(to + i * threads, features, n - c * 32 > 0);
        } else {
          to[i * threads] = load_features(features, n - c * 32);
        }
      }
    }
    fetched++, to_stage = to_stage == stages - 1 ? 0 : to_stage + 1;
    commit_copies();
  };
#pragma unroll 1
  for (int i = 0; i < stages; i++) fetch();
  // A warp makes one head ready: a query's, or the new key or value.
  int item = warp;
  bool is_query = item < heads, is_key = item == heads && end == last_page, is_value = item == heads + 1 && end == last_page;
  Turn<D> turn;
  load_turn<D>(p, position >= 0 && !is_value, position, turn);
  wait_for_previous();
  if (!is_uniform) let_next_begin();
  u16 *output = p.output + row * p.ldo + (i64)first_head * d;
  if (position < 0) {
    for (int i = (int)threadIdx.x; split == 0 && i < heads * d; i += threads) output[i] = 0;
    return;
  }
  if (split >= active) return;

  if (is_query || is_key || is_value) {
    i64 head = is_query ? first_head + item : key_head;
    const u16 *x = is_query ? p.q + row * p.ldq : is_key ? p.k + row * p.ldk : p.v + row * p.ldv;
    const float *bias = is_query ? p.bias_q : is_key ? p.bias_k : p.bias_v;
    float e[chunks];
    prepare_head<D>(p, x + head * d, bias != 0 ? bias + head * d : 0, is_query ? p.gamma_q : is_key ? p.gamma_k : 0, turn,
                    heads_room[warp], e);
    if (is_query) {
#pragma unroll
      for (int i = 0; i < chunks; i++) query[item][lane + 32 * i] = widen(narrow(e[i])) * (float)p.scale * LOG2_E;
    } else {
      u16 *to = (u16 *)pages[position / page_tokens] + (is_key ? p.key_offset : p.value_offset) +
                position % page_tokens * p.width + head * d;
#pragma unroll
      for (int i = 0; i < chunks; i++) {
        ((u16 *)fresh[is_value])[lane + 32 * i] = narrow(e[i]);
        if (lane + 32 * i < d) to[lane + 32 * i] = narrow(e[i]);
      }
    }
  }
  __syncthreads();

  float q[H][chunks * 4], sum_of[H][chunks * 4] = {}, top[H], sum[H];
#pragma unroll
  for (int h = 0; h < H; h++) {
    top[h] = -INFINITE, sum[h] = 0;
#pragma unroll
    for (int i = 0; i < chunks * 4; i++) q[h][i] = h < heads ? query[h][i / 4 * 32 + key_lane * 4 + i % 4] : 0.0f;
  }
  for (int step = 0, stage = 0; step < steps; step++) {
    wait_copies<stages - 1>();
    uint2 keys[chunks], found[chunks];
    i64 key = page * page_tokens + (i64)step * step_tokens + slot;
    bool seen = key >= first && key < count;
#pragma unroll
    for (int c = 0; c < chunks; c++) {
      const uint2 *from = ring + stage * (2 * chunks * threads);
      keys[c] = key == position ? fresh[0][c * 8 + key_lane] : from[c * threads];
      found[c] = key == position ? fresh[1][c * 8 + key_lane] : from[(chunks + c) * threads];
    }
    float score[H] = {};
#pragma unroll
    for (int c = 0; c < chunks; c++) {
      float f[4];
      widen_features(f, keys[c]);
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
      float highest = seen ? fmaxf(top[h], score[h]) : top[h];
      float shrink = highest == -INFINITE ? 0.0f : power2(top[h] - highest);
      probability[h] = seen ? power2(score[h] - highest) : 0.0f;
      top[h] = highest;
      sum[h] = sum[h] * shrink + probability[h];
#pragma unroll
      for (int i = 0; i < chunks * 4; i++) sum_of[h][i] *= shrink;
    }
#pragma unroll
    for (int c = 0; c < chunks; c++) {
      float f[4];
      widen_features(f, found[c]);
#pragma unroll
      for (int h = 0; h < H; h++)
#pragma unroll
        for (int i = 0; i < 4; i++) sum_of[h][c * 4 + i] += probability[h] * f[i];
    }
    fetch();
    stage = stage == stages - 1 ? 0 : stage + 1;
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
  for (int i = (int)threadIdx.x; i < heads * D; i += threads) {
    int h = i / D, feature = i % D;
    const float *from = partial + h * splits * stride;
    float highest = -INFINITE, all = 0, value = 0;
    // Eight splits are read at once.
    for (int s = 0; s < active; s += 8) {
      float top_of[8], sum_of_split[8], value_of[8], next = highest;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        top_of[j] = -INFINITE, sum_of_split[j] = 0, value_of[j] = 0;
        if (s + j >= active) continue;
        const float *one = from + (s + j) * stride;
        top_of[j] = load_fresh(one), sum_of_split[j] = load_fresh(one + 1), value_of[j] = load_fresh(one + 2 + feature);
      }
#pragma unroll
      for (int j = 0; j < 8; j++) next = fmaxf(next, top_of[j]);
      float shrink = highest == -INFINITE ? 0.0f : power2(highest - next);
      all *= shrink, value *= shrink, highest = next;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        float factor = top_of[j] == -INFINITE ? 0.0f : power2(top_of[j] - next);
        all += sum_of_split[j] * factor, value += value_of[j] * factor;
      }
    }
    if (feature < d) output[h * d + feature] = narrow(all > 0.0f ? value / all : 0.0f);
  }
}

#define ATTENTION(D)                                                                                              \
  KERNEL(threads, 2) attention_decode_##D##_1(const GRID_CONSTANT CachedAttention p) { attend<D, 1>(p); }         \
  KERNEL(threads, 2) attention_decode_##D##_2(const GRID_CONSTANT CachedAttention p) { attend<D, 2>(p); }         \
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
