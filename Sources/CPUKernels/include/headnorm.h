// RMSNorm of each query and key head by itself: y = gamma · x · rstd, rstd = 1 / sqrt(mean(x²) + epsilon) of the head.
#pragma once
#include "types.h"

/// x: rows of [heads, head_dim] at ldx; gamma: fp32 [head_dim]; y: as x, at ldy, and may be x itself. rstd: fp32
/// [rows, heads], or NULL.
void sl_headnorm_forward(int64_t rows, int64_t heads, int64_t head_dim, const void *x, int64_t ldx, const float *gamma,
                         float epsilon, void *y, int64_t ldy, float *rstd, sl_dtype dtype);

/// Turns dy (rows of [heads, head_dim] at lddy) into dx in place: rstd · (gamma · dy - xhat · mean(gamma · dy · xhat)),
/// xhat = x · rstd.
void sl_headnorm_backward(int64_t rows, int64_t heads, int64_t head_dim, const void *x, int64_t ldx, const float *rstd,
                          const float *gamma, void *dy, int64_t lddy, sl_dtype dtype);
