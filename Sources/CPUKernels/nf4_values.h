// A block's sixteen possible values, code · absmax rounded to bf16, fill half a register, and one instruction looks 32 elements
// up in it. Internal.
#pragma once
#include "CBlockFormats.h"

enum { block = 64, block_bytes = block / 2 };

#if defined(__x86_64__)
#include <immintrin.h>

#define NF4_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"
#define INLINE static inline __attribute__((always_inline))

/// A block's values in bf16, twice, so that bit 4 of an index does not matter.
INLINE __attribute__((target(NF4_TARGET))) __m512i values_of(float absmax) {
  __m512 values = _mm512_mul_ps(_mm512_loadu_ps(sl_nf4_values), _mm512_set1_ps(absmax));
  return _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh(values));
}
#endif
