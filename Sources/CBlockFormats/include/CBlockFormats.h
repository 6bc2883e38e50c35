// Storage formats of weights and their decoding to fp32. Bytes are little-endian and may lie at any address.
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

/// Rounds `count` floats to the nearest bf16 or f16, ties to even; NaN stays NaN. f16 overflows to infinity.
void sl_encode_bf16(const float *source, int64_t count, void *out);
void sl_encode_f16(const float *source, int64_t count, void *out);

/// Whether all of `count` fp32 numbers are finite.
int sl_is_finite_f32(const void *source, int64_t count);
/// Whether all of `count` 16-bit numbers are finite; `exponent` has the bits of their exponent: 0x7F80 for bf16, 0x7C00
/// for f16.
int sl_is_finite_16(const void *source, int64_t count, uint16_t exponent);
