// What calibration sums up beside a backward pass: dot products of rows, weighted rows, and what quantizing a matrix changes.
#include "prelude.cuh"

/// dots[r] += Σ_c a[r, c] · b[r, c]: a warp per row.
template <class A, class B>
DEVICE void row_dots(i64 rows, i64 columns, const A *a, i64 lda, const B *b, i64 ldb, float *dots, int aligned) {
  i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  float sum = 0;
  for (i64 column = (i64)threadIdx.x * 8; column < columns; column += 256) {
    Eight x = load8(a + row * lda + column, columns - column, aligned), y = load8(b + row * ldb + column, columns - column, aligned);
#pragma unroll
    for (int i = 0; i < 8; i++) sum += x.v[i] * y.v[i];
  }
  sum = warp_sum(sum);
  if (threadIdx.x == 0) dots[row] += sum;
}
KERNEL(256, 1) row_dots_bf16_bf16(i64 rows, i64 columns, const u16 *a, i64 lda, const u16 *b, i64 ldb, float *dots, int aligned) {
  row_dots(rows, columns, a, lda, b, ldb, dots, aligned);
}
KERNEL(256, 1) row_dots_f32_bf16(i64 rows, i64 columns, const float *a, i64 lda, const u16 *b, i64 ldb, float *dots, int aligned) {
  row_dots(rows, columns, a, lda, b, ldb, dots, aligned);
}

/// y[r, c] = x[r, c] · factors[r].
KERNEL(256, 1) scale_rows_bf16(i64 rows, i64 columns, const u16 *x, i64 ldx, const float *factors, u16 *y, i64 ldy, int aligned) {
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.y * blockDim.y) {
    float factor = factors[row];
    for (i64 column = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8; column < columns;
         column += (i64)gridDim.x * blockDim.x * 8) {
      Eight value = load8(x + row * ldx + column, columns - column, aligned);
#pragma unroll
      for (int i = 0; i < 8; i++) value.v[i] *= factor;
      store8(y + row * ldy + column, value, columns - column, aligned);
    }
  }
}

/// y[r, c] -= x[r, c].
KERNEL(256, 1) subtract_bf16(i64 rows, i64 columns, const u16 *x, i64 ldx, u16 *y, i64 ldy, int aligned) {
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.y * blockDim.y)
    for (i64 column = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8; column < columns;
         column += (i64)gridDim.x * blockDim.x * 8) {
      Eight value = load8(y + row * ldy + column, columns - column, aligned);
      Eight other = load8(x + row * ldx + column, columns - column, aligned);
#pragma unroll
      for (int i = 0; i < 8; i++) value.v[i] -= other.v[i];
      store8(y + row * ldy + column, value, columns - column, aligned);
    }
}
