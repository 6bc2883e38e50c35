// Strips into panels of bf16: three strips side by side are a panel's 48 columns, and the codes of neighbours lie in one
// lane already, as panels want them.
#include <string.h>

#include "panels.h"
#include "strips.h"

#if defined(__x86_64__)
#include <immintrin.h>

// A product and a sum round one after the other, as in CBlockFormats.
#pragma clang fp contract(off)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"))),      \
                             apply_to = function)
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("clang loop unroll(full)")

INLINE __m512 halves(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE __m512 bytes(const uint8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE __m512 signed_bytes(const uint8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/// Element `i` of 32 of each lane, less the format's offset.
INLINE __m512 code(const sl_block_format f, const uint8_t *codes, const int i) {
  const int bits = strip_high_bits(f);
  if (bits == 4) {
    const __m512i w = _mm512_loadu_si512(codes + 64 * (i / 4));
    const int place = 16 * (i & 1) + 8 * (i % 4 / 2);
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(w, 24 - place), 24));
  }
  const __m512i w = _mm512_loadu_si512(codes + 64 * (i / 8));
  __m512i c = _mm512_and_si512(_mm512_srli_epi32(w, 16 * (i & 1) + 4 * (i % 8 / 2)), _mm512_set1_epi32(15));
  if (bits > 0) {
    const int within = bits == 1 ? i : i % 16, from = 16 * (i & 1) + bits * (within / 2);
    const __m512i h = _mm512_loadu_si512(codes + 256 + 64 * (bits == 1 ? 0 : i / 16));
    const __m512i high = from <= 4 ? _mm512_slli_epi32(h, 4 - from) : _mm512_srli_epi32(h, from - 4);
    c = _mm512_ternarylogic_epi32(_mm512_set1_epi32(bits == 1 ? 0x10 : 0x30), high, c, 0xca);
  }
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(c, _mm512_set1_epi32(strip_offset(f))));
}

/// Units 0..<16 of a block: elements 2u and 2u + 1 of each lane.
INLINE void block(const sl_block_format f, const uint8_t *codes, __m512 scale, __m512 second_scale, __m512 below,
                  uint32_t *out) {
  const __m512i neighbours = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                              21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  UNROLLED for (int u = 0; u < 16; u++) {
    const __m512 s = f == SL_BLOCKS_Q6_K && u >= 8 ? second_scale : scale;
    __m512 even = _mm512_mul_ps(s, code(f, codes, 2 * u)), odd = _mm512_mul_ps(s, code(f, codes, 2 * u + 1));
    if (strip_has_minima(f)) {
      even = _mm512_add_ps(even, below);
      odd = _mm512_add_ps(odd, below);
    }
    const __m512i apart = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
    _mm512_storeu_si512(out + u * panel_columns, _mm512_permutexvar_epi16(neighbours, apart));
  }
}

INLINE void strip(const sl_block_format f, int64_t k, const uint8_t *at, uint32_t *out) {
  const __m512 none = _mm512_setzero_ps();
  for (int64_t g = 0; g < k / strip_group(f); g++) {
    const __m512 scale = halves(at), below = strip_has_minima(f) ? halves(at + 32) : none;
    at += strip_head(f);
    if (!strip_is_large(f)) {
      block(f, at, scale, scale, below, out);
      at += strip_codes(f), out += 16 * panel_columns;
      continue;
    }
    for (int part = 0; part < 8; part++, out += 16 * panel_columns) {
      if (f == SL_BLOCKS_Q6_K) {
        block(f, at + 32, _mm512_mul_ps(scale, signed_bytes(at)), _mm512_mul_ps(scale, signed_bytes(at + 16)), none, out);
      } else {
        const __m512 s = _mm512_mul_ps(scale, bytes(at));
        block(f, at + 32, s, s, _mm512_sub_ps(none, _mm512_mul_ps(below, bytes(at + 16))), out);
      }
      at += 32 + strip_codes(f);
    }
  }
}

#define STRIP(format)                                                                                                  \
  static __attribute__((noinline)) void strip_##format(int64_t k, const uint8_t *at, uint32_t *out) {                  \
    strip(format, k, at, out);                                                                                         \
  }
EACH_STRIP_FORMAT(STRIP)
#undef STRIP

#define STRIP(format) [format] = strip_##format,
void sl_strip_panel(const sl_strips *strips, int64_t panel, uint32_t *out) {
  static void (*const each[])(int64_t, const uint8_t *, uint32_t *) = {
      EACH_STRIP_FORMAT(STRIP)};
#undef STRIP
  const int64_t count = strip_count(strips->n), size = strip_bytes(strips->format, strips->k);
  for (int64_t v = 0; v < panel_columns / strip_rows; v++, out += strip_rows) {
    const int64_t i = panel * (panel_columns / strip_rows) + v;
    if (i < count) {
      each[strips->format](strips->k, strips->values + i * size, out);
    } else {
      for (int64_t u = 0; u < strips->k / 2; u++) memset(out + u * panel_columns, 0, strip_rows * sizeof *out);
    }
  }
}

#pragma clang attribute pop
#else
void sl_strip_panel(const sl_strips *strips, int64_t panel, uint32_t *out) { (void)strips, (void)panel, (void)out; }
#endif
