// One row times a matrix: what decoding does for every token. Internal.
#pragma once
#include "include/types.h"

/// How a right-hand side [k, n] lies in memory: element (i, j) is at (i / k_block) · k_stride + (j / n_block) · n_stride
/// plus its place in the block, [k_block / pair][n_block][pair]. Plain layouts have blocks of 1.
typedef struct {
  int64_t k, n, k_block, n_block, pair, k_stride, n_stride;
} sl_block_layout;

/// Whether `sl_matvec` reads this layout in this type on this processor.
int sl_matvec_reads(const sl_block_layout *layout, sl_dtype dtype);

/// c[n] = a[k] · B (+ c), on all threads, at the memory's speed.
void sl_matvec(const sl_block_layout *layout, sl_dtype dtype, const void *a, const void *b, void *c, sl_dtype c_type,
               int accumulate);
