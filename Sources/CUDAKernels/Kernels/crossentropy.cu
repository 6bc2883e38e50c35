// Cross-entropy of rows of logits with its gradient: one block per row.
#include "prelude.cuh"

/// logits: fp32 [rows, vocabulary] at ld. row_loss[r] = log Σ exp(logits) - logits[target]. gradient: (softmax - one-hot) ·
/// scale, bf16 at ldg, or null. The row is read once for the sum (a running maximum, Milakov & Gimelshein, 2018) and, out of
/// the cache, once for the gradient.
KERNEL(1024, 1) cross_entropy(i64 vocabulary, const float *logits, i64 ld, const int *targets, float scale, u16 *gradient,
                              i64 ldg, float *row_loss, int aligned) {
  __shared__ float room[32];
  i64 row = blockIdx.x;
  const float *x = logits + row * ld;
  int target = targets[row];
  float highest = -INFINITE, sum = 0;
  for (i64 i = (i64)threadIdx.x * 8; i < vocabulary; i += (i64)blockDim.x * 8) {
    Eight value = load8(x + i, vocabulary - i, aligned);
    float top = -INFINITE;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      if (i + j >= vocabulary) value.v[j] = -INFINITE;
      top = fmaxf(top, value.v[j]);
    }
    if (top > highest) {
      sum *= power2((highest - top) * LOG2_E);
      highest = top;
    }
    // A row of -∞ has no maximum to subtract.
    float shift = highest == -INFINITE ? 0.0f : highest;
#pragma unroll
    for (int j = 0; j < 8; j++) sum += power2((value.v[j] - shift) * LOG2_E);
  }
  float top = block_max(highest, room);
  float shift = top == -INFINITE ? 0.0f : top;
  float mine = highest == -INFINITE ? 0.0f : sum * power2((highest - shift) * LOG2_E);
  float lse = shift + logf(block_sum(mine, room));
  if (threadIdx.x == 0) row_loss[row] = lse - x[target];
  if (gradient == 0) return;
  u16 *g = gradient + row * ldg;
  for (i64 i = (i64)threadIdx.x * 8; i < vocabulary; i += (i64)blockDim.x * 8) {
    Eight value = load8(x + i, vocabulary - i, aligned);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      float p = power2((value.v[j] - lse) * LOG2_E);
      value.v[j] = (i + j == target ? p - 1.0f : p) * scale;
    }
    store8(g + i, value, vocabulary - i, aligned);
  }
}
