// How matrices in blocks lie in memory once they are packed: strips of sixteen rows. Internal.
//
// The same element of a strip's sixteen rows lies in the sixteen 32-bit lanes of a vector, so that a lane sums a row:
// nothing is added across lanes, and a row's scale is one lane of the scales. A strip is a sequence of groups of
// `strip_group` elements along the rows:
//   32 elements:  scales f16[16], minima f16[16] (where there are any), codes of 32 elements
//   256 elements: scales f16[16], minima f16[16] (where there are any), then for each 32 elements:
//                 small scales u8[16] (of Q6_K two of i8[16], for 16 elements each), small minima u8[16] (where there are
//                 any), codes
// Codes of 32 elements of one lane: their low four bits in four vectors (element 8v + 2j + h in vector v at bit 16h + 4j),
// then fifth bits in one vector (element 2t + h at bit 16h + t), or fifth and sixth bits in two (element 16v + 2t + h in
// vector v at bit 16h + 2t). Codes of eight bits: eight vectors (element 4v + 2i + h in vector v at bit 16h + 8i).
// So a shift brings the codes of two neighbours to the low bits of a lane's two halves: an index for a table of bf16.
#pragma once
#include <stdbool.h>

#include "include/strips.h"

enum { strip_rows = 16 };

/// A matrix [n, k] in strips.
typedef struct {
  sl_block_format format;
  int64_t k, n;
  const uint8_t *values;
} sl_strips;

#define STRIP_FN static inline __attribute__((always_inline, unused))

/// `DO(format)` for every format that strips have.
#define EACH_STRIP_FORMAT(DO)                                                                                          \
  DO(SL_BLOCKS_Q4_0) DO(SL_BLOCKS_Q4_1) DO(SL_BLOCKS_Q5_0) DO(SL_BLOCKS_Q5_1)                                          \
  DO(SL_BLOCKS_Q8_0) DO(SL_BLOCKS_Q4_K) DO(SL_BLOCKS_Q5_K) DO(SL_BLOCKS_Q6_K)

STRIP_FN bool strip_is_large(sl_block_format f) { return f >= SL_BLOCKS_Q4_K; }
STRIP_FN int64_t strip_group(sl_block_format f) { return strip_is_large(f) ? 256 : 32; }
STRIP_FN bool strip_has_minima(sl_block_format f) {
  return f == SL_BLOCKS_Q4_1 || f == SL_BLOCKS_Q5_1 || f == SL_BLOCKS_Q4_K || f == SL_BLOCKS_Q5_K;
}
/// Bits of a code above the low four; 4 for codes of eight bits, which lie together.
STRIP_FN int strip_high_bits(sl_block_format f) {
  return f == SL_BLOCKS_Q8_0 ? 4 : f == SL_BLOCKS_Q6_K ? 2
       : f == SL_BLOCKS_Q5_0 || f == SL_BLOCKS_Q5_1 || f == SL_BLOCKS_Q5_K ? 1 : 0;
}
/// What is subtracted from a code.
STRIP_FN int strip_offset(sl_block_format f) {
  return f == SL_BLOCKS_Q4_0 ? 8 : f == SL_BLOCKS_Q5_0 ? 16 : f == SL_BLOCKS_Q6_K ? 32 : 0;
}
/// Bytes of the codes of 32 elements.
STRIP_FN int64_t strip_codes(sl_block_format f) { return 256 + 64 * strip_high_bits(f); }
/// Bytes of a group's scales and minima in f16.
STRIP_FN int64_t strip_head(sl_block_format f) { return strip_has_minima(f) ? 64 : 32; }
/// Bytes of the small scales of 32 elements, without minima.
STRIP_FN int64_t strip_small(sl_block_format f) { return f == SL_BLOCKS_Q6_K ? 32 : 16; }
STRIP_FN int64_t strip_group_bytes(sl_block_format f) {
  return strip_is_large(f) ? strip_head(f) + 8 * (strip_small(f) + (strip_has_minima(f) ? 16 : 0) + strip_codes(f))
                           : strip_head(f) + strip_codes(f);
}
STRIP_FN int64_t strip_bytes(sl_block_format f, int64_t k) { return k / strip_group(f) * strip_group_bytes(f); }
STRIP_FN int64_t strip_count(int64_t n) { return (n + strip_rows - 1) / strip_rows; }

/// The strips of a packed matrix; NULL for one that is packed otherwise, or for NULL.
const sl_strips *sl_packed_strips(const sl_packed_matrix *packed);

/// Dequantizes one panel (see panels.h) of the right-hand side [k, n]; for processors that use panels. The bits are those
/// of a matrix that was dequantized, rounded to bf16 and packed.
void sl_strip_panel(const sl_strips *strips, int64_t panel, uint32_t *out);
/// Packs strip `strip` of a matrix; 0, or `sl_blocks_not_finite`.
int sl_strip_pack(const sl_strips *shape, const void *const *rows, int64_t strip, uint8_t *out);
