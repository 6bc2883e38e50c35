// RMSNorm of the fp32 residual stream: y = γ · x · rstd, rstd = 1 / √(mean(x²) + ε). One block per row; the row's second
// reading comes from the cache.
#include "prelude.cuh"

#define EACH_EIGHT(width) for (i64 i = (i64)threadIdx.x * 8; i < (width); i += (i64)blockDim.x * 8)

/// x: fp32 [rows, width]; y, saved (x in bf16, or null): bf16 [rows, width]; rstd: fp32 [rows], or null.
KERNEL(1024, 1) rmsnorm_forward(i64 width, const float *x, i64 ldx, const float *gamma, float epsilon, u16 *y, i64 ldy,
                                float *rstd, u16 *saved, i64 ld_saved, int aligned) {
  __shared__ float room[32];
  i64 row = blockIdx.x, at = (i64)threadIdx.x * 8;
  x += row * ldx;
  // A thread's elements of a row that is no wider stay in registers; γ is there before the row is.
  int narrow_row = aligned && width % 8 == 0 && width <= (i64)blockDim.x * 8;
  Eight own = {}, factors = {};
  if (narrow_row && at < width) factors = load_vector(gamma + at);
  wait_for_previous();
  let_next_begin();
  if (narrow_row) {
    if (at < width) own = load_vector(x + at);
    float squares = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) squares += own.v[j] * own.v[j];
    float r = 1.0f / sqrtf(block_sum(squares, room) / (float)width + epsilon);
    if (threadIdx.x == 0 && rstd != 0) rstd[row] = r;
    if (at >= width) return;
    if (saved != 0) store_vector(saved + row * ld_saved + at, own);
#pragma unroll
    for (int j = 0; j < 8; j++) own.v[j] *= r * factors.v[j];
    store_vector(y + row * ldy + at, own);
    return;
  }
  float sum = 0;
  EACH_EIGHT(width) {
    Eight value = load8(x + i, width - i, aligned);
#pragma unroll
    for (int j = 0; j < 8; j++) sum += value.v[j] * value.v[j];
  }
  float r = 1.0f / sqrtf(block_sum(sum, room) / (float)width + epsilon);
  if (threadIdx.x == 0 && rstd != 0) rstd[row] = r;
  EACH_EIGHT(width) {
    Eight value = load8(x + i, width - i, aligned), g = load8(gamma + i, width - i, aligned);
    if (saved != 0) store8(saved + row * ld_saved + i, value, width - i, aligned);
#pragma unroll
    for (int j = 0; j < 8; j++) value.v[j] *= r * g.v[j];
    store8(y + row * ldy + i, value, width - i, aligned);
  }
}

/// y again, from the saved x and rstd.
KERNEL(1024, 1) rmsnorm_apply(i64 width, const u16 *saved, i64 ldx, const float *rstd, const float *gamma, u16 *y, i64 ldy,
                              int aligned) {
  i64 row = blockIdx.x;
  float r = rstd[row];
  EACH_EIGHT(width) {
    Eight value = load8(saved + row * ldx + i, width - i, aligned), g = load8(gamma + i, width - i, aligned);
#pragma unroll
    for (int j = 0; j < 8; j++) value.v[j] *= r * g.v[j];
    store8(y + row * ldy + i, value, width - i, aligned);
  }
}

template <class T>
DEVICE void backward(i64 width, const u16 *saved, i64 ldx, const float *rstd, const float *gamma, const T *dy, i64 lddy,
                     float *dx, i64 lddx, u16 *copy, i64 ld_copy, int aligned) {
  __shared__ float room[32];
  i64 row = blockIdx.x;
  float r = rstd[row], sum = 0;
  saved += row * ldx, dy += row * lddy, dx += row * lddx;
  EACH_EIGHT(width) {
    Eight x = load8(saved + i, width - i, aligned), g = load8(gamma + i, width - i, aligned);
    Eight d = load8(dy + i, width - i, aligned);
#pragma unroll
    for (int j = 0; j < 8; j++) sum += g.v[j] * d.v[j] * x.v[j];
  }
  float along = block_sum(sum, room) * r * r / (float)width;  // mean(γ · dy · x̂) · rstd
  EACH_EIGHT(width) {
    Eight x = load8(saved + i, width - i, aligned), g = load8(gamma + i, width - i, aligned);
    Eight d = load8(dy + i, width - i, aligned), total = load8(dx + i, width - i, aligned);
#pragma unroll
    for (int j = 0; j < 8; j++) total.v[j] += r * (g.v[j] * d.v[j] - x.v[j] * along);
    store8(dx + i, total, width - i, aligned);
    if (copy != 0) store8(copy + row * ld_copy + i, total, width - i, aligned);
  }
}

/// dx += rstd · (γ · dy - x̂ · mean(γ · dy · x̂)), x̂ = x · rstd; copy: the new dx in bf16, or null.
KERNEL(1024, 1) rmsnorm_backward_f32(i64 width, const u16 *saved, i64 ldx, const float *rstd, const float *gamma,
                                     const float *dy, i64 lddy, float *dx, i64 lddx, u16 *copy, i64 ld_copy, int aligned) {
  backward(width, saved, ldx, rstd, gamma, dy, lddy, dx, lddx, copy, ld_copy, aligned);
}
KERNEL(1024, 1) rmsnorm_backward_bf16(i64 width, const u16 *saved, i64 ldx, const float *rstd, const float *gamma,
                                      const u16 *dy, i64 lddy, float *dx, i64 lddx, u16 *copy, i64 ld_copy, int aligned) {
  backward(width, saved, ldx, rstd, gamma, dy, lddy, dx, lddx, copy, ld_copy, aligned);
}

// MARK: Heads

/// y = x · rstd · γ for each head by itself: x, y bf16 [rows, heads · d], γ fp32 [d], rstd fp32 [rows, heads] or null; y may
/// be x. One warp per head of a row, 4 to a block.
KERNEL(128, 1) headnorm_forward(i64 rows, int heads, int d, const u16 *x, i64 ldx, const float *gamma, float epsilon, u16 *y,
                                i64 ldy, float *rstd) {
  i64 work = (i64)blockIdx.x * 4 + threadIdx.x / 32;
  if (work >= rows * heads) return;
  i64 row = work / heads, head = work % heads;
  x += row * ldx + head * d, y += row * ldy + head * d;
  float sum = 0;
  for (int i = threadIdx.x % 32; i < d; i += 32) sum += widen(x[i]) * widen(x[i]);
  float r = 1.0f / sqrtf(warp_sum(sum) / (float)d + epsilon);
  if (rstd != 0 && threadIdx.x % 32 == 0) rstd[work] = r;
  for (int i = threadIdx.x % 32; i < d; i += 32) y[i] = narrow(widen(x[i]) * r * gamma[i]);
}

/// gradient, that of y, becomes that of x.
KERNEL(128, 1) headnorm_backward(i64 rows, int heads, int d, const u16 *x, i64 ldx, const float *rstd, const float *gamma,
                                 u16 *gradient, i64 ldg) {
  i64 work = (i64)blockIdx.x * 4 + threadIdx.x / 32;
  if (work >= rows * heads) return;
  i64 row = work / heads, head = work % heads;
  x += row * ldx + head * d, gradient += row * ldg + head * d;
  float r = rstd[work], sum = 0;
  for (int i = threadIdx.x % 32; i < d; i += 32) sum += gamma[i] * widen(gradient[i]) * widen(x[i]);
  float along = warp_sum(sum) * r * r / (float)d;
  for (int i = threadIdx.x % 32; i < d; i += 32)
    gradient[i] = narrow(r * (gamma[i] * widen(gradient[i]) - widen(x[i]) * along));
}
