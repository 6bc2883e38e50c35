// Choosing the next token of each sequence from its logits: the likeliest, or one drawn from those that top-k, min-p and top-p
// leave. Many blocks find the largest of each part, one for each sequence chooses; sums are taken in one order, so that the same
// logits and draw give the same token.
#include "prelude.cuh"

/// How a sequence's token is chosen.
struct Draw {
  /// Logits are multiplied by it before the softmax; 0: the likeliest token.
  float sharpness, top_p, min_p, penalty;
  /// 0: all.
  int top_k;
  /// The row of `seen`; negative where nothing is chosen.
  int slot;
  /// In 0 ..< 1.
  double point;
};

/// Candidates that lie in shared memory.
enum { most_candidates = 3072 };

/// Numbers in the order of the floats; NaN's is 0.
DEVICE u32 order_of(float x) {
  u32 bits = __float_as_uint(x);
  if (x != x) return 0;
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

DEVICE double block_sum_double(double x, double *room) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  double total = 0;
  for (int i = 0; i < (int)blockDim.x / 32; i++) total += room[i];
  return total;
}

/// Σ of the threads before this one; *total: of all. Threads in their order.
DEVICE double sum_before(double x, double *room, double *warps, double *total) {
  __syncthreads();
  room[threadIdx.x] = x;
  __syncthreads();
  if (threadIdx.x < blockDim.x / 32) {
    double sum = 0;
    for (int i = 0; i < 32; i++) {
      double one = room[threadIdx.x * 32 + i];
      room[threadIdx.x * 32 + i] = sum;
      sum += one;
    }
    warps[threadIdx.x] = sum;
  }
  __syncthreads();
  double before = 0, all = 0;
  for (int i = 0; i < (int)blockDim.x / 32; i++) {
    if (i == (int)threadIdx.x / 32) before = all;
    all += warps[i];
  }
  *total = all;
  return before + room[threadIdx.x];
}

/// What tokens are chosen from: all logits, or a list of some.
struct Candidates {
  const float *logits;
  const int *tokens;
  const float *values;
  int count;
  float top, sharpness, least;

  MEMBER float value(int i) const { return tokens != 0 ? values[i] : logits[i]; }
  MEMBER int token(int i) const { return tokens != 0 ? tokens[i] : i; }
  /// e^((x - top) · sharpness), 0 where that is less than `least` or x is no finite number.
  MEMBER float weight(float x) const {
    float w = power2(fmaxf((x - top) * sharpness * LOG2_E, -116.0f));
    return x <= top && w >= least && x > -INFINITE ? w : 0.0f;
  }
};

/// Those of the candidates that are left: above a border, or on it and among the first.
struct Border {
  u32 order;
  int last;
  MEMBER bool keeps(u32 x, int token) const { return x > order || (x == order && token <= last); }
};

/// The border that leaves as many of what `border` leaves as are needed to make their number, or their weight, `wanted`: the
/// heaviest, of equals the first.
template <bool BY_WEIGHT>
DEVICE Border tighten(const Candidates &all, Border border, double wanted, double *room) {
  auto sum = [&](Border candidate) {
    double mine = 0;
    for (int i = (int)threadIdx.x; i < all.count; i += (int)blockDim.x) {
      float x = all.value(i), w = all.weight(x);
      u32 order = order_of(x);
      int token = all.token(i);
      if (w > 0 && border.keeps(order, token) && candidate.keeps(order, token)) mine += BY_WEIGHT ? (double)w : 1.0;
    }
    return block_sum_double(mine, room);
  };
  // The largest border that still leaves enough, bit by bit; then as few as possible of those on it.
  Border result = {0, 0x7fffffff};
  for (int bit = 31; bit >= 0; bit--) {
    Border next = {result.order | 1u << bit, 0x7fffffff};
    if (sum(next) >= wanted) result = next;
  }
  double equals = 0;
  for (int i = (int)threadIdx.x; i < all.count; i += (int)blockDim.x)
    if (order_of(all.value(i)) == result.order && border.keeps(result.order, all.token(i))) equals += 1;
  if (block_sum_double(equals, room) <= 1) return result;
  int below = 0;
  for (int bit = 30; bit >= 0; bit--) {
    Border next = {result.order, below + (1 << bit) - 1};
    if (sum(next) < wanted) below += 1 << bit;
  }
  result.last = below;
  return result;
}

/// All fields take eight bytes.
struct Choice {
  /// fp32 [rows, vocabulary], changed where repetition counts.
  i64 vocabulary;
  float *logits;
  i64 ld;
  const Draw *draws;
  /// A bit for each token, [slots, words].
  u32 *seen;
  i64 words;
  /// One of each row, -1 where no logit is a number.
  int *tokens;
  /// Of each row and part of its logits the largest: the logit's order, and behind it how far the token is from the last.
  u64 *best;
  i64 parts;
};
DEVICE u64 better(u64 a, u64 b) { return a > b ? a : b; }
DEVICE u64 best_of_lanes(u64 x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    u32 high = __shfl_xor_sync(0xffffffffu, (u32)(x >> 32), step), low = __shfl_xor_sync(0xffffffffu, (u32)x, step);
    x = better(x, (u64)high << 32 | low);
  }
  return x;
}

/// The largest logit of a part of a row, of equals the first. Draws are from finite logits only. Grid: x over parts, y over rows.
KERNEL(256, 4) sample_best(const GRID_CONSTANT Choice p) {
  __shared__ u64 best_of_warp[8];
  wait_for_previous();
  let_next_begin();
  i64 row = blockIdx.y;
  Draw draw = p.draws[row];
  if (draw.slot < 0) return;
  float *logits = p.logits + row * p.ld;
  const u32 *seen = p.seen + draw.slot * p.words;
  int count = (int)p.vocabulary, aligned = (u64)logits % 16 == 0;
  u64 best = 0;
  for (int first = ((int)blockIdx.x * 256 + (int)threadIdx.x) * 8; first < count; first += (int)p.parts * 256 * 8) {
    Eight eight = load8(logits + first, count - first, aligned);
    u32 marks = draw.penalty != 1.0f ? seen[first / 32] >> first % 32 & 255u : 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      float x = eight.v[i];
      if (first + i >= count) break;
      if ((marks >> i & 1u) != 0) {
        x = x > 0 ? x / draw.penalty : x * draw.penalty;
        logits[first + i] = x;
      }
      u32 order = draw.sharpness > 0 && !(x < INFINITE) ? 0 : order_of(x);
      best = better(best, (u64)order << 32 | (0x7fffffffu - (u32)(first + i)));
    }
  }
  best = best_of_lanes(best);
  if (threadIdx.x % 32 == 0) best_of_warp[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < 8; i++) best = better(best, best_of_warp[i]);
  p.best[row * p.parts + blockIdx.x] = best;
}

/// The token of each row, from it and its parts' largest.
KERNEL(512, 1) sample(const GRID_CONSTANT Choice p) {
  __shared__ double room[512], warp_sums[32];
  __shared__ int candidate_tokens[most_candidates];
  __shared__ float candidate_values[most_candidates];
  __shared__ int chosen;
  wait_for_previous();
  let_next_begin();
  i64 row = blockIdx.x;
  Draw draw = p.draws[row];
  if (draw.slot < 0) return;
  float *logits = p.logits + row * p.ld;
  u32 *seen = p.seen + draw.slot * p.words;
  int thread = (int)threadIdx.x, threads = (int)blockDim.x, count = (int)p.vocabulary;
  // Every warp finds the largest for itself.
  u64 best = 0;
  for (int part = thread % 32; part < (int)p.parts; part += 32) best = better(best, p.best[row * p.parts + part]);
  best = best_of_lanes(best);
  u32 order = (u32)(best >> 32);
  int token = (int)(0x7fffffffu - (u32)best);
  if (thread == 0) chosen = -1;
  __syncthreads();

  if (draw.sharpness > 0 && order > order_of(-INFINITE)) {
    Candidates all = {logits, 0, 0, count, logits[token], draw.sharpness, fmaxf(draw.min_p, 4e-18f)};
    bool by_count = draw.top_k > 0 && draw.top_k < count, by_weight = draw.top_p < 1.0f;
    double total = 0;
    Border border = {0, 0x7fffffff};
    if (by_count || by_weight) {
      // What lies below this border cannot be left.
      float lightest = 0;
      u32 lowest = 0;
      double mine = 0;
      u32 most = 0;
      for (int i = thread; i < count; i += threads) {
        float w = all.weight(logits[i]);
        mine += w;
        if (w > 0 && order_of(logits[i]) > most) most = order_of(logits[i]);
      }
      total = block_sum_double(mine, room);
      if (by_count) {
        // Of that many threads each has seen one as large as the least of their largest.
        for (int bit = 31; bit >= 0 && draw.top_k <= threads; bit--) {
          u32 next = lowest | 1u << bit;
          if (block_sum_double(most >= next ? 1.0 : 0.0, room) >= draw.top_k) lowest = next;
        }
      } else {
        // All below it together hold less than top-p leaves out.
        lightest = (float)((1.0 - (double)draw.top_p) * total / count) * 0.5f;
      }
      double found = 0;
      for (int i = thread; i < count; i += threads) {
        float w = all.weight(logits[i]);
        if (w > lightest && order_of(logits[i]) >= lowest) found += 1;
      }
      double all_found;
      int place = (int)sum_before(found, room, warp_sums, &all_found);
      if (all_found <= (double)most_candidates) {
        for (int i = thread; i < count; i += threads) {
          float w = all.weight(logits[i]);
          if (w > lightest && order_of(logits[i]) >= lowest) {
            candidate_tokens[place] = i;
            candidate_values[place++] = logits[i];
          }
        }
        all.tokens = candidate_tokens, all.values = candidate_values, all.count = (int)all_found;
        __syncthreads();
      }
      if (by_count) border = tighten<false>(all, border, (double)draw.top_k, room);
      if (by_weight) {
        if (by_count) {
          double left = 0;
          for (int i = thread; i < all.count; i += threads)
            if (border.keeps(order_of(all.value(i)), all.token(i))) left += all.weight(all.value(i));
          total = block_sum_double(left, room);
        }
        Border tighter = tighten<true>(all, border, (double)draw.top_p * total, room);
        if (tighter.order > border.order || (tighter.order == border.order && tighter.last < border.last)) border = tighter;
      }
    }
    double mine = 0;
    for (int i = thread; i < all.count; i += threads)
      if (border.keeps(order_of(all.value(i)), all.token(i))) mine += all.weight(all.value(i));
    double before = sum_before(mine, room, warp_sums, &total), point = draw.point * total;
    // Only rounding can leave the point behind the last: then the likeliest stands.
    if (mine > 0 && before <= point && point < before + mine) {
      double rest = point - before;
      int last = -1;
      for (int i = thread; i < all.count; i += threads) {
        float w = all.weight(all.value(i));
        if (w <= 0 || !border.keeps(order_of(all.value(i)), all.token(i))) continue;
        last = all.token(i);
        rest -= w;
        if (rest < 0) break;
      }
      chosen = last;
    }
    __syncthreads();
    if (chosen >= 0) token = chosen;
  } else if (order == 0 || draw.sharpness > 0) {
    token = -1;
  }
  if (thread == 0) {
    p.tokens[row] = token;
    if (token >= 0 && draw.penalty != 1.0f) seen[token / 32] |= 1u << token % 32;
  }
}
