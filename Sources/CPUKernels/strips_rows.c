// Strips into dense rows, for products that take no panels.
#ifndef SL_SOURCE
#include "bfloat16.h"
#include "include/strips.h"
#include "strips.h"

struct unpack {
  const sl_strips *strips;
  int64_t first, end;  // rows
  sl_dtype dtype;
  char *rows;
};

/// Writes 32 elements of a strip's rows, [32][16], to where they belong.
static void write_rows(const struct unpack *c, int64_t strip, int64_t column, const float *elements) {
  for (int row = 0; row < strip_rows; row++) {
    const int64_t index = strip * strip_rows + row;
    if (index < c->first || index >= c->end) continue;
    const int64_t at = (index - c->first) * c->strips->k + column;
    if (c->dtype == SL_F32) {
      float *to = (float *)c->rows + at;
      for (int i = 0; i < 32; i++) to[i] = elements[i * strip_rows + row];
    } else {
      uint16_t *to = (uint16_t *)c->rows + at;
      for (int i = 0; i < 32; i++) to[i] = sl_float_to_bf16(elements[i * strip_rows + row]);
    }
  }
}

#define SL_SOURCE "strips_rows.c"
#include "each_path.h"

void sl_blocks_unpack(const sl_packed_matrix *packed, int64_t first, int64_t end, sl_dtype dtype, void *rows) {
  struct unpack c = {sl_packed_strips(packed), first, end, dtype, rows};
  if (first >= end) return;
  sl_parallel(strip_count(end) - first / strip_rows, SL_CHOOSE(unpack_task), &c);
}

#else
// A product and a sum round one after the other, as in CBlockFormats.
#pragma clang fp contract(off)
#define PARTS (strip_rows / SL_WIDTH)
#define UNROLL _Pragma("clang loop unroll(full)")

/// What lanes of a strip have in common over some elements.
typedef struct {
  VF scale[PARTS], second_scale[PARTS], below[PARTS];
} SL_NAME(lanes);

#include "strips_lanes.h"

/// 32 elements of all lanes, [32][16].
FN void SL_NAME(decode)(const sl_block_format f, const uint8_t *codes, const SL_NAME(lanes) *lanes, float *out) {
  UNROLL for (int i = 0; i < 32; i++) {
    UNROLL for (int p = 0; p < PARTS; p++) {
      const VI q = SL_NAME(code)(f, codes + 4 * SL_WIDTH * p, i);
      VF x = (i < 16 ? lanes->scale[p] : lanes->second_scale[p]) * __builtin_convertvector(q, VF);
      if (strip_has_minima(f)) x = x + lanes->below[p];
      *(VF *)(out + strip_rows * i + SL_WIDTH * p) = x;
    }
  }
}

FN void SL_NAME(strip)(const sl_block_format f, const struct unpack *c, int64_t index) {
  const uint8_t *at = c->strips->values + index * strip_bytes(f, c->strips->k);
  float out[32 * strip_rows];
  for (int64_t g = 0; g < c->strips->k / strip_group(f); g++) {
    SL_NAME(lanes) head = {}, lanes;
    UNROLL for (int p = 0; p < PARTS; p++) {
      head.scale[p] = head.second_scale[p] = SL_NAME(halves)(at + 2 * SL_WIDTH * p);
      if (strip_has_minima(f)) head.below[p] = SL_NAME(halves)(at + 32 + 2 * SL_WIDTH * p);
    }
    at += strip_head(f);
    if (!strip_is_large(f)) {
      SL_NAME(decode)(f, at, &head, out);
      write_rows(c, index, 32 * g, out);
      at += strip_codes(f);
      continue;
    }
    for (int part = 0; part < 8; part++) {
      lanes = head;
      UNROLL for (int p = 0; p < PARTS; p++) {
        const uint8_t *small = at + SL_WIDTH * p;
        if (f == SL_BLOCKS_Q6_K) {
          lanes.scale[p] *= SL_NAME(signed_bytes)(small);
          lanes.second_scale[p] *= SL_NAME(signed_bytes)(small + 16);
        } else {
          lanes.scale[p] *= SL_NAME(bytes)(small);
          lanes.second_scale[p] = lanes.scale[p];
          lanes.below[p] = -(lanes.below[p] * SL_NAME(bytes)(small + 16));
        }
      }
      SL_NAME(decode)(f, at + 32, &lanes, out);
      write_rows(c, index, 256 * g + 32 * part, out);
      at += 32 + strip_codes(f);
    }
  }
}

#define STRIP(format)                                                                                                  \
  case format: SL_NAME(strip)(format, c, index); break;
static void SL_NAME(unpack_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct unpack *c = context;
  const int64_t index = c->first / strip_rows + task;
  switch (c->strips->format) {
    EACH_STRIP_FORMAT(STRIP)
  }
}
#undef STRIP
#undef UNROLL
#undef PARTS

#endif
