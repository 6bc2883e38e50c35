#pragma once
#include <stdint.h>

/// out[rows, columns] += scale · B[rows, rank] · A[rank, columns], all fp32 and dense: an adapter added to its matrix. The
/// product is summed by itself before it is added, so that small ones are not lost to the matrix's rounding.
void sl_add_low_rank(int64_t rows, int64_t columns, int64_t rank, float scale, const float *b, const float *a,
                     float *out);

/// norms[r] = ‖values[r, ·]‖ of a dense fp32 matrix [rows, columns], summed so that no square overflows or vanishes.
void sl_row_norms(int64_t rows, int64_t columns, const float *values, float *norms);

/// values[r, ·] *= factors[r] in a dense fp32 matrix [rows, columns].
void sl_scale_rows(int64_t rows, int64_t columns, const float *factors, float *values);
