// The formats with blocks of 32: one scale (and for *_1 one minimum) in f16, then the quants.
#include "CBlockFormats.h"
#include "half.h"

// A product and a sum round one after the other, as they do in gguf-py: no fused multiply-add.
#pragma clang fp contract(off)

// scale f16, 16 bytes: element i in the low half of byte i, element i + 16 in its high half.
SL_KERNEL void sl_decode_q4_0(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 18, out += 32) {
    const float d = sl_float_of_half(sl_load16(block));
    for (int i = 0; i < 16; i++) {
      out[i] = d * (float)((block[2 + i] & 15) - 8);
      out[i + 16] = d * (float)((block[2 + i] >> 4) - 8);
    }
  }
}

// scale f16, minimum f16, 16 bytes as above.
SL_KERNEL void sl_decode_q4_1(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 20, out += 32) {
    const float d = sl_float_of_half(sl_load16(block)), m = sl_float_of_half(sl_load16(block + 2));
    for (int i = 0; i < 16; i++) {
      out[i] = d * (float)(block[4 + i] & 15) + m;
      out[i + 16] = d * (float)(block[4 + i] >> 4) + m;
    }
  }
}

// scale f16, 32 bits that are the fifth bits, 16 bytes as above.
SL_KERNEL void sl_decode_q5_0(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 22, out += 32) {
    const float d = sl_float_of_half(sl_load16(block));
    const uint32_t high = sl_load32(block + 2);
    for (int i = 0; i < 16; i++) {
      const int low = (int)((block[6 + i] & 15) | ((high >> i & 1) << 4));
      const int up = (int)((block[6 + i] >> 4) | ((high >> (i + 16) & 1) << 4));
      out[i] = d * (float)(low - 16);
      out[i + 16] = d * (float)(up - 16);
    }
  }
}

// scale f16, minimum f16, fifth bits, 16 bytes.
SL_KERNEL void sl_decode_q5_1(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 24, out += 32) {
    const float d = sl_float_of_half(sl_load16(block)), m = sl_float_of_half(sl_load16(block + 2));
    const uint32_t high = sl_load32(block + 4);
    for (int i = 0; i < 16; i++) {
      const int low = (int)((block[8 + i] & 15) | ((high >> i & 1) << 4));
      const int up = (int)((block[8 + i] >> 4) | ((high >> (i + 16) & 1) << 4));
      out[i] = d * (float)low + m;
      out[i + 16] = d * (float)up + m;
    }
  }
}

// scale f16, 32 signed bytes.
SL_KERNEL void sl_decode_q8_0(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 34, out += 32) {
    const float d = sl_float_of_half(sl_load16(block));
    const int8_t *quants = (const int8_t *)(block + 2);
    for (int i = 0; i < 32; i++) out[i] = d * (float)quants[i];
  }
}
