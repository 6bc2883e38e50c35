// The K formats: blocks of 256 in sub-blocks of 16 or 32 that have small scales of their own.
#include "CBlockFormats.h"
#include "half.h"

// A product and a sum round one after the other, as they do in gguf-py: no fused multiply-add.
#pragma clang fp contract(off)

// 16 bytes of scale (low half) and minimum (high half), 64 bytes of 2-bit quants, d f16, dmin f16.
SL_KERNEL void sl_decode_q2_k(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 84, out += 256) {
    const float d = sl_float_of_half(sl_load16(block + 80)), dmin = sl_float_of_half(sl_load16(block + 82));
    for (int g = 0; g < 16; g++) {
      // Each half of the block lies in 32 bytes: its four pairs of sub-blocks are the four 2-bit planes.
      const uint8_t *quants = block + 16 + 32 * (g / 8) + 16 * (g % 2);
      const int shift = 2 * (g / 2 % 4);
      const float scale = d * (float)(block[g] & 15), minimum = dmin * (float)(block[g] >> 4);
      for (int i = 0; i < 16; i++) out[16 * g + i] = scale * (float)(quants[i] >> shift & 3) - minimum;
    }
  }
}

// 32 bytes of third bits, 64 bytes of 2-bit quants, 12 bytes of sixteen 6-bit scales, d f16.
SL_KERNEL void sl_decode_q3_k(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 110, out += 256) {
    const uint8_t *packed = block + 96;
    const float d = sl_float_of_half(sl_load16(block + 108));
    for (int g = 0; g < 16; g++) {
      const int low = g < 8 ? packed[g] & 15 : packed[g - 8] >> 4;
      const int high = packed[8 + g % 4] >> (2 * (g / 4)) & 3;
      const float scale = d * (float)((low | high << 4) - 32);
      const uint8_t *quants = block + 32 + 32 * (g / 8) + 16 * (g % 2), *bits = block + 16 * (g % 2);
      const int shift = 2 * (g / 2 % 4), bit = g / 2;
      for (int i = 0; i < 16; i++) {
        // The third bit says "do not subtract 4".
        const int quant = (quants[i] >> shift & 3) - ((bits[i] >> bit & 1) ? 0 : 4);
        out[16 * g + i] = scale * (float)quant;
      }
    }
  }
}

// The 6-bit scale and minimum of sub-block `g` of Q4_K and Q5_K, eight of each in 12 bytes.
static inline void scale_and_minimum(const uint8_t *packed, int g, float *scale, float *minimum) {
  if (g < 4) {
    *scale = (float)(packed[g] & 63);
    *minimum = (float)(packed[g + 4] & 63);
  } else {
    *scale = (float)((packed[g + 4] & 15) | (packed[g - 4] >> 2 & 0x30));
    *minimum = (float)((packed[g + 4] >> 4) | (packed[g] >> 2 & 0x30));
  }
}

// d f16, dmin f16, 12 bytes of scales and minima, 128 bytes of 4-bit quants.
SL_KERNEL void sl_decode_q4_k(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 144, out += 256) {
    const float d = sl_float_of_half(sl_load16(block)), dmin = sl_float_of_half(sl_load16(block + 2));
    for (int g = 0; g < 8; g++) {
      float scale, minimum;
      scale_and_minimum(block + 4, g, &scale, &minimum);
      scale *= d;
      minimum *= dmin;
      const uint8_t *quants = block + 16 + 32 * (g / 2);
      const int shift = 4 * (g % 2);
      for (int i = 0; i < 32; i++) out[32 * g + i] = scale * (float)(quants[i] >> shift & 15) - minimum;
    }
  }
}

// d f16, dmin f16, 12 bytes of scales and minima, 32 bytes of fifth bits, 128 bytes of 4-bit quants.
SL_KERNEL void sl_decode_q5_k(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 176, out += 256) {
    const float d = sl_float_of_half(sl_load16(block)), dmin = sl_float_of_half(sl_load16(block + 2));
    for (int g = 0; g < 8; g++) {
      float scale, minimum;
      scale_and_minimum(block + 4, g, &scale, &minimum);
      scale *= d;
      minimum *= dmin;
      const uint8_t *quants = block + 48 + 32 * (g / 2), *bits = block + 16;
      const int shift = 4 * (g % 2);
      for (int i = 0; i < 32; i++) {
        const int quant = (quants[i] >> shift & 15) | (bits[i] >> g & 1) << 4;
        out[32 * g + i] = scale * (float)quant - minimum;
      }
    }
  }
}

// 128 bytes of low 4 bits, 64 bytes of high 2 bits, sixteen signed scales, d f16.
SL_KERNEL void sl_decode_q6_k(const void *source, int64_t blocks, float *out) {
  const uint8_t *block = source;
  for (int64_t b = 0; b < blocks; b++, block += 210, out += 256) {
    const int8_t *scales = (const int8_t *)(block + 192);
    const float d = sl_float_of_half(sl_load16(block + 208));
    for (int g = 0; g < 16; g++) {
      const int half = g / 8, part = g / 2 % 4;
      const uint8_t *low = block + 64 * half + 32 * (part % 2) + 16 * (g % 2);
      const uint8_t *high = block + 128 + 32 * half + 16 * (g % 2);
      const int lowShift = 4 * (part / 2), highShift = 2 * part;
      const float scale = d * (float)scales[g];
      for (int i = 0; i < 16; i++) {
        const int quant = (low[i] >> lowShift & 15) | (high[i] >> highShift & 3) << 4;
        out[16 * g + i] = scale * (float)(quant - 32);
      }
    }
  }
}
