// Sums over tokens that say how much the elements of a weight matrix matter.
#pragma once
#include "types.h"

/// dots[t] = Σ_i a[t, i] · b[t, i]; a: [rows, columns] at lda in a_type, b likewise.
void sl_row_dots(int64_t rows, int64_t columns, const void *a, int64_t lda, sl_dtype a_type, const void *b, int64_t ldb,
                 sl_dtype b_type, float *dots);
/// sums[i] += Σ_t weights[t] · x[t, i]².
void sl_add_weighted_squares(int64_t rows, int64_t columns, const void *x, int64_t ldx, sl_dtype type,
                             const float *weights, float *sums);
/// y[t, i] = weights[t] · x[t, i]; y: dense, of x's type.
void sl_weigh_rows(int64_t rows, int64_t columns, const void *x, int64_t ldx, sl_dtype type, const float *weights, void *y);
