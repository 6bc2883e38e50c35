// What the attention kernels share: tiles in shared memory, products of tiles on the tensor cores.
#pragma once
#include "prelude.cuh"

// A tile's rows in shared memory are 8 elements longer than the head: eight consecutive rows then begin in different banks,
// for every head dimension that is a multiple of 32.
#define PITCH(D) ((D) + 8)

/// Starts copying rows [0, rows) × [0, width) of `source` into a tile of R × D, zero beyond both. 128 threads; asynchronous
/// where aligned, so wait before reading.
template <int R, int D> DEVICE void load_tile(u16 *tile, const u16 *source, i64 ld, int rows, int width, int aligned) {
  // Not unrolled: the addresses of all pieces at once would take the registers that the sums need.
#pragma unroll 1
  for (int i = threadIdx.x; i < R * (D / 8); i += 128) {
    int row = i / (D / 8), column = i % (D / 8) * 8;
    u16 *to = tile + row * PITCH(D) + column;
    bool inside = row < rows && column < width;
    if (aligned) {
      copy_async(to, inside ? source + row * ld + column : source, inside ? 16 : 0);
    } else {
      for (int j = 0; j < 8; j++) to[j] = inside && column + j < width ? source[row * ld + column + j] : (u16)0;
    }
  }
}

/// The A fragments of 16 rows of a tile: f[k] covers columns 16k ..< 16k + 16.
template <int D> DEVICE void load_rows(u32 (&f)[D / 16][4], const u16 *rows) {
  int lane = threadIdx.x % 32;
  const u16 *at = rows + (lane % 16) * PITCH(D) + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < D / 16; k++) load_matrices(f[k], at + k * 16);
}

/// c[n] += a · bᵀ: a 16 × D in fragments, b a tile of N × D; c[n] covers b's rows 8n ..< 8n + 8.
template <int N, int D> DEVICE void multiply_transposed(float (&c)[N / 8][4], const u32 (&a)[D / 16][4], const u16 *b) {
  int lane = threadIdx.x % 32;
  const u16 *at = b + (lane % 8 + lane / 16 * 8) * PITCH(D) + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
#pragma unroll
    for (int n = 0; n < N / 16; n++) {
      u32 f[4];
      load_matrices(f, at + n * 16 * PITCH(D) + k * 16);
      multiply_add(c[2 * n], a[k], f[0], f[1]);
      multiply_add(c[2 * n + 1], a[k], f[2], f[3]);
    }
  }
}

/// c[n] += a · bᵀ with a's 16 rows read from a tile too, for where registers are short.
template <int N, int D> DEVICE void multiply_rows_transposed(float (&c)[N / 8][4], const u16 *a, const u16 *b) {
  int lane = threadIdx.x % 32;
  const u16 *rows = a + (lane % 16) * PITCH(D) + lane / 16 * 8;
  const u16 *at = b + (lane % 8 + lane / 16 * 8) * PITCH(D) + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    u32 x[4];
    load_matrices(x, rows + k * 16);
#pragma unroll
    for (int n = 0; n < N / 16; n++) {
      u32 f[4];
      load_matrices(f, at + n * 16 * PITCH(D) + k * 16);
      multiply_add(c[2 * n], x, f[0], f[1]);
      multiply_add(c[2 * n + 1], x, f[2], f[3]);
    }
  }
}

/// c[n] += a · b: a 16 × K in fragments, b a tile of K × D; c[n] covers b's columns 8n ..< 8n + 8.
template <int K, int D> DEVICE void multiply(float (&c)[D / 8][4], const u32 (&a)[K / 16][4], const u16 *b) {
  int lane = threadIdx.x % 32;
  const u16 *at = b + (lane % 16) * PITCH(D) + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < K / 16; k++) {
#pragma unroll
    for (int n = 0; n < D / 16; n++) {
      u32 f[4];
      load_transposed(f, at + k * 16 * PITCH(D) + n * 16);
      multiply_add(c[2 * n], a[k], f[0], f[1]);
      multiply_add(c[2 * n + 1], a[k], f[2], f[3]);
    }
  }
}

/// A product's result, 16 × N, as the A fragments of the next product.
template <int N> DEVICE void narrow_fragments(u32 (&a)[N / 16][4], const float (&c)[N / 8][4]) {
#pragma unroll
  for (int k = 0; k < N / 16; k++) {
    a[k][0] = narrow2(c[2 * k][0], c[2 * k][1]);
    a[k][1] = narrow2(c[2 * k][2], c[2 * k][3]);
    a[k][2] = narrow2(c[2 * k + 1][0], c[2 * k + 1][1]);
    a[k][3] = narrow2(c[2 * k + 1][2], c[2 * k + 1][3]);
  }
}

/// Writes 16 rows of a result, each times its factor, to `target`: rows [0, rows) and columns [0, width).
template <int D>
DEVICE void store_rows(const float (&c)[D / 8][4], u16 *target, i64 ld, int rows, int width, float low, float high, int aligned) {
  int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < D / 8; n++) {
    int column = n * 8 + t * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = g + half * 8;
      float factor = half == 0 ? low : high, x = c[n][half * 2] * factor, y = c[n][half * 2 + 1] * factor;
      if (row >= rows) continue;
      u16 *to = target + row * ld + column;
      if (aligned) {
        if (column < width) *(u32 *)to = narrow2(x, y);
      } else {
        if (column < width) to[0] = narrow(x);
        if (column + 1 < width) to[1] = narrow(y);
      }
    }
  }
}
