// NF4 with double quantization, as bitsandbytes 0.50 defines it (QLoRA, Dettmers et al., 2023).
//
// Every sum and product is rounded by itself, as bitsandbytes' are: no fused multiply-add but where one is written.
#include "CBlockFormats.h"
#include "half.h"
#include <math.h>

#pragma clang fp contract(off)

const float sl_nf4_values[16] = {
  -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
  -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
  0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
};

// Halfway between the values; what equals one goes to the code below.
const float sl_nf4_borders[15] = {
  -0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
  -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f, 0.2035212516784668f,
  0.2920137718319893f, 0.3893125355243683f, 0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f,
};

SL_KERNEL void sl_quantize_nf4(const float *source, int64_t count, uint8_t *codes, float *absmax) {
  for (int64_t start = 0, block = 0; start < count; start += SL_NF4_BLOCK, block++) {
    const int length = (int)(count - start < SL_NF4_BLOCK ? count - start : SL_NF4_BLOCK);
    float values[SL_NF4_BLOCK] = {0};
    memcpy(values, source + start, (size_t)length * sizeof(float));
    // Bits without their sign are ordered as magnitudes are, and their maximum is a vector instruction.
    uint32_t bits = 0;
    for (int i = 0; i < SL_NF4_BLOCK; i++) {
      const uint32_t magnitude = sl_bits_of_float(values[i]) & 0x7FFFFFFF;
      bits = magnitude > bits ? magnitude : bits;
    }
    const float largest = sl_float_of_bits(bits);
    absmax[block] = largest;
    // So that a block of zeros keeps the code of zero.
    const float inverse = 1.0f / (largest > 1e-38f ? largest : 1e-38f);
    for (int i = 0; i < SL_NF4_BLOCK; i++) values[i] *= inverse;
    int32_t code[SL_NF4_BLOCK] = {0};
    // Whole vectors at each border: this order is the one that compilers vectorize.
    for (int border = 0; border < 15; border++) {
      const float limit = sl_nf4_borders[border];
      for (int i = 0; i < SL_NF4_BLOCK; i++) code[i] += values[i] > limit;
    }
    uint8_t *packed = codes + start / 2;
    for (int i = 0; i < (length + 1) / 2; i++) packed[i] = (uint8_t)(code[2 * i] << 4 | code[2 * i + 1]);
  }
}

void sl_dynamic_map(float *map) {
  // Seven decades, of 1 to 64 values each with both signs; 127 stand below zero and 127 above it, then 1.
  map[127] = 0;
  map[255] = 1;
  int place = 1;
  for (int decade = 0; decade < 7; decade++) {
    const int parts = 1 << decade;
    const float scale = (float)(decade == 6 ? 1.0 : pow(10, decade - 6));
    const float step = (1.0f - 0.1f) / (float)parts;
    float before = 0.1f;
    for (int i = 1; i <= parts; i++) {
      // As torch.linspace does: the first half from the start, the second from the end, each fused.
      const float edge = i < (parts + 1) / 2 ? fmaf(step, (float)i, 0.1f) : fmaf(-step, (float)(parts - i), 1.0f);
      const float value = scale * ((before + edge) / 2.0f);
      before = edge;
      map[127 + place] = value;
      map[127 - place] = -value;
      place++;
    }
  }
}

// The nearest of the map's values, found as bitsandbytes' kernel does: of two equally near, the one of even index.
static uint8_t nearest(const float *map, float x) {
  int pivot = 127, above = 255, below = 0;
  for (int step = 64; step > 0; step >>= 1) {
    if (x > map[pivot]) {
      below = pivot;
      pivot += step;
    } else {
      above = pivot;
      pivot -= step;
    }
  }
  if (x > map[pivot]) return (uint8_t)(x > (map[above] + map[pivot]) * 0.5f ? above : pivot);
  return (uint8_t)(x < (map[below] + map[pivot]) * 0.5f ? below : pivot);
}

float sl_quantize_absmax(const float *absmax, int64_t count, const float *map, uint8_t *codes, float *nested) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += absmax[i];
  const float offset = count > 0 ? (float)(sum / (double)count) : 0;
  sl_quantize_absmax_from(absmax, count, map, offset, codes, nested);
  return offset;
}

void sl_quantize_absmax_from(
  const float *absmax, int64_t count, const float *map, float offset, uint8_t *codes, float *nested
) {
  for (int64_t start = 0, block = 0; start < count; start += SL_NF4_NESTED_BLOCK, block++) {
    const int length = (int)(count - start < SL_NF4_NESTED_BLOCK ? count - start : SL_NF4_NESTED_BLOCK);
    float largest = 0;
    for (int i = 0; i < length; i++) largest = fmaxf(largest, fabsf(absmax[start + i] - offset));
    nested[block] = largest;
    const float inverse = 1.0f / largest;
    for (int i = 0; i < length; i++)
      codes[start + i] = largest > 0 ? nearest(map, (absmax[start + i] - offset) * inverse) : 127;
  }
}

void sl_decode_absmax(
  const uint8_t *codes, const void *nested, const float *map, float offset, int64_t nested_block, int64_t first,
  int64_t count, float *absmax
) {
  for (int64_t i = 0; i < count; i++) {
    const float scale = sl_float_of_bits(sl_load32((const uint8_t *)nested + 4 * ((first + i) / nested_block)));
    const float product = map[codes[first + i]] * scale;
    absmax[i] = product + offset;
  }
}

// A value in the type that the matrix had before it was quantized.
static inline float rounded(float value, sl_rounding rounding) {
  switch (rounding) {
  case SL_ROUND_BF16: return sl_float_of_bits((uint32_t)sl_bfloat_of_float(value) << 16);
  case SL_ROUND_F16: return sl_float_of_half(sl_half_of_float(value));
  default: return value;
  }
}

void sl_decode_nf4(
  const uint8_t *codes, const float *absmax, int64_t block_length, int64_t first, int64_t count, sl_rounding rounding,
  float *out
) {
  const int64_t first_block = first / block_length, end = first + count;
  for (int64_t start = first; start < end;) {
    const int64_t block = start / block_length;
    const int64_t border = (block + 1) * block_length;
    const int64_t stop = border < end ? border : end;
    float values[16];
    for (int i = 0; i < 16; i++) values[i] = rounded(sl_nf4_values[i] * absmax[block - first_block], rounding);
    int64_t i = start;
    if (i & 1) *out++ = values[codes[i++ >> 1] & 15];
    for (; i + 1 < stop; i += 2, out += 2) {
      const uint8_t pair = codes[i >> 1];
      out[0] = values[pair >> 4];
      out[1] = values[pair & 15];
    }
    if (i < stop) *out++ = values[codes[i >> 1] >> 4];
    start = stop;
  }
}
