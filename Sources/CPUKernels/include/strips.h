// Matrices that stay quantized in the formats of GGUF's blocks: decoding reads them as they are, prompts dequantize them
// while they multiply.
#pragma once
#include "linear.h"

/// A format of blocks. Elements of a block: 32 for *_0 and *_1, 256 for *_K.
typedef enum {
  SL_BLOCKS_Q4_0, SL_BLOCKS_Q4_1, SL_BLOCKS_Q5_0, SL_BLOCKS_Q5_1, SL_BLOCKS_Q8_0, SL_BLOCKS_Q4_K, SL_BLOCKS_Q5_K,
  SL_BLOCKS_Q6_K,
} sl_block_format;

/// What `sl_pack_blocks` returns where a scale is no finite number.
enum { sl_blocks_not_finite = -2 };

/// Takes over `n` rows of `k` elements in blocks, as the right-hand side [k, n] of products with operands of `dtype`; k is
/// a multiple of a block's length. Rows may lie at any address and are not needed afterwards. The packed matrix takes at
/// most 3% more than they. Returns 0, `sl_blocks_not_finite`, or a status code of `sl_matmul_error`.
int sl_pack_blocks(sl_dtype dtype, sl_block_format format, int64_t k, int64_t n, const void *const *rows,
                   sl_packed_matrix **packed);

/// Whether the matrix was packed by `sl_pack_blocks`.
int sl_is_in_blocks(const sl_packed_matrix *packed);

/// `sl_linear_forward` of a few rows, on any processor, with matrices that are all `sl_is_in_blocks`; x (at an even ldx) and the
/// pairs have `dtype`, and s must not be NULL where there is a pair. Weights enter as their blocks say, unrounded:
/// scale · Σ code · x, summed in fp32; a row's results do not depend on the other rows. Returns 0, or -1 without memory.
int sl_blocks_linear(sl_dtype dtype, int64_t rows, const void *x, int64_t ldx, int64_t inputs, int count,
                     const sl_linear_part *parts, int accumulate);

/// The matrix as dense rows first..<end of [n, k] in `dtype`, rounded to nearest even, on all threads.
void sl_blocks_unpack(const sl_packed_matrix *packed, int64_t first, int64_t end, sl_dtype dtype, void *rows);
