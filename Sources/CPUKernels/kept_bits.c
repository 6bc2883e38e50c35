// Which elements dropout keeps: a vector of counters goes through the generator at once (philox.h has it in one number).
#ifndef SL_SOURCE
#include "kept_bits.h"

enum { philox_rounds = 10 };

#define SL_SOURCE "kept_bits.c"
#include "each_path.h"

sl_kept_bits *sl_kept_bits_function(void) { return SL_CHOOSE(kept_bits); }

#else

#undef VL
#undef draw
#undef word_of
#undef hi_lo
#define VL SL_NAME(vl)  // SL_WIDTH / 2 × uint64
#define draw SL_NAME(draw)
#define word_of SL_NAME(word_of)
#define hi_lo SL_NAME(hi_lo)

typedef uint64_t VL __attribute__((ext_vector_type(SL_WIDTH / 2), aligned(8)));

/// The halves of the products of each lane with `m`.
FN void hi_lo(VU x, uint32_t m, VU *hi, VU *lo) {
#if SL_WIDTH == 16
  // Written out, since clang makes a product of 64 bits of the last two lines below, which is slower.
  const __m512i factor = _mm512_set1_epi32((int)m);
  const __m512i even = _mm512_mul_epu32((__m512i)x, factor);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)x, 32), factor);
  *hi = (VU)_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
  *lo = (VU)_mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
#else
  const VL low = (VL){} + 0xffffffffu, pairs = (VL)x;
  const VL even = (pairs & low) * ((VL){} + m), odd = (pairs >> 32) * ((VL){} + m);
  *hi = (VU)((even >> 32) | (odd & ~low));
  *lo = (VU)((even & low) | (odd << 32));
#endif
}

#if SL_WIDTH == 16
/// Bit 4 · i + j: whether lane i of the j-th vector reaches `threshold`.
FN uint64_t SL_NAME(reached)(const VU x[4], uint32_t threshold) {
  const __m512i least = _mm512_set1_epi32((int)threshold);
  __m512i bits = _mm512_maskz_set1_epi32(_mm512_cmpge_epu32_mask((__m512i)x[0], least), 1);
  for (int j = 1; j < 4; j++)
    bits = _mm512_or_si512(
        bits, _mm512_maskz_set1_epi32(_mm512_cmpge_epu32_mask((__m512i)x[j], least), 1 << j));
  // Four bits of a byte each; two of them make a byte.
  const __m128i bytes = _mm_maddubs_epi16(_mm512_cvtepi32_epi8(bits), _mm_set1_epi16(0x1001));
  return (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(bytes, bytes));
}
#else

/// Bit i becomes bit 4 · i.
FN uint64_t SL_NAME(spread)(uint64_t x) {
  x = (x | x << 24) & 0x000000ff000000ff;
  x = (x | x << 12) & 0x000f000f000f000f;
  x = (x | x << 6) & 0x0303030303030303;
  return (x | x << 3) & 0x1111111111111111;
}

/// Bit 4 · i + j: whether lane i of the j-th vector reaches `threshold`.
FN uint64_t SL_NAME(reached)(const VU x[4], uint32_t threshold) {
  uint64_t all = 0;
  for (int j = 0; j < 4; j++) {
    uint64_t bits = 0;
#if SL_WIDTH == 8
    VI is = x[j] >= (VU){} + threshold;
    bits = (uint64_t)_mm256_movemask_ps((__m256)is);
#else
    for (int i = 0; i < SL_WIDTH; i++) bits |= (uint64_t)(x[j][i] >= threshold) << i;
#endif
    all |= SL_NAME(spread)(bits) << j;
  }
  return all;
}
#endif

/// The 4 · SL_WIDTH elements of the counters from `counter` on. keys: each round's two.
FN uint64_t draw(uint64_t counter, uint64_t stream, const uint32_t *keys, uint32_t threshold) {
  VU c0, c1, c2 = (VU){} + (uint32_t)stream, c3 = (VU){} + (uint32_t)(stream >> 32);
  for (int i = 0; i < SL_WIDTH; i++) c0[i] = (uint32_t)i;
  c0 += (uint32_t)counter;
  c1 = (uint32_t)(counter >> 32) - (VU)(c0 < (VU){} + (uint32_t)counter);
  for (int round = 0; round < philox_rounds; round++) {
    VU a, a_low, b, b_low;
    hi_lo(c0, 0xD2511F53u, &a, &a_low);
    hi_lo(c2, 0xCD9E8D57u, &b, &b_low);
    c0 = b ^ c1 ^ keys[2 * round], c2 = a ^ c3 ^ keys[2 * round + 1], c1 = b_low, c3 = a_low;
  }
  const VU drawn[4] = {c0, c1, c2, c3};
  return SL_NAME(reached)(drawn, threshold);
}

/// 64 elements.
FN uint64_t word_of(uint64_t counter, uint64_t stream, const uint32_t *keys, uint32_t threshold) {
  uint64_t word = 0;
  for (int i = 0; i < 16; i += SL_WIDTH) word |= draw(counter + (uint64_t)i, stream, keys, threshold) << 4 * i;
  return word;
}

static void SL_NAME(kept_bits)(const sl_drop *drop, uint64_t first, int64_t count, uint64_t *bits) {
  const uint32_t threshold = (uint32_t)((double)drop->probability * 4294967296.0);
  const int skip = (int)(first % 4);
  uint32_t keys[2 * philox_rounds];
  for (int i = 0; i < philox_rounds; i++) {
    keys[2 * i] = (uint32_t)drop->seed + (uint32_t)i * 0x9E3779B9u;
    keys[2 * i + 1] = (uint32_t)(drop->seed >> 32) + (uint32_t)i * 0xBB67AE85u;
  }
  uint64_t counter = first / 4;
  uint64_t word = word_of(counter, drop->stream, keys, threshold);
  for (int64_t i = 0; i < count; i += 64) {
    // The next word is drawn where some of its bits are asked for.
    uint64_t next = count - i > 64 - skip ? word_of(counter += 16, drop->stream, keys, threshold) : 0;
    bits[i / 64] = skip == 0 ? word : word >> skip | next << (64 - skip);
    word = next;
  }
}

#endif
