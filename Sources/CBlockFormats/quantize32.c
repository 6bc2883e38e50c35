// Weights into the formats with blocks of 32: see blocks32.c for how they lie.
#include "CBlockFormats.h"
#include "fit.h"

SL_INLINE void store16(uint8_t *at, uint16_t value) { memcpy(at, &value, 2); }

SL_INLINE void store32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }

// Large weights count more than in proportion to the squares of their errors, yet small ones still count.
SL_INLINE void moderate_weights(const float *x, float *weights) {
  float squares = 0;
  for (int i = 0; i < 32; i++) squares += x[i] * x[i];
  const float average = squares / 32;
  for (int i = 0; i < 32; i++) weights[i] = __builtin_sqrtf(average + x[i] * x[i]);
}

// Quants of 0 to 2 · half - 1 around `half`, and their scale as f16.
SL_INLINE uint16_t symmetric(const float *x, float half, uint8_t *quants) {
  float weights[32];
  moderate_weights(x, weights);
  const uint16_t d = sl_half_of_float(sl_fit_symmetric(x, weights, 32, half));
  const float scale = sl_float_of_half(d), inverse = scale != 0 ? 1 / scale : 0;
  for (int i = 0; i < 32; i++) quants[i] = (uint8_t)sl_nearest(x[i] * inverse + half, 2 * half - 1);
  return d;
}

// Quants of 0 to `highest`, their scale and minimum as f16.
SL_INLINE void affine(const float *x, float highest, uint8_t *quants, uint16_t *d, uint16_t *m) {
  float weights[32];
  sl_size_weights(x, 32, weights);
  const sl_affine fit = sl_fit_affine(x, weights, 32, highest, true);
  *d = sl_half_of_float(fit.scale);
  *m = sl_half_of_float(fit.minimum);
  const float scale = sl_float_of_half(*d), minimum = sl_float_of_half(*m), inverse = scale > 0 ? 1 / scale : 0;
  for (int i = 0; i < 32; i++) quants[i] = (uint8_t)sl_nearest((x[i] - minimum) * inverse, highest);
}

SL_INLINE void store_low(uint8_t *at, const uint8_t *quants) {
  for (int i = 0; i < 16; i++) at[i] = (uint8_t)((quants[i] & 15) | (quants[i + 16] & 15) << 4);
}

SL_INLINE uint32_t fifth_bits(const uint8_t *quants) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; i++) bits |= (uint32_t)(quants[i] >> 4 & 1) << i;
  return bits;
}

SL_KERNEL void sl_encode_q4_0(const float *source, int64_t blocks, void *out) {
  uint8_t *block = out, quants[32];
  for (int64_t b = 0; b < blocks; b++, block += 18, source += 32) {
    store16(block, symmetric(source, 8, quants));
    store_low(block + 2, quants);
  }
}

SL_KERNEL void sl_encode_q4_1(const float *source, int64_t blocks, void *out) {
  uint8_t *block = out, quants[32];
  for (int64_t b = 0; b < blocks; b++, block += 20, source += 32) {
    uint16_t d, m;
    affine(source, 15, quants, &d, &m);
    store16(block, d);
    store16(block + 2, m);
    store_low(block + 4, quants);
  }
}

SL_KERNEL void sl_encode_q5_0(const float *source, int64_t blocks, void *out) {
  uint8_t *block = out, quants[32];
  for (int64_t b = 0; b < blocks; b++, block += 22, source += 32) {
    store16(block, symmetric(source, 16, quants));
    store32(block + 2, fifth_bits(quants));
    store_low(block + 6, quants);
  }
}

SL_KERNEL void sl_encode_q5_1(const float *source, int64_t blocks, void *out) {
  uint8_t *block = out, quants[32];
  for (int64_t b = 0; b < blocks; b++, block += 24, source += 32) {
    uint16_t d, m;
    affine(source, 31, quants, &d, &m);
    store16(block, d);
    store16(block + 2, m);
    store32(block + 4, fifth_bits(quants));
    store_low(block + 8, quants);
  }
}

// Bit for bit what gguf-py and llama.cpp make: halves are rounded away from zero, by the scale before it became f16.
SL_KERNEL void sl_encode_q8_0(const float *source, int64_t blocks, void *out) {
  uint8_t *block = out;
  for (int64_t b = 0; b < blocks; b++, block += 34, source += 32) {
    float least, greatest;
    sl_extremes(source, 32, &least, &greatest);
    const float d = (-least > greatest ? -least : greatest) / 127, inverse = d != 0 ? 1 / d : 0;
    store16(block, sl_half_of_float(d));
    for (int i = 0; i < 32; i++) {
      const float value = source[i] * inverse, size = __builtin_fabsf(value);
      int32_t quant = (int32_t)size;
      quant += size - (float)quant >= 0.5f;
      block[2 + i] = (uint8_t)(value < 0 ? -quant : quant);
    }
  }
}
