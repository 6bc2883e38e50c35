// Copies, conversions and reductions over whole tensors.
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

/// average = keep · average + (1 - keep) · x, over `count` dense elements.
void sl_mix(int64_t count, const float *x, float *average, float keep);
