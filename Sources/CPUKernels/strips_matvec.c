// A few rows times matrices in strips: every weight is read once, in the bits that its format gives it (strips_dot.h). A row's
// results are the same whatever rows it is multiplied with.
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
  int64_t strips_per_task, inputs, rows;
  const void *x;      // pairs of bf16, or fp32
  int64_t ldx;        // of those
  const float *sums;  // of each 32 elements of x, row after row
  sl_dtype dtype;
  int count, accumulate;
};

// Rows that share what is looked up of a weight: as many as have room for their sums in registers.
enum { most_rows = 4 };

static float element(const void *p, int64_t i, sl_dtype dtype) {
  return dtype == SL_F32 ? ((const float *)p)[i] : sl_bf16_to_float(((const uint16_t *)p)[i]);
}

/// Adds the pair's part to a row's sums of a strip, and writes them.
static void finish_strip(const struct blocks_linear *c, int part, int64_t strip, int64_t row, float *sums) {
  const sl_linear_part *p = &c->parts[part];
  const int64_t column = strip * strip_rows, n = c->strips[part]->n, rank = p->rank;
  const int count = (int)(n - column < strip_rows ? n - column : strip_rows);
  for (int i = 0; i < count && rank > 0; i++) {
    float sum = 0;
    for (int64_t r = 0; r < rank; r++)
      sum += element(p->b, (column + i) * rank + r, c->dtype) * element(p->s, row * p->lds + r, c->dtype);
    sums[i] += sum;
  }
  for (int i = 0; i < count; i++) {
    if (p->y_type == SL_F32) {
      float *y = (float *)p->y + row * p->ldy + column + i;
      *y = c->accumulate ? *y + sums[i] : sums[i];
    } else {
      uint16_t *y = (uint16_t *)p->y + row * p->ldy + column + i;
      *y = sl_float_to_bf16(c->accumulate ? sl_bf16_to_float(*y) + sums[i] : sums[i]);
    }
  }
}

#define SL_SOURCE "strips_matvec.c"
#define SL_PAIRED_TOO
#include "each_path.h"

enum { task_bytes = 32768 };

int sl_blocks_linear(sl_dtype dtype, int64_t rows, const void *x, int64_t ldx, int64_t inputs, int count,
                     const sl_linear_part *parts, int accumulate) {
  const bool pairs = dtype == SL_BF16 && sl_current_path() == SL_PATH_AVX512BF16;
  struct blocks_linear c = {.parts = parts, .inputs = inputs, .rows = rows, .x = x, .ldx = pairs ? ldx / 2 : ldx,
                            .dtype = dtype, .count = count, .accumulate = accumulate};
  const size_t size = sl_dtype_size(dtype);
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
    for (int64_t r = 0; r < rows; r++)
      sl_matvec(&a, dtype, (const char *)x + (size_t)(r * ldx) * size, parts[j].a,
                (char *)parts[j].s + (size_t)(r * parts[j].lds) * size, dtype, 0);
  }
  const int64_t strips = c.first_strip[count], blocks = inputs / 32;
  if (strips == 0 || rows == 0) return 0;
  const bool widens = dtype == SL_BF16 && !pairs;
  float *room = NULL;
  if (minima || widens) {
    room = sl_take_scratch((size_t)(rows * (inputs + blocks)) * sizeof(float));
    if (room == NULL) return -1;
    float *wide = room + rows * blocks;
    for (int64_t r = 0; r < rows; r++) {
      const void *row = (const char *)x + (size_t)(r * ldx) * size;
      if (minima) SL_CHOOSE(block_sums)(inputs, row, dtype, room + r * blocks);
      for (int64_t i = 0; widens && i < inputs; i++) wide[r * inputs + i] = sl_bf16_to_float(((const uint16_t *)row)[i]);
    }
    c.sums = room;
    if (widens) c.x = wide, c.ldx = inputs;
  }
  c.strips_per_task = task_bytes * strips / (bytes * (rows + most_rows - 1) / most_rows + 1);
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

#include "strips_lanes.h"

#define UNROLL _Pragma("clang loop unroll(full)")
#define EACH(r, i) UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < PARTS; i++)

#include "strips_dot.h"

/// One strip times `rows` rows from `row` on: [rows][16].
FN void SL_NAME(strip)(const sl_block_format f, const int rows, const struct blocks_linear *c, const uint8_t *at,
                       int64_t row, float *result) {
  SL_NAME(tables) tables;
  SL_NAME(make_tables)(f, tables);
  const SL_NAME(input) *x = (const SL_NAME(input) *)c->x + row * c->ldx;
  const int64_t step = 32 / SL_PAIR, blocks = c->inputs / 32;
  const float *sums = c->sums + row * blocks;
  VF sum[most_rows][PARTS], below[most_rows][PARTS], first[most_rows][PARTS], second[most_rows][PARTS];
  EACH(r, i) sum[r][i] = below[r][i] = (VF){};
  const bool minima = strip_has_minima(f);
  for (int64_t g = 0, groups = c->inputs / strip_group(f); g < groups; g++) {
    const uint8_t *head = at;
    at += strip_head(f);
    if (!strip_is_large(f)) {
      SL_NAME(block)(f, rows, tables, at, x, c->ldx, first, second);
      EACH(r, i) {
        sum[r][i] += SL_NAME(halves)(head + 2 * SL_WIDTH * i) * first[r][i];
        if (minima) below[r][i] += SL_NAME(halves)(head + 32 + 2 * SL_WIDTH * i) * sums[r * blocks + g];
      }
      x += step;
      at += strip_codes(f);
      continue;
    }
    VF inner[most_rows][PARTS], inner_below[most_rows][PARTS];
    EACH(r, i) inner[r][i] = inner_below[r][i] = (VF){};
    for (int part = 0; part < 8; part++, x += step, at += strip_codes(f)) {
      const uint8_t *small = at;
      at += strip_small(f) + (minima ? 16 : 0);
      SL_NAME(block)(f, rows, tables, at, x, c->ldx, first, second);
      EACH(r, i) {
        if (f == SL_BLOCKS_Q6_K) {
          inner[r][i] += SL_NAME(signed_bytes)(small + SL_WIDTH * i) * first[r][i];
          inner[r][i] += SL_NAME(signed_bytes)(small + 16 + SL_WIDTH * i) * second[r][i];
        } else {
          inner[r][i] += SL_NAME(bytes)(small + SL_WIDTH * i) * first[r][i];
          inner_below[r][i] += SL_NAME(bytes)(small + 16 + SL_WIDTH * i) * sums[r * blocks + 8 * g + part];
        }
      }
    }
    EACH(r, i) {
      sum[r][i] += SL_NAME(halves)(head + 2 * SL_WIDTH * i) * inner[r][i];
      if (minima) below[r][i] -= SL_NAME(halves)(head + 32 + 2 * SL_WIDTH * i) * inner_below[r][i];
    }
  }
  EACH(r, i) *(VF *)(result + strip_rows * r + SL_WIDTH * i) = sum[r][i] + below[r][i];
}

/// Writes a row's sums of a whole strip of a matrix without a pair; at: the first of its elements.
FN void SL_NAME(write)(const sl_linear_part *p, int64_t at, const float *sums, int accumulate) {
  for (int i = 0; i < strip_rows; i += SL_WIDTH) {
    VF sum = *(const VF *)(sums + i);
    if (p->y_type == SL_F32) {
      if (accumulate) sum += v_load(p->y, at + i, SL_F32);
      v_store(p->y, at + i, SL_F32, sum);
    } else {
      if (accumulate) sum += v_load(p->y, at + i, SL_BF16);
      v_store(p->y, at + i, SL_BF16, sum);
    }
  }
}

#define STRIP(format)                                                                                                  \
  case format:                                                                                                         \
    if (left >= 4) SL_NAME(strip)(format, 4, c, at, row, sums);                                                        \
    else if (left >= 2) SL_NAME(strip)(format, 2, c, at, row, sums);                                                   \
    else SL_NAME(strip)(format, 1, c, at, row, sums);                                                                  \
    break;
/// One strip times the rows from `row` on, as many at once as share lookups; returns how many.
static int SL_NAME(some_rows)(const struct blocks_linear *c, sl_block_format format, const uint8_t *at, int64_t row,
                              float *sums) {
  const int64_t left = c->rows - row;
  switch (format) {
    EACH_STRIP_FORMAT(STRIP)
  }
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static void SL_NAME(strips_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct blocks_linear *c = context;
  const int64_t all = c->first_strip[c->count], end = (task + 1) * c->strips_per_task;
  int part = 0;
  for (int64_t i = task * c->strips_per_task; i < end && i < all; i++) {
    while (i >= c->first_strip[part + 1]) part++;
    const sl_strips *s = c->strips[part];
    const sl_linear_part *p = &c->parts[part];
    const int64_t strip = i - c->first_strip[part];
    const uint8_t *at = s->values + strip * strip_bytes(s->format, s->k);
    const bool is_plain = p->rank == 0 && (strip + 1) * strip_rows <= s->n;
    float sums[most_rows * strip_rows];
    for (int64_t row = 0; row < c->rows;) {
      const int count = SL_NAME(some_rows)(c, s->format, at, row, sums);
      for (int r = 0; r < count; r++, row++) {
        if (is_plain) SL_NAME(write)(p, row * p->ldy + strip * strip_rows, sums + r * strip_rows, c->accumulate);
        else finish_strip(c, part, strip, row, sums + r * strip_rows);
      }
    }
  }
}
#undef STRIP
#undef EACH
#undef UNROLL
#undef PARTS

#endif
