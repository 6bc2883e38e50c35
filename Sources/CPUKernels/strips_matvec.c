// One row times matrices in strips: every weight is read once, in the bits that its format gives it.
//
// Codes are small integers, which bf16 holds exactly: with AVX512-BF16 a table in a register turns 32 of them into bf16,
// and one instruction multiplies them with pairs of x. Elsewhere they become fp32.
#ifndef SL_SOURCE
#include "include/strips.h"

#include "bfloat16.h"
#include "matvec.h"
#include "scratch.h"
#include "strips.h"

struct blocks_linear {
  const sl_strips *strips[sl_linear_most_parts];
  const sl_linear_part *parts;
  int64_t first_strip[sl_linear_most_parts + 1];  // counted over all parts
  int64_t strips_per_task, inputs;
  const void *x;      // pairs of bf16, or fp32
  const float *sums;  // of each 32 elements of x
  sl_dtype dtype;
  int count, accumulate;
};

static float element(const void *p, int64_t i, sl_dtype dtype) {
  return dtype == SL_F32 ? ((const float *)p)[i] : sl_bf16_to_float(((const uint16_t *)p)[i]);
}

/// Adds the pair's part to the sums of a strip, and writes them.
static void finish_strip(const struct blocks_linear *c, int part, int64_t strip, float *sums) {
  const sl_linear_part *p = &c->parts[part];
  const int64_t row = strip * strip_rows, n = c->strips[part]->n, rank = p->rank;
  const int count = (int)(n - row < strip_rows ? n - row : strip_rows);
  for (int i = 0; i < count && rank > 0; i++) {
    float sum = 0;
    for (int64_t r = 0; r < rank; r++) sum += element(p->b, (row + i) * rank + r, c->dtype) * element(p->s, r, c->dtype);
    sums[i] += sum;
  }
  for (int i = 0; i < count; i++) {
    if (p->y_type == SL_F32) {
      float *y = (float *)p->y + row + i;
      *y = c->accumulate ? *y + sums[i] : sums[i];
    } else {
      uint16_t *y = (uint16_t *)p->y + row + i;
      *y = sl_float_to_bf16(c->accumulate ? sl_bf16_to_float(*y) + sums[i] : sums[i]);
    }
  }
}

#define SL_SOURCE "strips_matvec.c"
#define SL_PAIRED_TOO
#include "each_path.h"

enum { task_bytes = 32768 };

int sl_blocks_linear(sl_dtype dtype, const void *x, int64_t inputs, int count, const sl_linear_part *parts,
                     int accumulate) {
  struct blocks_linear c = {.parts = parts, .inputs = inputs, .x = x, .dtype = dtype, .count = count,
                            .accumulate = accumulate};
  const bool pairs = dtype == SL_BF16 && sl_current_path() == SL_PATH_AVX512BF16;
  int64_t bytes = 0;
  bool minima = false;
  for (int j = 0; j < count; j++) {
    const sl_strips *s = c.strips[j] = sl_packed_strips(parts[j].w);
    c.first_strip[j + 1] = c.first_strip[j] + strip_count(s->n);
    bytes += strip_count(s->n) * strip_bytes(s->format, inputs);
    minima |= strip_has_minima(s->format);
    if (parts[j].rank == 0) continue;
    sl_block_layout a = {.k = inputs, .n = parts[j].rank, .k_block = 1, .n_block = 1, .pair = 1, .k_stride = 1,
                         .n_stride = inputs};
    sl_matvec(&a, dtype, x, parts[j].a, parts[j].s, dtype, 0);
  }
  const int64_t strips = c.first_strip[count];
  if (strips == 0) return 0;
  const bool widens = dtype == SL_BF16 && !pairs;
  float *room = NULL;
  if (minima || widens) {
    room = sl_take_scratch((size_t)(inputs + inputs / 32) * sizeof(float));
    if (room == NULL) return -1;
    if (minima) {
      SL_CHOOSE(block_sums)(inputs, x, dtype, room);
      c.sums = room;
    }
    if (widens) {
      float *wide = room + inputs / 32;
      for (int64_t i = 0; i < inputs; i++) wide[i] = sl_bf16_to_float(((const uint16_t *)x)[i]);
      c.x = wide;
    }
  }
  c.strips_per_task = task_bytes * strips / (bytes + 1);
  if (c.strips_per_task < 1) c.strips_per_task = 1;
  sl_parallel_shares((strips + c.strips_per_task - 1) / c.strips_per_task, SL_CHOOSE_PAIRED(strips_task, dtype), &c);
  sl_return_scratch(room);
  return 0;
}

#else

#define PARTS (strip_rows / SL_WIDTH)  // vectors that hold sixteen lanes

#if SL_PAIR == 1
/// The sum of each 32 elements of x.
static void SL_NAME(block_sums)(int64_t n, const void *x, sl_dtype dtype, float *sums) {
  for (int64_t i = 0; i < n; i += 32) {
    VF sum = {};
    for (int j = 0; j < 32; j += SL_WIDTH) sum += dtype == SL_F32 ? v_load(x, i + j, SL_F32) : v_load(x, i + j, SL_BF16);
    sums[i / 32] = v_sum(sum);
  }
}
#endif

/// f16 numbers that are finite.
FN VF SL_NAME(halves)(const uint8_t *p) {
  const VU bits = __builtin_convertvector(*(const VH *)p, VU);
  const VF magnitude = (VF)((bits & 0x7fff) << 13) * 0x1p112f;
  return (VF)((VU)magnitude | (bits & 0x8000) << 16);
}

typedef uint8_t SL_NAME(vb) __attribute__((ext_vector_type(SL_WIDTH), aligned(1)));
typedef int8_t SL_NAME(vc) __attribute__((ext_vector_type(SL_WIDTH), aligned(1)));
FN VF SL_NAME(bytes)(const uint8_t *p) { return __builtin_convertvector(*(const SL_NAME(vb) *)p, VF); }
FN VF SL_NAME(signed_bytes)(const uint8_t *p) { return __builtin_convertvector(*(const SL_NAME(vc) *)p, VF); }

#define UNROLL _Pragma("clang loop unroll(full)")

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

/// Σ code · x over 32 elements; of the first and of the last sixteen where `halved`.
FN void SL_NAME(block)(const sl_block_format f, const __m512i *t, const uint8_t *codes, const uint32_t *x, VF *first,
                       VF *second) {
  __m512 s[4];
  UNROLL for (int i = 0; i < 4; i++) s[i] = _mm512_setzero_ps();
  const int bits = strip_high_bits(f);
  if (bits == 4) {
    UNROLL for (int v = 0; v < 8; v++) {
      const __m512i w = _mm512_loadu_si512(codes + 64 * v);
      UNROLL for (int j = 0; j < 4; j++) {
        const __m512i shifted = j == 0 ? w : _mm512_srli_epi16(w, 4 * j);
        s[v & 3] = _mm512_dpbf16_ps(s[v & 3], (__m512bh)_mm512_permutexvar_epi16(shifted, t[j & 1]),
                                    SL_NAME(pair)(x, 2 * v + j / 2));
      }
    }
  } else {
    UNROLL for (int v = 0; v < 4; v++) {
      const __m512i w = _mm512_loadu_si512(codes + 64 * v);
      const __m512i h = bits == 0 ? w : _mm512_loadu_si512(codes + 256 + 64 * (bits == 1 ? 0 : v / 2));
      UNROLL for (int j = 0; j < 4; j++) {
        __m512i index = j == 0 ? w : _mm512_srli_epi16(w, 4 * j);
        if (bits > 0) {
          const int from = bits == 1 ? 4 * v + j : 2 * (4 * (v & 1) + j);
          const __m512i high = from <= 4 ? _mm512_slli_epi16(h, 4 - from) : _mm512_srli_epi16(h, from - 4);
          // The high bits where the mask is set, the low ones elsewhere.
          index = _mm512_ternarylogic_epi32(_mm512_set1_epi16(bits == 1 ? 0x10 : 0x30), high, index, 0xca);
        }
        const __m512i q = bits == 2 ? _mm512_permutex2var_epi16(t[0], index, t[1]) : _mm512_permutexvar_epi16(index, t[0]);
        s[v] = _mm512_dpbf16_ps(s[v], (__m512bh)q, SL_NAME(pair)(x, 4 * v + j));
      }
    }
  }
  if (f == SL_BLOCKS_Q6_K) {
    *first = (VF)(s[0] + s[1]);
    *second = (VF)(s[2] + s[3]);
  } else {
    *first = (VF)((s[0] + s[1]) + (s[2] + s[3]));
  }
}
#else
typedef int SL_NAME(tables)[2];
typedef float SL_NAME(input);

FN void SL_NAME(make_tables)(const sl_block_format f, int tables[2]) { (void)f, (void)tables; }

FN void SL_NAME(block)(const sl_block_format f, const int *t, const uint8_t *codes, const float *x, VF *first,
                       VF *second) {
  (void)t;
  const int bits = strip_high_bits(f), per_vector = bits == 4 ? 4 : 8;
  UNROLL for (int part = 0; part < PARTS; part++) {
    const uint8_t *lanes = codes + 4 * SL_WIDTH * part;
    VF s[2] = {{}, {}};
    UNROLL for (int v = 0; v < 32 / per_vector; v++) {
      const VU w = *(const VU *)(lanes + 64 * v);
      const VU h = bits == 1 || bits == 2 ? *(const VU *)(lanes + 256 + 64 * (bits == 1 ? 0 : v / 2)) : w;
      UNROLL for (int i = 0; i < per_vector; i++) {
        const int element = per_vector * v + i, place = 16 * (i & 1) + (bits == 4 ? 8 : 4) * (i / 2);
        VI q;
        if (bits == 4) {
          q = (VI)(w << (24 - place)) >> 24;
        } else {
          VU code = w >> place & 15;
          const int within = bits == 1 ? element : element % 16, from = 16 * (i & 1) + bits * (within / 2);
          if (bits == 1) code |= (h >> from & 1) << 4;
          if (bits == 2) code |= (h >> from & 3) << 4;
          q = (VI)code - strip_offset(f);
        }
        s[element / 16] += __builtin_convertvector(q, VF) * x[element];
      }
    }
    first[part] = f == SL_BLOCKS_Q6_K ? s[0] : s[0] + s[1];
    if (f == SL_BLOCKS_Q6_K) second[part] = s[1];
  }
}
#endif

FN void SL_NAME(strip)(const sl_block_format f, const struct blocks_linear *c, const uint8_t *at, float *result) {
  SL_NAME(tables) tables;
  SL_NAME(make_tables)(f, tables);
  const SL_NAME(input) *x = c->x;
  const int64_t step = 32 / SL_PAIR;
  VF sum[PARTS], below[PARTS], first[PARTS], second[PARTS];
  UNROLL for (int i = 0; i < PARTS; i++) sum[i] = below[i] = (VF){};
  const bool minima = strip_has_minima(f);
  for (int64_t g = 0, groups = c->inputs / strip_group(f); g < groups; g++) {
    const uint8_t *head = at;
    at += strip_head(f);
    if (!strip_is_large(f)) {
      SL_NAME(block)(f, tables, at, x, first, second);
      UNROLL for (int i = 0; i < PARTS; i++) {
        sum[i] += SL_NAME(halves)(head + 2 * SL_WIDTH * i) * first[i];
        if (minima) below[i] += SL_NAME(halves)(head + 32 + 2 * SL_WIDTH * i) * c->sums[g];
      }
      x += step;
      at += strip_codes(f);
      continue;
    }
    VF inner[PARTS], inner_below[PARTS];
    UNROLL for (int i = 0; i < PARTS; i++) inner[i] = inner_below[i] = (VF){};
    for (int part = 0; part < 8; part++, x += step, at += strip_codes(f)) {
      const uint8_t *small = at;
      at += strip_small(f) + (minima ? 16 : 0);
      SL_NAME(block)(f, tables, at, x, first, second);
      UNROLL for (int i = 0; i < PARTS; i++) {
        if (f == SL_BLOCKS_Q6_K) {
          inner[i] += SL_NAME(signed_bytes)(small + SL_WIDTH * i) * first[i];
          inner[i] += SL_NAME(signed_bytes)(small + 16 + SL_WIDTH * i) * second[i];
        } else {
          inner[i] += SL_NAME(bytes)(small + SL_WIDTH * i) * first[i];
          inner_below[i] += SL_NAME(bytes)(small + 16 + SL_WIDTH * i) * c->sums[8 * g + part];
        }
      }
    }
    UNROLL for (int i = 0; i < PARTS; i++) {
      sum[i] += SL_NAME(halves)(head + 2 * SL_WIDTH * i) * inner[i];
      if (minima) below[i] -= SL_NAME(halves)(head + 32 + 2 * SL_WIDTH * i) * inner_below[i];
    }
  }
  UNROLL for (int i = 0; i < PARTS; i++) *(VF *)(result + SL_WIDTH * i) = sum[i] + below[i];
}

/// Writes the sums of a whole strip of a matrix without a pair.
FN void SL_NAME(write)(const sl_linear_part *p, int64_t row, const float *sums, int accumulate) {
  for (int i = 0; i < strip_rows; i += SL_WIDTH) {
    VF sum = *(const VF *)(sums + i);
    if (p->y_type == SL_F32) {
      if (accumulate) sum += v_load(p->y, row + i, SL_F32);
      v_store(p->y, row + i, SL_F32, sum);
    } else {
      if (accumulate) sum += v_load(p->y, row + i, SL_BF16);
      v_store(p->y, row + i, SL_BF16, sum);
    }
  }
}

#define STRIP(format)                                                                                                  \
  case format: SL_NAME(strip)(format, c, at, sums); break
static void SL_NAME(strips_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct blocks_linear *c = context;
  const int64_t all = c->first_strip[c->count], end = (task + 1) * c->strips_per_task;
  int part = 0;
  for (int64_t i = task * c->strips_per_task; i < end && i < all; i++) {
    while (i >= c->first_strip[part + 1]) part++;
    const sl_strips *s = c->strips[part];
    const int64_t strip = i - c->first_strip[part];
    const uint8_t *at = s->values + strip * strip_bytes(s->format, s->k);
    float sums[strip_rows];
    switch (s->format) {
      STRIP(SL_BLOCKS_Q4_0);
      STRIP(SL_BLOCKS_Q4_1);
      STRIP(SL_BLOCKS_Q5_0);
      STRIP(SL_BLOCKS_Q5_1);
      STRIP(SL_BLOCKS_Q8_0);
      STRIP(SL_BLOCKS_Q4_K);
      STRIP(SL_BLOCKS_Q5_K);
      STRIP(SL_BLOCKS_Q6_K);
    }
    const sl_linear_part *p = &c->parts[part];
    if (p->rank == 0 && (strip + 1) * strip_rows <= s->n)
      SL_NAME(write)(p, strip * strip_rows, sums, c->accumulate);
    else
      finish_strip(c, part, strip, sums);
  }
}
#undef STRIP
#undef UNROLL
#undef PARTS

#endif
