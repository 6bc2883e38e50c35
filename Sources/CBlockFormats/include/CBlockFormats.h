// Storage formats of weights, their decoding to fp32 and their encoding. Bytes are little-endian and may lie at any address.
#pragma once
#include <stdint.h>

/// Decodes `blocks` blocks from `source` to `out`. Elements of a block: 1 for F16, BF16 and F64, 32 for Q*_0 and Q*_1,
/// 256 for Q*_K. The values are bit for bit those of gguf-py's `gguf.quants.dequantize`.
typedef void (*sl_block_decoder)(const void *source, int64_t blocks, float *out);

void sl_decode_f16(const void *source, int64_t blocks, float *out);
void sl_decode_bf16(const void *source, int64_t blocks, float *out);
void sl_decode_f64(const void *source, int64_t blocks, float *out);
void sl_decode_q4_0(const void *source, int64_t blocks, float *out);
void sl_decode_q4_1(const void *source, int64_t blocks, float *out);
void sl_decode_q5_0(const void *source, int64_t blocks, float *out);
void sl_decode_q5_1(const void *source, int64_t blocks, float *out);
void sl_decode_q8_0(const void *source, int64_t blocks, float *out);
void sl_decode_q2_k(const void *source, int64_t blocks, float *out);
void sl_decode_q3_k(const void *source, int64_t blocks, float *out);
void sl_decode_q4_k(const void *source, int64_t blocks, float *out);
void sl_decode_q5_k(const void *source, int64_t blocks, float *out);
void sl_decode_q6_k(const void *source, int64_t blocks, float *out);

/// Encodes `blocks` blocks of fp32 from `source` to `out`; the values must be finite, and no larger than f16 holds.
///
/// The scales are those that a search finds to have the least error, weights counting by their size. No calibration.
typedef void (*sl_block_encoder)(const float *source, int64_t blocks, void *out);

void sl_encode_q4_0(const float *source, int64_t blocks, void *out);
void sl_encode_q4_1(const float *source, int64_t blocks, void *out);
void sl_encode_q5_0(const float *source, int64_t blocks, void *out);
void sl_encode_q5_1(const float *source, int64_t blocks, void *out);
void sl_encode_q8_0(const float *source, int64_t blocks, void *out);
void sl_encode_q4_k(const float *source, int64_t blocks, void *out);
void sl_encode_q5_k(const float *source, int64_t blocks, void *out);
void sl_encode_q6_k(const float *source, int64_t blocks, void *out);

/// Rounds `count` floats to the nearest bf16 or f16, ties to even; NaN stays NaN. f16 overflows to infinity.
void sl_encode_bf16(const float *source, int64_t count, void *out);
void sl_encode_f16(const float *source, int64_t count, void *out);

/// Whether all of `count` fp32 numbers are finite.
int sl_is_finite_f32(const void *source, int64_t count);
/// Whether all of `count` numbers are finite and no larger than `greatest`, whatever their sign.
int sl_is_within_f32(const float *source, int64_t count, float greatest);
/// Whether all of `count` 16-bit numbers are finite; `exponent` has the bits of their exponent: 0x7F80 for bf16, 0x7C00
/// for f16.
int sl_is_finite_16(const void *source, int64_t count, uint16_t exponent);

/// Elements of an NF4 block, and blocks that share one nested absmax.
#define SL_NF4_BLOCK 64
#define SL_NF4_NESTED_BLOCK 256

/// What NF4's codes stand for, as parts of a block's absmax.
extern const float sl_nf4_values[16];

/// Quantizes `count` fp32 numbers to NF4 in blocks of 64, the last of which may be short: two codes in each byte, the first
/// in the high half, and each block's absmax. The bits are bitsandbytes 0.50's (its kernels for GPUs take an approximate
/// 1 / absmax and now and then choose the other one of two values that are as near).
void sl_quantize_nf4(const float *source, int64_t count, uint8_t *codes, float *absmax);

/// Writes bitsandbytes' signed dynamic map, 256 ascending numbers, bit for bit.
void sl_dynamic_map(float *map);

/// Double quantization of `count` absmax values in blocks of 256: codes of `map`, and the largest distance from the offset
/// of each block. The offset is the mean, summed in double and rounded; torch sums in fp32 in an order that depends on the
/// machine, so that its mean can differ in the last bits.
float sl_quantize_absmax(const float *absmax, int64_t count, const float *map, uint8_t *codes, float *nested);
/// The same around a given offset.
void sl_quantize_absmax_from(
  const float *absmax, int64_t count, const float *map, float offset, uint8_t *codes, float *nested);

/// absmax[i] = map[codes[first + i]] · nested[(first + i) / nested_block] + offset; `nested` is fp32 at any address.
void sl_decode_absmax(
  const uint8_t *codes, const void *nested, const float *map, float offset, int64_t nested_block, int64_t first,
  int64_t count, float *absmax);

/// What decoded values are rounded to.
typedef enum { SL_ROUND_NOT = 0, SL_ROUND_BF16 = 1, SL_ROUND_F16 = 2 } sl_rounding;

/// Decodes elements `first` to `first + count` of NF4 codes; `absmax` begins with the block that holds `first`.
void sl_decode_nf4(
  const uint8_t *codes, const float *absmax, int64_t block_length, int64_t first, int64_t count, sl_rounding rounding,
  float *out);

/// What lies above border k goes to code k + 1 or higher, what equals it to code k.
extern const float sl_nf4_borders[15];

/// For each block of 64 of `count` numbers in rows of `width` (a multiple of 64), the absmax, between 70 and 110% of the
/// largest magnitude, that leaves the smallest Σ importance · error²; `importance`: of each column.
void sl_search_absmax(const float *source, int64_t count, int64_t width, const float *importance, float *absmax);

/// Codes of whole blocks whose absmax is given: the nearest.
void sl_quantize_nf4_to(const float *source, int64_t count, const float *absmax, uint8_t *codes);

/// GPTQ's recursion (Frantar et al., 2022) in NF4's code book, with absmax values that stay as they are: columns are
/// quantized in `order`, and the error of each is made up for by those after it.
/// - rows: [count, width]; width a multiple of 64. absmax: of each block of them. codes: receives them.
/// - factor: the triangle R of `sl_reversed_triangle`, with the same order.
/// Returns Σ over rows of eᵀ (H + damping) e, where e is what a row has lost; NaN without memory.
double sl_compensate_nf4(
  int64_t count, int64_t width, const float *rows, const int32_t *order, const float *factor, const float *absmax,
  uint8_t *codes);

/// Rows and columns that steps of a factor take at once; n is a multiple of it.
enum { SL_FACTOR_TILE = 64 };

/// The steps to the upper triangle R, [n, n], with RᵀR = (H + damping · 1)⁻¹, where row i of H stands for column order[i].
/// This one fills rows `first` to `end` of a lower triangle l, [n, n], from the last column to the first. For each tile of
/// columns then follow `sl_cholesky_subtract` of all rows from it on, `sl_cholesky_diagonal` and `sl_cholesky_solve` of the
/// rows below; at the end `sl_inverse_columns` of each tile. Rows, and at the end tiles, are independent of each other.
void sl_reversed_triangle(
  int64_t n, const float *h, const int32_t *order, double damping, int64_t first, int64_t end, double *l);
/// Takes what the columns before `column` hold off the tile's columns of rows `first` to `end`.
void sl_cholesky_subtract(int64_t n, double *l, int64_t column, int64_t first, int64_t end);
/// The tile on the diagonal; 0, or -2 where the matrix is not positive definite.
int sl_cholesky_diagonal(int64_t n, double *l, int64_t column);
/// The tile's columns of rows `first` to `end`, below the diagonal's.
void sl_cholesky_solve(int64_t n, double *l, int64_t column, int64_t first, int64_t end);
/// The inverse of the factor, a tile of its columns, written where R has them; 0, or -1 without memory.
int sl_inverse_columns(int64_t n, const double *l, int64_t column, float *factor);

/// Σ over rows e of `errors` [count, width], width a multiple of 64, of eᵀ (H + damping · 1) e; NaN without memory.
double sl_quadratic_error(int64_t count, int64_t width, const float *errors, const float *h, double damping);
