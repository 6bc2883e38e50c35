// bfloat16 as the upper half of an fp32. Internal to the kernels.
#pragma once
#include <stdint.h>
#include <string.h>

static inline float sl_bf16_to_float(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

/// Round to nearest even; NaN stays NaN.
static inline uint16_t sl_float_to_bf16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}
