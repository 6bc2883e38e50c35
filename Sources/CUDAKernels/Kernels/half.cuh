// Numbers of 16 bits as checkpoints in fp16 store them.
#pragma once
#include "prelude.cuh"

/// fp16 as it is stored.
struct half_bits {
  u16 bits;
};
DEVICE float load_one(const half_bits *p) {
  u32 h = p->bits, sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31u, mantissa = h & 1023u;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
  // Multiples of 2⁻²⁴.
  float value = (float)mantissa * 5.9604644775390625e-8f;
  return sign ? -value : value;
}
DEVICE Eight load_vector(const half_bits *p) {
  Eight x;
#pragma unroll
  for (int i = 0; i < 8; i++) x.v[i] = load_one(p + i);
  return x;
}
