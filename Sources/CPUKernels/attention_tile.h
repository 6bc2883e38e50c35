// What the attention kernels share, for one instruction set: included by their bodies (hence no `pragma once`).
//
// Operands of matrix products are packed into 4-byte units along the summed dimension: one fp32 number (SL_PAIR 1) or a
// pair of bf16 numbers (SL_PAIR 2). Every product of both passes has one form, C[m][n] += Σ_u A[m][u] · B[u][n], where a
// unit of A is broadcast against a vector of B, so that A may be strided either way and C comes out in natural order.

#undef UNITS
#undef unit
#undef dot
#undef micro
#undef product
#undef exp2_tile
#undef pack_row
#undef pack_natural
#undef pack_pairs
#undef pack_transposed
#undef row_maxima
#undef row_sums
#undef softmax_block
#define UNITS(n) ((n) / SL_PAIR)
#define unit SL_NAME(unit)
#define dot SL_NAME(dot)
#define micro SL_NAME(micro)
#define product SL_NAME(product)
#define exp2_tile SL_NAME(exp2_tile)
#define pack_row SL_NAME(pack_row)
#define pack_natural SL_NAME(pack_natural)
#define pack_pairs SL_NAME(pack_pairs)
#define pack_transposed SL_NAME(pack_transposed)
#define row_maxima SL_NAME(row_maxima)
#define row_sums SL_NAME(row_sums)
#define softmax_block SL_NAME(softmax_block)

typedef uint32_t unit;

FN VF dot(VF sum, uint32_t a, const uint32_t *b) {
#if SL_PAIR == 2
  return (VF)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)_mm512_loadu_si512(b));
#else
  float x;
  memcpy(&x, &a, 4);
  return sum + x * *(const VF *)b;
#endif
}

// What becomes of a product: it replaces C, is added to C, or is added to C · alpha[row].
#ifndef SL_ATTENTION_TILE
#define SL_ATTENTION_TILE
enum product_mode { PRODUCT_STORE, PRODUCT_ADD, PRODUCT_SCALE_ADD };
#endif

/// `m` rows by `n` vectors of C in registers. A's unit (row, u) lies at a[row · a_row + u · a_step].
FN void micro(const int m, const int n, int64_t units, const unit *a, int64_t a_row, int64_t a_step, const unit *b,
              int64_t b_step, float *c, int64_t c_row, enum product_mode mode, const float *alpha) {
  VF sums[8][4];
#pragma clang loop unroll(full)
  for (int i = 0; i < m; i++)
#pragma clang loop unroll(full)
    for (int j = 0; j < n; j++) sums[i][j] = (VF){};
#pragma clang loop unroll(disable)
  for (int64_t u = 0; u < units; u++) {
#pragma clang loop unroll(full)
    for (int i = 0; i < m; i++) {
      unit x = a[i * a_row];
#pragma clang loop unroll(full)
      for (int j = 0; j < n; j++) sums[i][j] = dot(sums[i][j], x, b + j * SL_WIDTH);
    }
    a += a_step;
    b += b_step;
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < m; i++)
#pragma clang loop unroll(full)
    for (int j = 0; j < n; j++) {
      VF *out = (VF *)(c + i * c_row + j * SL_WIDTH);
      if (mode == PRODUCT_STORE) *out = sums[i][j];
      if (mode == PRODUCT_ADD) *out += sums[i][j];
      if (mode == PRODUCT_SCALE_ADD) *out = *out * alpha[i] + sums[i][j];
    }
}

/// C[rows][columns], rows a multiple of 8 and columns of 16. `by_rows`: A's units of a row are adjacent (step 1), else
/// A's rows are (a_row 1); `a_stride` is the other stride.
FN void product(int64_t rows, int64_t columns, int64_t units, const unit *a, int64_t a_stride, const bool by_rows,
                const unit *b, int64_t b_step, float *c, int64_t c_row, const enum product_mode mode,
                const float *alpha) {
  const int64_t a_row = by_rows ? a_stride : 1, a_step = by_rows ? 1 : a_stride;
  int64_t vectors = columns / SL_WIDTH;
  for (int64_t first = 0; first < vectors;) {
    int64_t left = vectors - first, i = 0;
    const unit *bn = b + first * SL_WIDTH;
    float *cn = c + first * SL_WIDTH;
#define MICRO(m, n)                                                                                                    \
  micro(m, n, units, a + i * a_row, a_row, a_step, bn, b_step, cn + i * c_row, c_row, mode,                            \
        mode == PRODUCT_SCALE_ADD ? alpha + i : NULL)
#if SL_WIDTH == 16
    if (left >= 4) {
      for (; i + 6 <= rows; i += 6) MICRO(6, 4);
      if (i + 4 <= rows) MICRO(4, 4), i += 4;
      if (i < rows) MICRO(2, 4);
      first += 4;
    } else if (left == 3) {
      for (; i < rows; i += 8) MICRO(8, 3);
      first += 3;
    } else if (left == 2) {
      for (; i < rows; i += 8) MICRO(8, 2);
      first += 2;
    } else {
      for (; i < rows; i += 8) MICRO(8, 1);
      first += 1;
    }
#else
    if (left >= 2) {
      for (; i + 6 <= rows; i += 6) MICRO(6, 2);
      if (i + 4 <= rows) MICRO(4, 2), i += 4;
      if (i < rows) MICRO(2, 2);
      first += 2;
    } else {
      for (; i < rows; i += 8) MICRO(8, 1);
      first += 1;
    }
#endif
#undef MICRO
  }
}

/// 2ˣ for x <= 0 or a little above: within 3e-6 for bf16 operands, 1e-7 else; 0 below -126.
FN VF exp2_tile(VF x) {
#if SL_WIDTH == 16
  VF n = (VF)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const float magic = 12582912.0f;
  x = v_splat(-126.0f) > x ? v_splat(-126.0f) : x;
  VF shifted = x + magic;
  VF n = shifted - magic;
#endif
  VF r = x - n;
#if SL_PAIR == 2
  VF p = r * 0.009570102207362652f + 0.05591785907745361f;
  p = p * r + 0.240247443318367f;
  p = p * r + 0.6931217908859253f;
  p = p * r + 0.9999992847442627f;
#else
  VF p = r * 0.0013276472454890609f + 0.009675540961325169f;
  p = p * r + 0.05550713092088699f;
  p = p * r + 0.24022120237350464f;
  p = p * r + 0.6931469440460205f;
  p = p * r + 1.0000001192092896f;
#endif
#if SL_WIDTH == 16
  return (VF)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  VF power = (VF)(((VU)shifted - (0x4b400000u - 127u)) << 23);
  VI tiny = x <= -126.0f;
  return tiny ? v_splat(0) : p * power;
#endif
}

/// One row of `width` elements -> UNITS(padded) units, zeros beyond `width`.
FN void pack_row(const void *source, int64_t width, int64_t padded, sl_dtype dtype, unit *out) {
  int64_t i = 0;
#if SL_PAIR == 2
  const uint16_t *row = source;
  uint16_t *to = (uint16_t *)out;
  for (; i + 32 <= width; i += 32) {
    __m512i x = _mm512_loadu_si512(row + i);
    __asm__("" : "+v"(x));  // else the loop becomes a call of memcpy, and the misses of several rows no longer overlap
    _mm512_storeu_si512(to + i, x);
  }
  for (; i < padded; i += 16) {
    __mmask16 mask = (__mmask16)(i + 16 <= width ? 0xffff : i < width ? (1 << (width - i)) - 1 : 0);
    _mm256_storeu_si256((__m256i *)(to + i), _mm256_maskz_loadu_epi16(mask, row + i));
  }
#else
  for (; i + SL_WIDTH <= width; i += SL_WIDTH) v_store(out, i, SL_F32, v_load(source, i, dtype));
  if (i < width) {
    v_store(out, i, SL_F32, v_load_part(source, i, width - i, dtype));
    i += SL_WIDTH;
  }
  for (; i < padded; i += SL_WIDTH) v_store(out, i, SL_F32, (VF){});
#endif
}

/// `positions` rows at `stride` of `heads` adjacent heads -> units [heads][positions][UNITS(padded)]; zeros from row
/// `count` on.
FN void pack_natural(const void *source, int64_t stride, int64_t count, int64_t positions, int64_t heads, int64_t width,
                     int64_t padded, sl_dtype dtype, unit *out) {
  const size_t size = sl_dtype_size(dtype);
  for (int64_t p = 0; p < positions; p++)
    for (int64_t h = 0; h < heads; h++) {
      unit *to = out + (h * positions + p) * UNITS(padded);
      if (p < count)
        pack_row((const char *)source + (size_t)(p * stride + h * width) * size, width, padded, dtype, to);
      else
        memset(to, 0, sizeof(unit) * (size_t)UNITS(padded));
    }
}

#if SL_PAIR == 2
/// Natural rows [rows][padded] of bf16 -> pairs over rows [rows / 2][padded].
FN void pack_pairs(const unit *natural, int64_t rows, int64_t padded, unit *out) {
  const __m512i index = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  for (int64_t r = 0; r < rows; r += 2, out += padded) {
    const uint16_t *even = (const uint16_t *)natural + r * padded, *odd = even + padded;
    for (int64_t i = 0; i < padded; i += 16) {
      __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(even + i))),
                                        _mm256_loadu_si256((const __m256i *)(odd + i)), 1);
      _mm512_storeu_si512(out + i, _mm512_permutexvar_epi16(index, both));
    }
  }
}
#endif

/// Units [KEY_BLOCK][units] -> [units][KEY_BLOCK].
FN void pack_transposed(const unit *restrict natural, int64_t units, unit *restrict out) {
  for (int64_t u = 0; u < units; u++)
    for (int64_t r = 0; r < KEY_BLOCK; r++) out[u * KEY_BLOCK + r] = natural[r * units + u];
}

#if SL_WIDTH == 16
// Reduces each of 16 rows of 16 lanes to one number, as one vector: halves are exchanged until each lane holds a row.
#define REDUCE_ROWS(name, combine)                                                                                     \
  FN VF name(const float *rows) {                                                                                      \
    __m512 x[16];                                                                                                      \
    for (int i = 0; i < 16; i++) x[i] = _mm512_loadu_ps(rows + 16 * i);                                                \
    for (int i = 0; i < 8; i++)                                                                                        \
      x[i] = combine(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));          \
    for (int i = 0; i < 4; i++) {                                                                                      \
      __m512d a = (__m512d)x[2 * i], b = (__m512d)x[2 * i + 1];                                                        \
      x[i] = combine((__m512)_mm512_unpacklo_pd(a, b), (__m512)_mm512_unpackhi_pd(a, b));                              \
    }                                                                                                                  \
    for (int step = 2; step >= 1; step--)                                                                              \
      for (int i = 0; i < step; i++) {                                                                                 \
        __m512 a = x[2 * i], b = x[2 * i + 1];                                                                         \
        x[i] = combine(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));                            \
      }                                                                                                                \
    return (VF)x[0];                                                                                                   \
  }
REDUCE_ROWS(row_maxima, _mm512_max_ps)
REDUCE_ROWS(row_sums, _mm512_add_ps)
#undef REDUCE_ROWS
#endif

/// Softmax of one block's scores, in place of the running one: scores [rows][KEY_BLOCK] of `columns` keys -> weights in
/// units, with the running maximum, lane-wise sums, and the factor `alpha` by which earlier results shrink.
FN void softmax_block(int64_t rows, int64_t columns, const float *scores, unit *weights, float *maximum, float *sums,
                      float *alpha, float factor) {
  for (int64_t r0 = 0; r0 < rows; r0 += 16) {
    _Alignas(64) float peaks[16 * SL_WIDTH];
    for (int64_t r = 0; r < 16; r++) {
      const float *s = scores + (r0 + r) * KEY_BLOCK;
      VF peak = *(const VF *)s;
      for (int64_t i = SL_WIDTH; i < columns; i += SL_WIDTH) peak = v_max(*(const VF *)(s + i), peak);
      *(VF *)(peaks + r * SL_WIDTH) = peak;
    }
#if SL_WIDTH == 16
    VF before = *(VF *)(maximum + r0), now = v_max(row_maxima(peaks), before);
    *(VF *)(maximum + r0) = now;
    *(VF *)(alpha + r0) = exp2_tile((before - now) * factor);
#else
    for (int64_t r = 0; r < 16; r++) peaks[r] = v_maximum(*(VF *)(peaks + r * SL_WIDTH));
    for (int64_t r = 0; r < 16; r += SL_WIDTH) {
      VF before = *(VF *)(maximum + r0 + r), now = v_max(*(VF *)(peaks + r), before);
      *(VF *)(maximum + r0 + r) = now;
      *(VF *)(alpha + r0 + r) = exp2_tile((before - now) * factor);
    }
#endif
    for (int64_t r = r0; r < r0 + 16; r++) {
      const float *s = scores + r * KEY_BLOCK;
      unit *out = weights + r * UNITS(KEY_BLOCK);
      float shift = maximum[r] * factor;
      VF sum = *(VF *)(sums + r * SL_WIDTH) * alpha[r];
      int64_t i = 0;
#if SL_PAIR == 2
      for (; i + 32 <= columns; i += 32) {
        VF a = exp2_tile(*(const VF *)(s + i) * factor - shift);
        VF b = exp2_tile(*(const VF *)(s + i + 16) * factor - shift);
        sum += a + b;
        _mm512_storeu_si512((uint16_t *)out + i, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a));
      }
      if (i < columns) {
        VF a = exp2_tile(*(const VF *)(s + i) * factor - shift);
        sum += a;
        _mm256_storeu_si256((__m256i *)((uint16_t *)out + i), (__m256i)_mm512_cvtneps_pbh((__m512)a));
      }
#else
      for (; i < columns; i += SL_WIDTH) {
        VF a = exp2_tile(*(const VF *)(s + i) * factor - shift);
        sum += a;
        *(VF *)(out + i) = a;
      }
#endif
      *(VF *)(sums + r * SL_WIDTH) = sum;
    }
  }
}
