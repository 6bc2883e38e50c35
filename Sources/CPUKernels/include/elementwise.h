// Copies, conversions, dropout and reductions over whole tensors.
#pragma once
#include "types.h"

/// Copies [rows, columns], converting between element types (round to nearest even).
void sl_copy(int64_t rows, int64_t columns, const void *source, sl_dtype source_type, int64_t source_stride,
             void *destination, sl_dtype destination_type, int64_t destination_stride);
/// destination[i] = source[i] · factor, over `count` dense elements.
void sl_scale(int64_t count, const float *source, float factor, void *destination, sl_dtype destination_type);
/// x[r, c] += bias[c].
void sl_add_bias(int64_t rows, int64_t columns, const float *bias, void *x, sl_dtype dtype, int64_t stride);
/// Σ x², in blocks summed in one order whatever the thread count.
double sl_squared_norm(int64_t count, const float *x);

/// y = x / (1 - p) where kept, else 0. Element (r, c) is kept or not by Philox 4×32-10 (Salmon et al., 2011) of
/// (r · columns + c, stream) under the key `seed`, so that forward, backward and recomputation agree.
void sl_dropout(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *y, int64_t ldy, sl_dtype dtype,
                float probability, uint64_t seed, uint64_t stream);
/// dx += g / (1 - p) where kept; g is fp32.
void sl_dropout_backward(int64_t rows, int64_t columns, const float *g, int64_t ldg, void *dx, int64_t lddx,
                         sl_dtype dtype, float probability, uint64_t seed, uint64_t stream);

/// x += uniform noise in ±bound: Philox of (r · columns + c, stream) under the key `seed`, as dropout draws.
void sl_add_noise(int64_t rows, int64_t columns, float *x, int64_t ldx, float bound, uint64_t seed, uint64_t stream);
/// average = keep · average + (1 - keep) · x, over `count` dense elements.
void sl_mix(int64_t count, const float *x, float *average, float keep);
