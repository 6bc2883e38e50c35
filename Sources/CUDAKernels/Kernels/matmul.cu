// A plain matrix product, for shapes that cuBLASLt declines and machines that lack it.
#include "prelude.cuh"

enum { tile = 32 };

/// c[m, n] = op(a) · op(b), or added to c; a [m, k] (stored [k, m] when transposed), b [k, n] (stored [n, k]). Blocks of
/// 32 × 8 threads, a tile of 32 × 32 each; grid: x over n, y over m.
template <class C>
DEVICE void product(i64 m, i64 n, i64 k, const u16 *a, i64 lda, int transpose_a, const u16 *b, i64 ldb, int transpose_b, C *c,
                    i64 ldc, int accumulate) {
  __shared__ float left[tile][tile + 1], right[tile][tile + 1];
  i64 row = (i64)blockIdx.y * tile, column = (i64)blockIdx.x * tile;
  int x = threadIdx.x, y = threadIdx.y;
  float sum[4] = {};
  for (i64 at = 0; at < k; at += tile) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int line = y + 8 * i;
      // Neighbouring threads read neighbouring elements, whichever way the operand is stored.
      if (transpose_a) {
        left[x][line] = row + x < m && at + line < k ? widen(a[(at + line) * lda + row + x]) : 0.0f;
      } else {
        left[line][x] = row + line < m && at + x < k ? widen(a[(row + line) * lda + at + x]) : 0.0f;
      }
      if (transpose_b) {
        right[x][line] = column + line < n && at + x < k ? widen(b[(column + line) * ldb + at + x]) : 0.0f;
      } else {
        right[line][x] = column + x < n && at + line < k ? widen(b[(at + line) * ldb + column + x]) : 0.0f;
      }
    }
    __syncthreads();
    for (int j = 0; j < tile; j++) {
      float value = right[j][x];
#pragma unroll
      for (int i = 0; i < 4; i++) sum[i] += left[y + 8 * i][j] * value;
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    i64 line = row + y + 8 * i;
    if (line >= m || column + x >= n) continue;
    C *to = c + line * ldc + column + x;
    store_one(to, accumulate ? load_one(to) + sum[i] : sum[i]);
  }
}

KERNEL(256, 1) product_f32(i64 m, i64 n, i64 k, const u16 *a, i64 lda, int transpose_a, const u16 *b, i64 ldb,
                           int transpose_b, float *c, i64 ldc, int accumulate) {
  product(m, n, k, a, lda, transpose_a, b, ldb, transpose_b, c, ldc, accumulate);
}
KERNEL(256, 1) product_bf16(i64 m, i64 n, i64 k, const u16 *a, i64 lda, int transpose_a, const u16 *b, i64 ldb,
                            int transpose_b, u16 *c, i64 ldc, int accumulate) {
  product(m, n, k, a, lda, transpose_a, b, ldb, transpose_b, c, ldc, accumulate);
}
