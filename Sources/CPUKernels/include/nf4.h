// Products with matrices whose elements are kept in four bits (NF4).
#pragma once
#include "matmul.h"

/// A matrix [outputs, inputs] in NF4: two codes in each byte, the first in the high half, in blocks of 64 elements of a row;
/// inputs is a multiple of 64. An element is its code's value times its block's absmax, rounded to the operand type.
typedef struct {
  int64_t outputs, inputs;
  const uint8_t *codes;
  const float *absmax;
} sl_nf4_matrix;

/// Whether products in this type go through panels (`sl_nf4_pack`), and a few rows through `sl_nf4_rows`.
int sl_nf4_is_fused(sl_dtype dtype);

/// Dequantizes the matrix to dense rows [outputs, inputs], on all threads.
void sl_nf4_unpack(const sl_nf4_matrix *matrix, sl_dtype dtype, void *rows);

/// A right-hand side [k, n] in bf16 panels that lies in memory of the caller's, of sl_nf4_packed_size(k, n) bytes at a
/// multiple of 64; NULL without memory. `sl_packed_matrix_destroy` leaves that memory alone.
sl_packed_matrix *sl_nf4_packed(int64_t k, int64_t n, void *values);
size_t sl_nf4_packed_size(int64_t k, int64_t n);

/// Dequantizes the matrix into the values of a packed one, on all threads: its transpose ([inputs, outputs]: forward), or
/// with `backward` itself.
void sl_nf4_pack(const sl_nf4_matrix *matrix, int backward, sl_packed_matrix *packed);

/// y[rows, outputs] = x · Wᵀ (+ y) of a few rows, on all threads, straight from the codes. x: bf16 [rows, inputs] at ldx. A row's
/// results do not depend on the other rows. Returns 0, or -1 without memory.
int sl_nf4_rows(const sl_nf4_matrix *matrix, int64_t rows, const void *x, int64_t ldx, void *y, sl_dtype y_type,
                int64_t ldy, int accumulate);
