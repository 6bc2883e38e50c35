// Which codes and which absmax a matrix gets in NF4 where more is known than the matrix: what its inputs are like.
#include "CBlockFormats.h"
#include "half.h"
#include <math.h>

static float inverse_of(float absmax) { return 1.0f / (absmax > 1e-38f ? absmax : 1e-38f); }

// MARK: Absmax

SL_KERNEL void sl_search_absmax(
  const float *source, int64_t count, int64_t width, const float *importance, float *absmax
) {
  enum { fewest = 70, most = 110 };  // per cent of the largest magnitude
  for (int64_t block = 0; block < count / SL_NF4_BLOCK; block++) {
    const float *w = source + block * SL_NF4_BLOCK, *weight = importance + block * SL_NF4_BLOCK % width;
    float largest = 0;
    for (int i = 0; i < SL_NF4_BLOCK; i++) largest = fmaxf(largest, fabsf(w[i]));
    float best = largest, smallest_error = INFINITY;
    for (int percent = fewest; percent <= most && largest > 0; percent++) {
      const float candidate = largest * (float)percent / 100, inverse = inverse_of(candidate);
      float x[SL_NF4_BLOCK], value[SL_NF4_BLOCK];
      for (int i = 0; i < SL_NF4_BLOCK; i++) x[i] = w[i] * inverse, value[i] = sl_nf4_values[0];
      for (int border = 0; border < 15; border++) {
        const float limit = sl_nf4_borders[border], step = sl_nf4_values[border + 1] - sl_nf4_values[border];
        for (int i = 0; i < SL_NF4_BLOCK; i++) value[i] += x[i] > limit ? step : 0;
      }
      float errors[16] = {0}, error = 0;
      for (int i = 0; i < SL_NF4_BLOCK; i++) {
        const float difference = value[i] * candidate - w[i];
        errors[i % 16] += weight[i] * difference * difference;
      }
      for (int i = 0; i < 16; i++) error += errors[i];
      if (error < smallest_error) smallest_error = error, best = candidate;
    }
    absmax[block] = best;
  }
}

SL_KERNEL void sl_quantize_nf4_to(const float *source, int64_t count, const float *absmax, uint8_t *codes) {
  for (int64_t block = 0; block < count / SL_NF4_BLOCK; block++) {
    const float *w = source + block * SL_NF4_BLOCK, inverse = inverse_of(absmax[block]);
    float x[SL_NF4_BLOCK];
    int32_t code[SL_NF4_BLOCK] = {0};
    for (int i = 0; i < SL_NF4_BLOCK; i++) x[i] = w[i] * inverse;
    for (int border = 0; border < 15; border++) {
      const float limit = sl_nf4_borders[border];
      for (int i = 0; i < SL_NF4_BLOCK; i++) code[i] += x[i] > limit;
    }
    for (int i = 0; i < SL_NF4_BLOCK / 2; i++)
      codes[block * SL_NF4_BLOCK / 2 + i] = (uint8_t)(code[2 * i] << 4 | code[2 * i + 1]);
  }
}
