// Rotary position embedding, in place, both directions, with the projection's bias.
#include "prelude.cuh"

/// x: bf16 [rows, heads · head_dim]. Pairs (i, i + half) of each head turn by the angles of row positions[t] of the tables,
/// fp32 [·, half]; sign -1 turns back. bias: fp32 [heads · head_dim], added first, or null.
/// A thread takes eight pairs of one head, or, with a bias, eight of the elements that do not turn. Grid: x over the row's
/// work, y over rows.
KERNEL(256, 1) rope(i64 rows, u16 *x, i64 ld, int heads, int head_dim, int half, const float *cosines, const float *sines,
                    const int *positions, const float *bias, float sign, int aligned) {
  int turning = (half + 7) / 8, still = bias != 0 ? (head_dim - 2 * half + 7) / 8 : 0, chunks = turning + still;
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.y * blockDim.y) {
    const float *cosine = cosines + (i64)positions[row] * half, *sine = sines + (i64)positions[row] * half;
    for (int work = blockIdx.x * blockDim.x + threadIdx.x; work < heads * chunks; work += gridDim.x * blockDim.x) {
      int head = work / chunks, chunk = work % chunks;
      u16 *base = x + row * ld + (i64)head * head_dim;
      const float *b = bias + (i64)head * head_dim;
      if (chunk >= turning) {
        int at = 2 * half + (chunk - turning) * 8, n = head_dim - at;
        Eight value = load8(base + at, n, aligned), extra = load8(b + at, n, aligned);
#pragma unroll
        for (int j = 0; j < 8; j++) value.v[j] += extra.v[j];
        store8(base + at, value, n, aligned);
        continue;
      }
      int at = chunk * 8, n = half - at;
      Eight first = load8(base + at, n, aligned), second = load8(base + half + at, n, aligned);
      if (bias != 0) {
        Eight one = load8(b + at, n, aligned), two = load8(b + half + at, n, aligned);
#pragma unroll
        for (int j = 0; j < 8; j++) first.v[j] += one.v[j], second.v[j] += two.v[j];
      }
      Eight c = load8(cosine + at, n, aligned), s = load8(sine + at, n, aligned), low, high;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        low.v[j] = first.v[j] * c.v[j] - second.v[j] * s.v[j] * sign;
        high.v[j] = second.v[j] * c.v[j] + first.v[j] * s.v[j] * sign;
      }
      store8(base + at, low, n, aligned);
      store8(base + half + at, high, n, aligned);
    }
  }
}
