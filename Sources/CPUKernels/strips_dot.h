// 32 codes of each lane of a strip times 32 elements of x. Included once for each path (see each_path.h), without a guard.
//
// Codes are small integers, which bf16 holds exactly: with AVX512-BF16 a table in a register turns 32 of them into bf16,
// and one instruction multiplies them with pairs of x. Elsewhere they become fp32.

#if SL_PAIR == 2
typedef __m512i SL_NAME(tables)[2];
typedef uint32_t SL_NAME(input);  // a pair

/// bf16 of what codes stand for.
FN void SL_NAME(make_tables)(const sl_block_format f, __m512i tables[2]) {
  uint16_t values[2][32];
  for (int i = 0; i < 32; i++) {
    const int low = i & 15, high = low < 8 ? low : low - 16;
    const int bits = strip_high_bits(f), code = bits == 0 || bits == 4 ? low : i;
    values[0][i] = sl_float_to_bf16((float)(code - strip_offset(f)));
    values[1][i] = sl_float_to_bf16((float)(bits == 4 ? 16 * high : code + 32 - strip_offset(f)));
  }
  tables[0] = _mm512_loadu_si512(values[0]);
  tables[1] = _mm512_loadu_si512(values[1]);
}

FN __m512bh SL_NAME(pair)(const uint32_t *x, int i) {
  int pair;
  memcpy(&pair, x + i, sizeof pair);
  return (__m512bh)_mm512_set1_epi32(pair);
}

/// Σ code · x over 32 elements, for `rows` rows of x at stride ldx; of the first and of the last sixteen where they have scales of
/// their own. The codes are looked up once for all rows; each row's sums are those that it would have alone.
FN void SL_NAME(block)(const sl_block_format f, const int rows, const __m512i *t, const uint8_t *codes,
                       const uint32_t *x, int64_t ldx, VF first[][PARTS], VF second[][PARTS]) {
  __m512 s[4][most_rows];
  UNROLL for (int i = 0; i < 4; i++) UNROLL for (int r = 0; r < rows; r++) s[i][r] = _mm512_setzero_ps();
  const int bits = strip_high_bits(f);
  // Four sums, one after the other: of many rows no more than two have to be held at once.
  UNROLL for (int i = 0; i < 4; i++) {
    if (bits == 4) {
      UNROLL for (int v = i; v < 8; v += 4) {
        const __m512i w = _mm512_loadu_si512(codes + 64 * v);
        UNROLL for (int j = 0; j < 4; j++) {
          const __m512i shifted = j == 0 ? w : _mm512_srli_epi16(w, 4 * j);
          const __m512bh q = (__m512bh)_mm512_permutexvar_epi16(shifted, t[j & 1]);
          UNROLL for (int r = 0; r < rows; r++)
            s[i][r] = _mm512_dpbf16_ps(s[i][r], q, SL_NAME(pair)(x + r * ldx, 2 * v + j / 2));
        }
      }
    } else {
      const __m512i w = _mm512_loadu_si512(codes + 64 * i);
      const __m512i h = bits == 0 ? w : _mm512_loadu_si512(codes + 256 + 64 * (bits == 1 ? 0 : i / 2));
      UNROLL for (int j = 0; j < 4; j++) {
        __m512i index = j == 0 ? w : _mm512_srli_epi16(w, 4 * j);
        if (bits > 0) {
          const int from = bits == 1 ? 4 * i + j : 2 * (4 * (i & 1) + j);
          const __m512i high = from <= 4 ? _mm512_slli_epi16(h, 4 - from) : _mm512_srli_epi16(h, from - 4);
          // The high bits where the mask is set, the low ones elsewhere.
          index = _mm512_ternarylogic_epi32(_mm512_set1_epi16(bits == 1 ? 0x10 : 0x30), high, index, 0xca);
        }
        const __m512bh q = (__m512bh)(bits == 2 ? _mm512_permutex2var_epi16(t[0], index, t[1])
                                                : _mm512_permutexvar_epi16(index, t[0]));
        UNROLL for (int r = 0; r < rows; r++)
          s[i][r] = _mm512_dpbf16_ps(s[i][r], q, SL_NAME(pair)(x + r * ldx, 4 * i + j));
      }
    }
    UNROLL for (int r = 0; r < rows && (i & 1); r++) s[i - 1][r] += s[i][r];
  }
  UNROLL for (int r = 0; r < rows; r++) {
    first[r][0] = (VF)(f == SL_BLOCKS_Q6_K ? s[0][r] : s[0][r] + s[2][r]);
    if (f == SL_BLOCKS_Q6_K) second[r][0] = (VF)s[2][r];
  }
}
#else
typedef int SL_NAME(tables)[2];
typedef float SL_NAME(input);

FN void SL_NAME(make_tables)(const sl_block_format f, int tables[2]) { (void)f, (void)tables; }

FN void SL_NAME(block)(const sl_block_format f, const int rows, const int *t, const uint8_t *codes, const float *x,
                       int64_t ldx, VF first[][PARTS], VF second[][PARTS]) {
  (void)t;
  UNROLL for (int part = 0; part < PARTS; part++) {
    VF s[2][most_rows];
    UNROLL for (int r = 0; r < rows; r++) s[0][r] = s[1][r] = (VF){};
    UNROLL for (int element = 0; element < 32; element++) {
      const VF value = __builtin_convertvector(SL_NAME(code)(f, codes + 4 * SL_WIDTH * part, element), VF);
      UNROLL for (int r = 0; r < rows; r++) s[element / 16][r] += value * x[r * ldx + element];
    }
    UNROLL for (int r = 0; r < rows; r++) {
      first[r][part] = f == SL_BLOCKS_Q6_K ? s[0][r] : s[0][r] + s[1][r];
      if (f == SL_BLOCKS_Q6_K) second[r][part] = s[1][r];
    }
  }
}
#endif
