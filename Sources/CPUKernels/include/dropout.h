// Dropout and noise: what is drawn at random for each element.
#pragma once
#include "types.h"

/// What is dropped: element (r, c) of rows of `columns` is kept where Philox 4×32-10 (Salmon et al., 2011) of
/// ((first_row + r) · columns + c, stream) under the key `seed` reaches `probability`, so that forward, backward and
/// recomputation agree. A probability of 0: nothing is dropped.
typedef struct {
  float probability;
  uint64_t seed, stream;
  int64_t first_row;
} sl_drop;

/// y = x / (1 - p) where kept, else 0.
void sl_dropout(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *y, int64_t ldy, sl_dtype dtype,
                sl_drop drop);
/// dx += g / (1 - p) where kept; g is fp32.
void sl_dropout_backward(int64_t rows, int64_t columns, const float *g, int64_t ldg, void *dx, int64_t lddx,
                         sl_dtype dtype, sl_drop drop);

/// kept = x · k and rest = x - x · k, where k is 0 or 1 / (1 - p), drawn as sl_dropout draws it.
void sl_dropout_split(int64_t rows, int64_t columns, const void *x, int64_t ldx, void *kept, int64_t ld_kept, void *rest,
                      int64_t ld_rest, sl_dtype dtype, sl_drop drop);
/// dx = k · kept + (1 - k) · rest, or added to dx.
void sl_dropout_join(int64_t rows, int64_t columns, const float *kept, int64_t ld_kept, const float *rest,
                     int64_t ld_rest, void *dx, int64_t lddx, sl_dtype dtype, int accumulate, sl_drop drop);

/// x += uniform noise in ±bound: Philox of (r · columns + c, stream) under the key `seed`, as dropout draws.
void sl_add_noise(int64_t rows, int64_t columns, float *x, int64_t ldx, float bound, uint64_t seed, uint64_t stream);
