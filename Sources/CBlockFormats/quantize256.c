// Weights into the K formats: see blocks256.c for how they lie.
//
// Each sub-block is fitted by itself; its scale and minimum are then rounded to multiples of the block's, and the block's
// two are fitted once more to the quants that come of it.
#include "CBlockFormats.h"
#include "fit.h"

// The eight sub-blocks of Q4_K and Q5_K.
typedef struct {
  uint16_t d, dmin;
  uint8_t scales[8], minima[8], quants[256];
} affine_block;

SL_INLINE float block_error(const float *x, const float *weights, const affine_block *block) {
  const float d = sl_float_of_half(block->d), dmin = sl_float_of_half(block->dmin);
  float error = 0;
  for (int g = 0; g < 8; g++) {
    const float scale = d * (float)block->scales[g], minimum = dmin * (float)block->minima[g];
    for (int i = 32 * g; i < 32 * g + 32; i++) {
      const float difference = scale * (float)block->quants[i] - minimum - x[i];
      error += weights[i] * difference * difference;
    }
  }
  return error;
}

// The quants for the scales and minima that the block has.
SL_INLINE void quantize(const float *x, float highest, affine_block *block) {
  const float d = sl_float_of_half(block->d), dmin = sl_float_of_half(block->dmin);
  for (int g = 0; g < 8; g++) {
    const float scale = d * (float)block->scales[g], minimum = dmin * (float)block->minima[g];
    const float inverse = scale > 0 ? 1 / scale : 0;
    for (int i = 32 * g; i < 32 * g + 32; i++) {
      block->quants[i] = (uint8_t)sl_nearest((x[i] + minimum) * inverse, highest);
    }
  }
}

// d and dmin by least squares for the quants that there are, then the quants for them, where that makes the error less.
SL_INLINE void refine(const float *x, const float *weights, float highest, affine_block *block) {
  float aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (int g = 0; g < 8; g++) {
    const float scale = (float)block->scales[g], minimum = -(float)block->minima[g];
    float w = 0, wl = 0, wll = 0, wx = 0, wxl = 0;
    for (int i = 32 * g; i < 32 * g + 32; i++) {
      const float quant = (float)block->quants[i], weighted = weights[i] * quant;
      w += weights[i];
      wl += weighted;
      wll += weighted * quant;
      wx += weights[i] * x[i];
      wxl += weighted * x[i];
    }
    aa += scale * scale * wll;
    ab += scale * minimum * wl;
    bb += minimum * minimum * w;
    ax += scale * wxl;
    bx += minimum * wx;
  }
  affine_block other = *block;
  const float determinant = aa * bb - ab * ab;
  if (determinant > 0) {
    const float d = (ax * bb - bx * ab) / determinant, dmin = (bx * aa - ax * ab) / determinant;
    if (!(d > 0) || dmin < 0) return;
    other.d = sl_half_of_float(d);
    other.dmin = sl_half_of_float(dmin);
  } else if (bb == 0 && aa > 0 && ax > 0) {
    other.d = sl_half_of_float(ax / aa);
  } else {
    return;
  }
  quantize(x, highest, &other);
  if (block_error(x, weights, &other) < block_error(x, weights, block)) *block = other;
}

SL_INLINE void fit(const float *x, float highest, affine_block *block) {
  float weights[256], scales[8], minima[8], greatest[2] = {0, 0};
  for (int g = 0; g < 8; g++) {
    sl_size_weights(x + 32 * g, 32, weights + 32 * g);
    const sl_affine found = sl_fit_affine(x + 32 * g, weights + 32 * g, 32, highest, false);
    scales[g] = found.scale;
    minima[g] = -found.minimum;
    greatest[0] = scales[g] > greatest[0] ? scales[g] : greatest[0];
    greatest[1] = minima[g] > greatest[1] ? minima[g] : greatest[1];
  }
  const float scale = greatest[0] > 0 ? 63 / greatest[0] : 0, minimum = greatest[1] > 0 ? 63 / greatest[1] : 0;
  for (int g = 0; g < 8; g++) {
    block->scales[g] = (uint8_t)sl_nearest(scales[g] * scale, 63);
    block->minima[g] = (uint8_t)sl_nearest(minima[g] * minimum, 63);
  }
  block->d = sl_half_of_float(greatest[0] / 63);
  block->dmin = sl_half_of_float(greatest[1] / 63);
  quantize(x, highest, block);
  refine(x, weights, highest, block);
  refine(x, weights, highest, block);
}

// d, dmin and the 6-bit scales and minima, eight of each in 12 bytes.
SL_INLINE void store_scales(const affine_block *block, uint8_t *out) {
  memcpy(out, &block->d, 2);
  memcpy(out + 2, &block->dmin, 2);
  for (int g = 0; g < 4; g++) {
    const int scale = block->scales[g + 4], minimum = block->minima[g + 4];
    out[4 + g] = (uint8_t)(block->scales[g] | scale >> 4 << 6);
    out[8 + g] = (uint8_t)(block->minima[g] | minimum >> 4 << 6);
    out[12 + g] = (uint8_t)((scale & 15) | (minimum & 15) << 4);
  }
}

// Sub-blocks 2k and 2k + 1 lie in the low and the high halves of 32 bytes.
SL_INLINE void store_low(const uint8_t *quants, uint8_t *out) {
  for (int k = 0; k < 4; k++) {
    for (int i = 0; i < 32; i++) {
      out[32 * k + i] = (uint8_t)((quants[64 * k + i] & 15) | (quants[64 * k + 32 + i] & 15) << 4);
    }
  }
}

SL_KERNEL void sl_encode_q4_k(const float *source, int64_t blocks, void *out) {
  uint8_t *to = out;
  for (int64_t b = 0; b < blocks; b++, to += 144, source += 256) {
    affine_block block;
    fit(source, 15, &block);
    store_scales(&block, to);
    store_low(block.quants, to + 16);
  }
}

SL_KERNEL void sl_encode_q5_k(const float *source, int64_t blocks, void *out) {
  uint8_t *to = out;
  for (int64_t b = 0; b < blocks; b++, to += 176, source += 256) {
    affine_block block;
    fit(source, 31, &block);
    store_scales(&block, to);
    for (int i = 0; i < 32; i++) {
      uint8_t bits = 0;
      for (int g = 0; g < 8; g++) bits |= (uint8_t)((block.quants[32 * g + i] >> 4 & 1) << g);
      to[16 + i] = bits;
    }
    store_low(block.quants, to + 48);
  }
}

// The sixteen sub-blocks of Q6_K; quants from 0 to 63 stand for -32 to 31.
typedef struct {
  uint16_t d;
  int8_t scales[16];
  uint8_t quants[256];
} symmetric_block;

SL_INLINE void quantize_symmetric(const float *x, symmetric_block *block) {
  const float d = sl_float_of_half(block->d);
  for (int g = 0; g < 16; g++) {
    const float scale = d * (float)block->scales[g], inverse = scale != 0 ? 1 / scale : 0;
    for (int i = 16 * g; i < 16 * g + 16; i++) block->quants[i] = (uint8_t)sl_nearest(x[i] * inverse + 32, 63);
  }
}

// The squared error with weights x², and what least squares make of d for the quants that there are.
SL_INLINE float symmetric_error(const float *x, const symmetric_block *block, float *solution) {
  const float d = sl_float_of_half(block->d);
  float error = 0, wxl = 0, wll = 0;
  for (int g = 0; g < 16; g++) {
    const float scale = (float)block->scales[g];
    for (int i = 16 * g; i < 16 * g + 16; i++) {
      const float quant = scale * ((float)block->quants[i] - 32), weight = x[i] * x[i];
      const float difference = d * quant - x[i];
      error += weight * difference * difference;
      wxl += weight * x[i] * quant;
      wll += weight * quant * quant;
    }
  }
  *solution = wll > 0 ? wxl / wll : d;
  return error;
}

SL_KERNEL void sl_encode_q6_k(const float *source, int64_t blocks, void *out) {
  uint8_t *to = out;
  for (int64_t b = 0; b < blocks; b++, to += 210, source += 256) {
    symmetric_block block = {0};
    float scales[16], largest = 0;
    for (int g = 0; g < 16; g++) {
      float weights[16];
      for (int i = 0; i < 16; i++) weights[i] = source[16 * g + i] * source[16 * g + i];
      scales[g] = sl_fit_symmetric(source + 16 * g, weights, 16, 32);
      largest = __builtin_fabsf(scales[g]) > __builtin_fabsf(largest) ? scales[g] : largest;
    }
    const float inverse = largest != 0 ? -128 / largest : 0;
    for (int g = 0; g < 16; g++) {
      block.scales[g] = (int8_t)(sl_nearest(scales[g] * inverse + 128, 255) - 128);
    }
    block.d = sl_half_of_float(-largest / 128);
    quantize_symmetric(source, &block);
    float solution, unused;
    const float error = symmetric_error(source, &block, &solution);
    symmetric_block other = block;
    other.d = sl_half_of_float(solution);
    quantize_symmetric(source, &other);
    if (symmetric_error(source, &other, &unused) < error) block = other;
    // Of each half, four runs of 32: the low bits of two in each byte, the high bits of four.
    for (int half = 0; half < 2; half++) {
      const uint8_t *quants = block.quants + 128 * half;
      for (int i = 0; i < 32; i++) {
        const int a = quants[i], b = quants[i + 32], c = quants[i + 64], e = quants[i + 96];
        to[64 * half + i] = (uint8_t)((a & 15) | (c & 15) << 4);
        to[64 * half + 32 + i] = (uint8_t)((b & 15) | (e & 15) << 4);
        to[128 + 32 * half + i] = (uint8_t)(a >> 4 | b >> 4 << 2 | c >> 4 << 4 | e >> 4 << 6);
      }
    }
    memcpy(to + 192, block.scales, 16);
    memcpy(to + 208, &block.d, 2);
  }
}
