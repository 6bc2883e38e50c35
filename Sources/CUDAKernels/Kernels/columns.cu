// Sums over rows and factors of columns: gradients of vectors, DoRA's magnitudes, gradients of embeddings.
#include "prelude.cuh"

/// sums[c] += Σ_r dy[r, c] · z[r, c] · row_scales[r], z and row_scales perhaps null: blocks of 32 columns × 8 rows.
template <class T>
DEVICE void column_sums(i64 rows, i64 columns, const T *dy, i64 lddy, const u16 *z, i64 ldz, const float *row_scales,
                        float *sums) {
  __shared__ float partial[8][32];
  i64 column = (i64)blockIdx.x * 32 + threadIdx.x;
  float sum = 0;
  if (column < columns) {
    for (i64 row = threadIdx.y; row < rows; row += 8) {
      float value = load_one(dy + row * lddy + column);
      if (z != 0) value *= widen(z[row * ldz + column]);
      if (row_scales != 0) value *= row_scales[row];
      sum += value;
    }
  }
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && column < columns) {
    for (int i = 1; i < 8; i++) sum += partial[i][threadIdx.x];
    sums[column] += sum;
  }
}
KERNEL(256, 1) column_sums_f32(i64 rows, i64 columns, const float *dy, i64 lddy, const u16 *z, i64 ldz,
                               const float *row_scales, float *sums) {
  column_sums(rows, columns, dy, lddy, z, ldz, row_scales, sums);
}
KERNEL(256, 1) column_sums_bf16(i64 rows, i64 columns, const u16 *dy, i64 lddy, const u16 *z, i64 ldz,
                                const float *row_scales, float *sums) {
  column_sums(rows, columns, dy, lddy, z, ldz, row_scales, sums);
}

template <class S, class D>
DEVICE void scale_columns(i64 rows, i64 columns, const S *x, i64 ldx, const float *factors, D *y, i64 ldy, int accumulate,
                          int aligned) {
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.y * blockDim.y)
    for (i64 column = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8; column < columns;
         column += (i64)gridDim.x * blockDim.x * 8) {
      Eight value = load8(x + row * ldx + column, columns - column, aligned);
      Eight factor = load8(factors + column, columns - column, aligned), old = {};
      if (accumulate) old = load8(y + row * ldy + column, columns - column, aligned);
#pragma unroll
      for (int i = 0; i < 8; i++) value.v[i] = value.v[i] * factor.v[i] + old.v[i];
      store8(y + row * ldy + column, value, columns - column, aligned);
    }
}

/// y[r, c] = x[r, c] · factors[c], or added to y.
#define SCALE_COLUMNS(name, S, D)                                                                                      \
  KERNEL(256, 1) name(i64 rows, i64 columns, const S *x, i64 ldx, const float *factors, D *y, i64 ldy, int accumulate, \
                      int aligned) {                                                                                   \
    scale_columns(rows, columns, x, ldx, factors, y, ldy, accumulate, aligned);                                        \
  }
SCALE_COLUMNS(scale_columns_f32_f32, float, float)
SCALE_COLUMNS(scale_columns_f32_bf16, float, u16)
SCALE_COLUMNS(scale_columns_bf16_f32, u16, float)
SCALE_COLUMNS(scale_columns_bf16_bf16, u16, u16)

/// inverses[o] = 1 / √(squared[o] + Σ_r b[o, r] · products[r, o]), factors[o] = magnitudes[o] · inverses[o].
KERNEL(128, 1) adapted_row_norms(i64 outputs, i64 rank, const float *squared, const u16 *b, const float *products,
                                 const float *magnitudes, float *inverses, float *factors) {
  i64 o = (i64)blockIdx.x * 128 + threadIdx.x;
  if (o >= outputs) return;
  double sum = squared[o];
  for (i64 r = 0; r < rank; r++) sum += (double)widen(b[o * rank + r]) * (double)products[r * outputs + o];
  float inverse = sum > 0 ? (float)(1 / sqrt(sum)) : 0.0f;
  inverses[o] = inverse;
  factors[o] = magnitudes[o] * inverse;
}

/// Rows order[starts[i]] to order[starts[i + 1] - 1] of x are added to row targets[i] of y.
KERNEL(256, 1) scatter_add(i64 count, i64 columns, i64 rows, const float *x, i64 ldx, const int *order, const int *starts,
                           const int *targets, float *y, i64 ldy) {
  for (i64 i = (i64)blockIdx.y * blockDim.y + threadIdx.y; i < count; i += (i64)gridDim.y * blockDim.y) {
    i64 end = i + 1 < count ? starts[i + 1] : rows;
    for (i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x; column < columns; column += (i64)gridDim.x * blockDim.x) {
      float sum = y[targets[i] * ldy + column];
      for (i64 place = starts[i]; place < end; place++) sum += x[order[place] * ldx + column];
      y[targets[i] * ldy + column] = sum;
    }
  }
}
