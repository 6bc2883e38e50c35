// Sums over rows and factors of columns: gradients of vectors, and DoRA's magnitudes.
#pragma once
#include "types.h"

/// sums[c] += Σ_r dy[r, c] · z[r, c] · row_scales[r]; z and row_scales may be NULL. Same bits whatever the thread count.
void sl_add_column_sums(int64_t rows, int64_t columns, const void *dy, int64_t lddy, sl_dtype dy_type, const void *z,
                        int64_t ldz, sl_dtype z_type, const float *row_scales, float *sums);
/// y[r, c] = x[r, c] · factors[c], or added to y; y may be x.
void sl_scale_columns(int64_t rows, int64_t columns, const void *x, int64_t ldx, sl_dtype x_type, const float *factors,
                      void *y, int64_t ldy, sl_dtype y_type, int accumulate);
/// inverses[o] = 1 / √(squared[o] + Σ_r b[o, r] · products[r, o]), factors[o] = magnitudes[o] · inverses[o].
/// b: [outputs, rank] dense in b_type; products: fp32 [rank, outputs] dense.
void sl_adapted_row_norms(int64_t outputs, int64_t rank, const float *squared, const void *b, sl_dtype b_type,
                          const float *products, const float *magnitudes, float *inverses, float *factors);
/// destination[rows[i]] += source[i] for each of `count` rows, in this order. Same bits whatever the thread count.
void sl_scatter_add(int64_t count, int64_t columns, const float *source, int64_t lds, const int32_t *rows,
                    float *destination, int64_t ldd);
