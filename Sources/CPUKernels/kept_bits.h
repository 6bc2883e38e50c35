// Which elements dropout keeps, as bits. Internal.
#pragma once
#include "include/dropout.h"

/// Bit i of `bits` is 1 where the element `first + i` of those that `drop` decides on, counted row after row, is kept. What
/// lies beyond `count` in the last word is not defined.
typedef void sl_kept_bits(const sl_drop *drop, uint64_t first, int64_t count, uint64_t *bits);
/// The function of the path in use.
sl_kept_bits *sl_kept_bits_function(void);

/// What is done with a tile of rows on the calling thread, as include/dropout.h says of whole matrices: elements
/// first..<first + columns of rows of `width` elements, of which `x` and the others hold those alone.
void sl_drop_tile(int64_t rows, int64_t columns, int64_t width, int64_t first, const void *x, int64_t ldx, void *y,
                  int64_t ldy, sl_dtype dtype, const sl_drop *drop);
/// sums += g / (1 - p) where kept.
void sl_drop_tile_backward(int64_t rows, int64_t columns, int64_t width, int64_t first, const float *g, int64_t ldg,
                           float *sums, int64_t ld_sums, const sl_drop *drop);
