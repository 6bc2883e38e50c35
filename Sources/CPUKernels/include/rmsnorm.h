// RMSNorm of the fp32 residual stream: y = gamma · x · rstd, rstd = 1 / sqrt(mean(x²) + epsilon).
#pragma once
#include "types.h"

/// x: fp32 [rows, width] at ldx; gamma: fp32 [width]; y: [rows, width] at ldy in dtype. rstd: fp32 [rows], or NULL.
/// copy: x in dtype at ld_copy (what the backward pass reads), or NULL.
void sl_rmsnorm_forward(int64_t rows, int64_t width, const float *x, int64_t ldx, const float *gamma, float epsilon,
                        void *y, int64_t ldy, float *rstd, void *copy, int64_t ld_copy, sl_dtype dtype);

/// y again from the saved copy of x (dtype, at ldx) and rstd.
void sl_rmsnorm_apply(int64_t rows, int64_t width, const void *x, int64_t ldx, const float *rstd, const float *gamma,
                      void *y, int64_t ldy, sl_dtype dtype);

/// dx += rstd · (gamma · dy - xhat · mean(gamma · dy · xhat)), xhat = x · rstd from the saved copy x (dtype, at ldx).
/// dy: [rows, width] at lddy in dy_dtype; dx: fp32 [rows, width] at lddx. copy: the new dx in dtype at ld_copy, or NULL.
void sl_rmsnorm_backward(int64_t rows, int64_t width, const void *x, int64_t ldx, const float *rstd,
                         const float *gamma, const void *dy, int64_t lddy, sl_dtype dy_dtype, float *dx, int64_t lddx,
                         void *copy, int64_t ld_copy, sl_dtype dtype);
