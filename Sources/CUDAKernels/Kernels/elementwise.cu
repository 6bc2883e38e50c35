// Copies, conversions, biases, dropout, and the gradient's norm.
#include "prelude.cuh"

// Grid of every kernel over [rows, columns]: threads x over eights of columns, y over rows, both striding over the grid.
#define EACH_EIGHT(rows, columns)                                                                   \
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < (rows); row += (i64)gridDim.y * blockDim.y) \
    for (i64 column = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8; column < (columns);         \
         column += (i64)gridDim.x * blockDim.x * 8)

template <class S, class D>
DEVICE void copy(i64 rows, i64 columns, const S *x, i64 ldx, float factor, D *y, i64 ldy, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight value = load8(x + row * ldx + column, columns - column, aligned);
#pragma unroll
    for (int i = 0; i < 8; i++) value.v[i] *= factor;
    store8(y + row * ldy + column, value, columns - column, aligned);
  }
}

/// y = x · factor, x and y [rows, columns].
#define COPY(name, S, D)                                                                                            \
  KERNEL(256, 1) name(i64 rows, i64 columns, const S *x, i64 ldx, float factor, D *y, i64 ldy, int aligned) {       \
    copy(rows, columns, x, ldx, factor, y, ldy, aligned);                                                           \
  }
COPY(copy_f32_f32, float, float)
COPY(copy_f32_bf16, float, u16)
COPY(copy_bf16_f32, u16, float)
COPY(copy_bf16_bf16, u16, u16)

/// s·B of up to three projections into the tail columns of their fused matrix, block by block on the diagonal and zero
/// elsewhere: tail [outputs0 + outputs1 + outputs2, width], b_j [outputs_j, rank_j] dense.
KERNEL(256, 1) block_diagonal(i64 outputs0, i64 outputs1, i64 outputs2, int rank0, int rank1, int rank2, const u16 *b0,
                              const u16 *b1, const u16 *b2, u16 *tail, i64 ld, int width) {
  i64 rows = outputs0 + outputs1 + outputs2;
  for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < rows * width; at += (i64)gridDim.x * blockDim.x) {
    i64 row = at / width, local = row;
    int column = (int)(at % width), rank = rank0;
    const u16 *b = b0;
    if (row >= outputs0 + outputs1) {
      local = row - outputs0 - outputs1, column -= rank0 + rank1, b = b2, rank = rank2;
    } else if (row >= outputs0) {
      local = row - outputs0, column -= rank0, b = b1, rank = rank1;
    }
    tail[row * ld + at % width] = column >= 0 && column < rank ? b[local * rank + column] : (u16)0;
  }
}

template <class T> DEVICE void add(i64 rows, i64 columns, const float *bias, T *x, i64 ld, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight value = load8(x + row * ld + column, columns - column, aligned);
    Eight b = load8(bias + column, columns - column, aligned);
#pragma unroll
    for (int i = 0; i < 8; i++) value.v[i] += b.v[i];
    store8(x + row * ld + column, value, columns - column, aligned);
  }
}

/// x[r, c] += bias[c].
KERNEL(256, 1) add_bias_bf16(i64 rows, i64 columns, const float *bias, u16 *x, i64 ld, int aligned) {
  add(rows, columns, bias, x, ld, aligned);
}
KERNEL(256, 1) add_bias_f32(i64 rows, i64 columns, const float *bias, float *x, i64 ld, int aligned) {
  add(rows, columns, bias, x, ld, aligned);
}

// MARK: Rows

template <class T> DEVICE void move(i64 count, i64 width, const T *x, i64 ldx, const int *from, T *y, i64 ldy, const int *to) {
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < count; row += (i64)gridDim.y * blockDim.y) {
    i64 source = from != 0 ? from[row] : row, target = to != 0 ? to[row] : row;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < width; i += (i64)gridDim.x * blockDim.x)
      y[target * ldy + i] = x[source * ldx + i];
  }
}

/// Row i of x, or from[i], to row i of y, or to[i]. Widths and strides in units of the element moved.
KERNEL(256, 1) move_rows_16(i64 count, i64 width, const uint4 *x, i64 ldx, const int *from, uint4 *y, i64 ldy, const int *to) {
  move(count, width, x, ldx, from, y, ldy, to);
}
KERNEL(256, 1) move_rows_1(i64 count, i64 width, const u8 *x, i64 ldx, const int *from, u8 *y, i64 ldy, const int *to) {
  move(count, width, x, ldx, from, y, ldy, to);
}

/// Rows `tokens[i]` of bf16 [·, columns] as fp32 rows i.
KERNEL(256, 1) embed(i64 count, i64 columns, const u16 *table, i64 ld, const int *tokens, float *y, i64 ldy, int aligned) {
  let_next_begin();
  wait_for_previous();
  EACH_EIGHT(count, columns) {
    Eight value = load8(table + (i64)tokens[row] * ld + column, columns - column, aligned);
    store8(y + row * ldy + column, value, columns - column, aligned);
  }
}

// MARK: Norm

/// Σ x² of each run of 16,384 elements, in double: one block of 256 threads per run.
KERNEL(256, 1) squares(i64 count, const float *x, double *partial) {
  __shared__ double sums[256];
  i64 begin = (i64)blockIdx.x * 16384, end = begin + 16384 < count ? begin + 16384 : count;
  double sum = 0;
  for (i64 i = begin + threadIdx.x; i < end; i += 256) sum += (double)x[i] * (double)x[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int step = 128; step > 0; step /= 2) {
    if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

/// The sum of `count` doubles in one order: one block of 256 threads.
KERNEL(256, 1) sum_doubles(i64 count, const double *x, double *total) {
  __shared__ double sums[256];
  double sum = 0;
  for (i64 i = threadIdx.x; i < count; i += 256) sum += x[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int step = 128; step > 0; step /= 2) {
    if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) *total = sums[0];
}

// MARK: Random numbers

/// Philox 4×32-10 (Salmon et al., 2011), as the CPU's dropout draws: the same key drops the same elements on both.
DEVICE void philox(u64 counter, u64 stream, u64 seed, u32 (&out)[4]) {
  u32 c0 = (u32)counter, c1 = (u32)(counter >> 32), c2 = (u32)stream, c3 = (u32)(stream >> 32);
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    u64 a = (u64)0xD2511F53u * c0, b = (u64)0xCD9E8D57u * c2;
    u32 n0 = (u32)(b >> 32) ^ c1 ^ k0, n2 = (u32)(a >> 32) ^ c3 ^ k1;
    c1 = (u32)b, c3 = (u32)a, c0 = n0, c2 = n2;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/// 32 random bits for each of the eight elements from `index` on.
DEVICE void random8(u64 index, u64 stream, u64 seed, u32 (&bits)[8]) {
  u32 random[4];
  u64 drawn = ~(u64)0;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    u64 at = index + i;
    if (at / 4 != drawn) drawn = at / 4, philox(drawn, stream, seed, random);
    u32 lane = (u32)at % 4;
    bits[i] = lane < 2 ? (lane == 0 ? random[0] : random[1]) : (lane == 2 ? random[2] : random[3]);
  }
}

/// What the eight elements from `index` on are multiplied by: 0 or 1 / (1 - p).
DEVICE Eight keep8(u64 index, u64 stream, u64 seed, u32 threshold, float factor) {
  u32 bits[8];
  random8(index, stream, seed, bits);
  Eight keep;
#pragma unroll
  for (int i = 0; i < 8; i++) keep.v[i] = bits[i] >= threshold ? factor : 0.0f;
  return keep;
}

/// Uniform values in ±bound for the eight elements from `index` on.
DEVICE Eight noise8(u64 index, u64 stream, u64 seed, float bound) {
  u32 bits[8];
  random8(index, stream, seed, bits);
  Eight noise;
#pragma unroll
  for (int i = 0; i < 8; i++) noise.v[i] = ((float)(bits[i] >> 8) * (1.0f / 8388608.0f) - 1.0f) * bound;
  return noise;
}

/// y = x / (1 - p) where kept, else 0.
KERNEL(256, 1) dropout(i64 rows, i64 columns, const u16 *x, i64 ldx, u16 *y, i64 ldy, u32 threshold, float factor, u64 seed,
                       u64 stream, i64 first_row, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight value = load8(x + row * ldx + column, columns - column, aligned);
    Eight keep = keep8((u64)(first_row + row) * (u64)columns + (u64)column, stream, seed, threshold, factor);
#pragma unroll
    for (int i = 0; i < 8; i++) value.v[i] *= keep.v[i];
    store8(y + row * ldy + column, value, columns - column, aligned);
  }
}

template <class T>
DEVICE void drop_back(i64 rows, i64 columns, const float *g, i64 ldg, T *dx, i64 lddx, u32 threshold, float factor, u64 seed,
                      u64 stream, i64 first_row, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight value = load8(g + row * ldg + column, columns - column, aligned);
    Eight sum = load8(dx + row * lddx + column, columns - column, aligned);
    Eight keep = keep8((u64)(first_row + row) * (u64)columns + (u64)column, stream, seed, threshold, factor);
#pragma unroll
    for (int i = 0; i < 8; i++) sum.v[i] += value.v[i] * keep.v[i];
    store8(dx + row * lddx + column, sum, columns - column, aligned);
  }
}
/// dx += g / (1 - p) where kept.
KERNEL(256, 1) dropout_backward_f32(i64 rows, i64 columns, const float *g, i64 ldg, float *dx, i64 lddx, u32 threshold,
                                    float factor, u64 seed, u64 stream, i64 first_row, int aligned) {
  drop_back(rows, columns, g, ldg, dx, lddx, threshold, factor, seed, stream, first_row, aligned);
}
KERNEL(256, 1) dropout_backward_bf16(i64 rows, i64 columns, const float *g, i64 ldg, u16 *dx, i64 lddx, u32 threshold,
                                     float factor, u64 seed, u64 stream, i64 first_row, int aligned) {
  drop_back(rows, columns, g, ldg, dx, lddx, threshold, factor, seed, stream, first_row, aligned);
}

/// kept = x · k and rest = x - x · k, k being 0 or 1 / (1 - p).
KERNEL(256, 1) dropout_split(i64 rows, i64 columns, const u16 *x, i64 ldx, u16 *kept, i64 ld_kept, u16 *rest, i64 ld_rest,
                             u32 threshold, float factor, u64 seed, u64 stream, i64 first_row, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight value = load8(x + row * ldx + column, columns - column, aligned);
    Eight keep = keep8((u64)(first_row + row) * (u64)columns + (u64)column, stream, seed, threshold, factor);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      float part = value.v[i] * keep.v[i];
      value.v[i] -= part;
      keep.v[i] = part;
    }
    store8(kept + row * ld_kept + column, keep, columns - column, aligned);
    store8(rest + row * ld_rest + column, value, columns - column, aligned);
  }
}

template <class T>
DEVICE void drop_join(i64 rows, i64 columns, const float *kept, i64 ld_kept, const float *rest, i64 ld_rest, T *dx, i64 lddx,
                      int accumulate, u32 threshold, float factor, u64 seed, u64 stream, i64 first_row, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight through = load8(kept + row * ld_kept + column, columns - column, aligned);
    Eight beside = load8(rest + row * ld_rest + column, columns - column, aligned);
    Eight keep = keep8((u64)(first_row + row) * (u64)columns + (u64)column, stream, seed, threshold, factor);
    Eight sum = {};
    if (accumulate) sum = load8(dx + row * lddx + column, columns - column, aligned);
#pragma unroll
    for (int i = 0; i < 8; i++) sum.v[i] += keep.v[i] * through.v[i] + (1.0f - keep.v[i]) * beside.v[i];
    store8(dx + row * lddx + column, sum, columns - column, aligned);
  }
}
/// dx = k · kept + (1 - k) · rest, or added to dx.
KERNEL(256, 1) dropout_join_f32(i64 rows, i64 columns, const float *kept, i64 ld_kept, const float *rest, i64 ld_rest,
                                float *dx, i64 lddx, int accumulate, u32 threshold, float factor, u64 seed, u64 stream,
                                i64 first_row, int aligned) {
  drop_join(rows, columns, kept, ld_kept, rest, ld_rest, dx, lddx, accumulate, threshold, factor, seed, stream, first_row, aligned);
}
KERNEL(256, 1) dropout_join_bf16(i64 rows, i64 columns, const float *kept, i64 ld_kept, const float *rest, i64 ld_rest,
                                 u16 *dx, i64 lddx, int accumulate, u32 threshold, float factor, u64 seed, u64 stream,
                                 i64 first_row, int aligned) {
  drop_join(rows, columns, kept, ld_kept, rest, ld_rest, dx, lddx, accumulate, threshold, factor, seed, stream, first_row, aligned);
}

/// Uniform values in ±bound, for measurements on weights that no checkpoint holds.
KERNEL(256, 1) random_bf16(i64 rows, i64 columns, u16 *y, i64 ldy, float bound, u64 seed, u64 stream, i64 first_row, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight value = noise8((u64)(first_row + row) * (u64)columns + (u64)column, stream, seed, bound);
    store8(y + row * ldy + column, value, columns - column, aligned);
  }
}

/// x += uniform noise in ±bound, as the CPU draws it.
KERNEL(256, 1) add_noise(i64 rows, i64 columns, float *x, i64 ld, float bound, u64 seed, u64 stream, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight value = load8(x + row * ld + column, columns - column, aligned);
    Eight noise = noise8((u64)row * (u64)columns + (u64)column, stream, seed, bound);
#pragma unroll
    for (int i = 0; i < 8; i++) value.v[i] += noise.v[i];
    store8(x + row * ld + column, value, columns - column, aligned);
  }
}

/// average = keep · average + rest · x.
KERNEL(256, 1) mix(i64 count, const float *x, float *average, float keep, float rest) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x)
    average[i] = keep * average[i] + rest * x[i];
}
