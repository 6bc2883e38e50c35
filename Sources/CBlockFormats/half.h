// Half precision in integer arithmetic that vectorizes without any instruction set of its own.
#pragma once
#include <stdint.h>
#include <string.h>

// Kernels are compiled for several CPUs and chosen when the program starts.
#if defined(__x86_64__)
#define SL_KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SL_KERNEL
#endif

static inline float sl_float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t sl_bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static inline uint16_t sl_load16(const void *at) {
  uint16_t value;
  memcpy(&value, at, 2);
  return value;
}

static inline uint32_t sl_load32(const void *at) {
  uint32_t value;
  memcpy(&value, at, 4);
  return value;
}

static inline float sl_float_of_half(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16;
  uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
  uint32_t normal = magnitude + (112u << 23);
  // A subnormal half is a normal float: its exponent comes from a subtraction that is exact.
  uint32_t subnormal = sl_bits_of_float(sl_float_of_bits(magnitude + (113u << 23)) - sl_float_of_bits(113u << 23));
  uint32_t special = magnitude | 0x7f800000u;
  uint32_t bits = magnitude < (1u << 23) ? subnormal : magnitude >= (31u << 23) ? special : normal;
  return sl_float_of_bits(sign | bits);
}

static inline uint16_t sl_half_of_float(float value) {
  uint32_t bits = sl_bits_of_float(value);
  uint32_t sign = (bits >> 16) & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  // Rounded in integers: the carry out of the mantissa raises the exponent, up to infinity.
  uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Adding 0.5 aligns the mantissa so that the floating-point unit rounds at the last bit of a subnormal half.
  uint32_t subnormal = sl_bits_of_float(sl_float_of_bits(magnitude) + 0.5f) - sl_bits_of_float(0.5f);
  uint32_t special = magnitude > 0x7f800000u ? 0x7e00 : 0x7c00;
  uint32_t half = magnitude >= (143u << 23) ? special : magnitude < (113u << 23) ? subnormal : normal;
  return (uint16_t)(sign | half);
}

static inline uint16_t sl_bfloat_of_float(float value) {
  uint32_t bits = sl_bits_of_float(value);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  uint32_t quiet = (bits >> 16) | 0x40;
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000u ? quiet : rounded);
}
