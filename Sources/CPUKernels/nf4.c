// Matrices in NF4, dequantized for products: into panels, or into dense rows.
#include "include/nf4.h"

#include <stdlib.h>
#include <string.h>

#include "CBlockFormats.h"
#include "bfloat16.h"
#include "include/threads.h"
#include "nf4_values.h"
#include "packed_matrix.h"
#include "panels.h"

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

int sl_nf4_is_fused(sl_dtype dtype) { return dtype == SL_BF16 && sl_uses_panels(); }

// MARK: Dense rows

typedef struct {
  const sl_nf4_matrix *matrix;
  sl_dtype dtype;
  char *rows;
} unpack_job;

enum { unpacked_rows = 16 };

static void unpack_row(const sl_nf4_matrix *m, int64_t row, sl_dtype dtype, char *out) {
  const uint8_t *codes = m->codes + row * m->inputs / 2;
  const float *absmax = m->absmax + row * m->inputs / block;
  for (int64_t i = 0; i < m->inputs / block; i++, codes += block_bytes) {
    float values[16];
    uint16_t halves[16];
    for (int c = 0; c < 16; c++) values[c] = sl_nf4_values[c] * absmax[i];
    for (int c = 0; c < 16; c++) halves[c] = sl_float_to_bf16(values[c]);
    if (dtype == SL_F32) {
      float *to = (float *)out + i * block;
      for (int b = 0; b < block_bytes; b++) to[2 * b] = values[codes[b] >> 4], to[2 * b + 1] = values[codes[b] & 15];
    } else {
      uint16_t *to = (uint16_t *)out + i * block;
      for (int b = 0; b < block_bytes; b++) to[2 * b] = halves[codes[b] >> 4], to[2 * b + 1] = halves[codes[b] & 15];
    }
  }
}

static void unpack_task(void *context, int64_t task, int thread) {
  const unpack_job *job = context;
  (void)thread;
  const sl_nf4_matrix *m = job->matrix;
  for (int64_t row = task * unpacked_rows; row < min_of(m->outputs, (task + 1) * unpacked_rows); row++)
    unpack_row(m, row, job->dtype, job->rows + (size_t)(row * m->inputs) * sl_dtype_size(job->dtype));
}

void sl_nf4_unpack(const sl_nf4_matrix *matrix, sl_dtype dtype, void *rows) {
  unpack_job job = {matrix, dtype, rows};
  sl_parallel((matrix->outputs + unpacked_rows - 1) / unpacked_rows, unpack_task, &job);
}

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target(NF4_TARGET))), apply_to = function)

/// The 32 elements of 16 bytes in order: pairs.
INLINE __m512i pairs_of(const uint8_t *codes, __m512i values) {
  __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
  __m512i index = _mm512_or_si512(_mm512_srli_epi32(bytes, 4), _mm512_slli_epi32(bytes, 16));
  return _mm512_permutexvar_epi16(index, values);
}

// MARK: Panels

typedef struct {
  const sl_nf4_matrix *matrix;
  uint32_t *panels;
} pack_job;

/// Turns sixteen rows of sixteen pairs into columns.
INLINE void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  // r[4i + j] holds, in lane l, column 4l + j of rows 4i to 4i + 3.
  for (int j = 0; j < 4; j++) {
    __m512i a = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88), b = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
    __m512i c = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd), d = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[4 + j] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
  for (int i = 0; i < 16; i++) r[i] = t[i];
}

/// Panels of the transpose: a panel is 48 rows of the matrix, its units the pairs along them.
static void pack_forward(void *context, int64_t panel, int thread) {
  const pack_job *job = context;
  (void)thread;
  const sl_nf4_matrix *m = job->matrix;
  const int64_t units = m->inputs / 2, first = panel * panel_columns;
  uint32_t *out = job->panels + panel * panel_columns * units;
  for (int64_t b = 0; b < m->inputs / block; b++)
    for (int group = 0; group < 3; group++) {
      __m512i low[16], high[16];
      for (int i = 0; i < 16; i++) {
        const int64_t row = first + group * 16 + i;
        if (row < m->outputs) {
          const uint8_t *codes = m->codes + row * units + b * block_bytes;
          const __m512i values = values_of(m->absmax[row * (m->inputs / block) + b]);
          low[i] = pairs_of(codes, values);
          high[i] = pairs_of(codes + 16, values);
        } else {
          low[i] = high[i] = _mm512_setzero_si512();
        }
      }
      transpose(low);
      transpose(high);
      uint32_t *to = out + b * block_bytes * panel_columns + group * 16;
      for (int u = 0; u < 16; u++) {
        _mm512_storeu_si512(to + u * panel_columns, low[u]);
        _mm512_storeu_si512(to + (16 + u) * panel_columns, high[u]);
      }
    }
}

enum { strip_rows = 32 };

/// Panels of the matrix itself: a panel is 48 columns, its units pairs of rows. A task makes strip_rows / 2 units of all.
static void pack_backward(void *context, int64_t strip, int thread) {
  const pack_job *job = context;
  (void)thread;
  const sl_nf4_matrix *m = job->matrix;
  const int64_t units = m->outputs / 2, panels = sl_panel_count(m->inputs);
  const __m512i lower = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i upper = _mm512_set_epi16(63, 31, 62, 30, 61, 29, 60, 28, 59, 27, 58, 26, 57, 25, 56, 24, 55, 23, 54, 22,
                                         53, 21, 52, 20, 51, 19, 50, 18, 49, 17, 48, 16);
  const int64_t first = strip * strip_rows / 2, end = min_of(units, first + strip_rows / 2);
  // Three blocks are four panels.
  for (int64_t column = 0; column < m->inputs; column += 3 * block)
    for (int64_t u = first; u < end; u++) {
      _Alignas(64) uint32_t line[3 * block];
      const int64_t width = min_of(3 * block, m->inputs - column);
      for (int64_t c = 0; c < width; c += block) {
        const int64_t at = (2 * u * m->inputs + column + c) / block, next = at + m->inputs / block;
        const __m512i v0 = values_of(m->absmax[at]), v1 = values_of(m->absmax[next]);
        for (int half = 0; half < 2; half++) {
          const __m512i a = pairs_of(m->codes + at * block_bytes + half * 16, v0);
          const __m512i b = pairs_of(m->codes + next * block_bytes + half * 16, v1);
          _mm512_store_si512(line + c + half * 32, _mm512_permutex2var_epi16(a, lower, b));
          _mm512_store_si512(line + c + half * 32 + 16, _mm512_permutex2var_epi16(a, upper, b));
        }
      }
      for (int64_t c = width; c < 3 * block; c += 16) _mm512_store_si512(line + c, _mm512_setzero_si512());
      for (int p = 0; p < 4 && column / panel_columns + p < panels; p++) {
        uint32_t *to = job->panels + ((column / panel_columns + p) * units + u) * panel_columns;
        for (int v = 0; v < 3; v++)
          _mm512_storeu_si512(to + 16 * v, _mm512_load_si512(line + p * panel_columns + 16 * v));
      }
    }
}

void sl_nf4_pack(const sl_nf4_matrix *matrix, int backward, sl_packed_matrix *packed) {
  pack_job job = {matrix, (uint32_t *)sl_packed_panels(packed)};
  if (backward) sl_parallel((matrix->outputs + strip_rows - 1) / strip_rows, pack_backward, &job);
  else sl_parallel(sl_panel_count(matrix->outputs), pack_forward, &job);
}

#pragma clang attribute pop
#else
void sl_nf4_pack(const sl_nf4_matrix *matrix, int backward, sl_packed_matrix *packed) {
  (void)matrix, (void)backward, (void)packed;
}
#endif
