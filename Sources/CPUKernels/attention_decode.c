// Attention of a few queries to a long cache, as in decoding: reads keys and values once, at memory speed.
//
// A task is one range of keys for one or more key heads; ranges have a fixed length, and their results are combined in order, so
// the bits don't depend on the threads.
#ifndef SL_SOURCE
#include "attention_internal.h"

enum { RANGE = 256 };  // keys of a task

struct decode {
  const sl_attention_shape *shape;
  const sl_span *spans;
  int64_t span_count, padded, heads_per_task;
  const void *q, *k, *v;
  void *o;
  float *lse;
  int64_t ldq, ldk, ldv, ldo, lse_stride;
  int64_t *first_range;  // per span, [span_count + 1]
  float *parts;          // per (range, kv head): maxima [DECODE_ROWS], sums [DECODE_ROWS], o [DECODE_ROWS][padded]
  int64_t part_size;
};

/// Ranges of the keys that a span's queries see.
static int64_t ranges_of(const sl_attention_shape *shape, const sl_span *span) {
  if (span->q_count == 0) return 0;
  int64_t first = span->kv_count - span->q_count - shape->window + 1;
  return blocks_of(span->kv_count, RANGE) - (shape->window > 0 && first > 0 ? first / RANGE : 0);
}

#define SL_SOURCE "attention_decode.c"
#define SL_PAIRED_TOO
#include "each_path.h"

void sl_attention_decode(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                         int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, void *o, int64_t ldo,
                         float *lse, int64_t lse_stride) {
  struct decode c = {.shape = shape, .spans = spans, .span_count = span_count, .q = q, .k = k, .v = v, .o = o,
                     .lse = lse, .ldq = ldq, .ldk = ldk, .ldv = ldv, .ldo = ldo, .lse_stride = lse_stride};
  c.padded = tiling_of(shape).padded;
  c.part_size = DECODE_ROWS * (2 + c.padded);
  int64_t ranges = 0;
  for (int64_t i = 0; i < span_count; i++) ranges += ranges_of(shape, &spans[i]);
  size_t table = ((size_t)(span_count + 1) * sizeof(int64_t) + 63) / 64 * 64;
  char *scratch = sl_take_scratch(table + (size_t)(ranges * shape->kv_heads * c.part_size) * sizeof(float));
  if (scratch == NULL) {
    sl_attention_forward_simple(shape, spans, span_count, q, ldq, k, ldk, v, ldv, o, ldo, lse, lse_stride);
    return;
  }
  // Few ranges: a task for each key head, so that every thread has work. Many: all heads in one, to read memory in order.
  c.heads_per_task = 1;
  if (ranges >= 4 * sl_thread_count())
    for (int64_t heads = 2; heads <= 8; heads++)
      if (shape->kv_heads % heads == 0) c.heads_per_task = heads;
  c.first_range = (int64_t *)scratch;
  c.parts = (float *)(scratch + table);
  c.first_range[0] = 0;
  for (int64_t i = 0; i < span_count; i++) c.first_range[i + 1] = c.first_range[i] + ranges_of(shape, &spans[i]);
  sl_parallel(ranges * (shape->kv_heads / c.heads_per_task), SL_CHOOSE_PAIRED(range_task, shape->dtype), &c);
  // Little work is done before another thread has woken.
  void (*combine)(void *, int64_t, int) = SL_CHOOSE_PAIRED(combine_task, shape->dtype);
  if (ranges * shape->heads * c.padded <= 8192) {
    for (int64_t task = 0; task < span_count * shape->heads; task++) combine(&c, task, 0);
  } else {
    sl_parallel(span_count * shape->heads, combine, &c);
  }
  sl_return_scratch(scratch);
}

#else
#include "attention_tile.h"

/// Scores of one row of queries against 16 keys in units [16][units].
FN void SL_NAME(score)(const unit *q, const unit *keys, int64_t units, float *scores) {
  _Alignas(64) float lanes[16 * SL_WIDTH];
  for (int64_t key = 0; key < 16; key++) {
    VF sum = {};
    for (int64_t u = 0; u < units; u += SL_WIDTH) {
#if SL_PAIR == 2
      sum = (VF)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(q + u),
                                 (__m512bh)_mm512_loadu_si512(keys + key * units + u));
#else
      sum += *(const VF *)(q + u) * *(const VF *)(keys + key * units + u);
#endif
    }
    *(VF *)(lanes + key * SL_WIDTH) = sum;
  }
#if SL_WIDTH == 16
  *(VF *)scores = row_sums(lanes);
#else
  for (int64_t key = 0; key < 16; key++) scores[key] = v_sum(*(VF *)(lanes + key * SL_WIDTH));
#endif
}

/// One block of keys for the queries of one key head's group: updates their running results in `part` and `sums`.
FN void SL_NAME(decode_block)(const struct decode *c, const sl_span *span, int64_t kv_head, int64_t key, int64_t count,
                              int64_t padded, const unit *q, float *sums, float *part) {
  const sl_attention_shape *s = c->shape;
  const int64_t d = s->head_dim, columns = (count + 15) / 16 * 16;
  const int64_t offset = span->kv_count - span->q_count, rows = s->heads / s->kv_heads * span->q_count;
  const size_t size = sl_dtype_size(s->dtype);
  float *maximum = part, *o = part + 2 * DECODE_ROWS;
  _Alignas(64) unit natural[KEY_BLOCK * UNITS(padded)], weights[DECODE_ROWS * UNITS(KEY_BLOCK)];
  _Alignas(64) float scores[DECODE_ROWS * KEY_BLOCK], alpha[DECODE_ROWS];
#if SL_PAIR == 2
  _Alignas(64) unit values[UNITS(KEY_BLOCK) * padded];
#else
  unit *values = natural;
#endif
  memset(scores, 0, sizeof scores);
  const char *k = (const char *)c->k + (size_t)((span->kv_begin + key) * c->ldk + kv_head * d) * size;
  const char *v = (const char *)c->v + (size_t)((span->kv_begin + key) * c->ldv + kv_head * d) * size;
  pack_natural(k, c->ldk, count, columns, 1, d, padded, s->dtype, natural);
  for (int64_t r = 0; r < rows; r++) {
    float *row = scores + r * KEY_BLOCK;
    for (int64_t i = 0; i < columns; i += 16)
      SL_NAME(score)(q + r * UNITS(padded), natural + i * UNITS(padded), UNITS(padded), row + i);
    const int64_t last = r % span->q_count + offset, first = s->window > 0 ? last - s->window + 1 : 0;
    if (key + columns - 1 > last || key < first)
      for (int64_t i = 0; i < columns; i++) row[i] = key + i > last || key + i < first ? -INFINITY : row[i];
  }
  softmax_block(DECODE_ROWS, columns, scores, weights, maximum, sums, alpha, s->scale * 1.44269504088896341f);
  pack_natural(v, c->ldv, count, columns, 1, d, padded, s->dtype, natural);
#if SL_PAIR == 2
  pack_pairs(natural, columns, padded, values);
#endif
  product((rows + 7) / 8 * 8, c->padded, UNITS(columns), weights, UNITS(KEY_BLOCK), true, values, padded, o, c->padded,
          PRODUCT_SCALE_ADD, alpha);
}

/// One range of keys for some of the key heads. Block by block for all of them, as the cache lies in memory.
static void SL_NAME(range_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct decode *c = context;
  const sl_attention_shape *s = c->shape;
  const int64_t pieces = s->kv_heads / c->heads_per_task, range = task / pieces, d = s->head_dim;
  const int64_t first_head = task % pieces * c->heads_per_task, group = s->heads / s->kv_heads;
  const int64_t index = span_at(c->first_range, c->span_count, range);
  const sl_span *span = &c->spans[index];
  // Ranges are counted back from the last one, which is where a window ends.
  const int64_t number = blocks_of(span->kv_count, RANGE) - (c->first_range[index + 1] - range);
  const int64_t begin = number * RANGE, end = min_of(begin + RANGE, span->kv_count);
  const int64_t padded = (c->padded + SL_PAIR * SL_WIDTH - 1) / (SL_PAIR * SL_WIDTH) * (SL_PAIR * SL_WIDTH);
  const int64_t q_units = DECODE_ROWS * UNITS(padded);

  _Alignas(64) unit q[c->heads_per_task * q_units];
  _Alignas(64) float sums[c->heads_per_task * DECODE_ROWS * SL_WIDTH];
  float *parts = c->parts + (range * s->kv_heads + first_head) * c->part_size;
  memset(sums, 0, sizeof sums);
  memset(parts, 0, sizeof(float) * (size_t)(c->heads_per_task * c->part_size));
  for (int64_t h = 0; h < c->heads_per_task; h++) {
    const int64_t element = span->q_begin * c->ldq + (first_head + h) * group * d;
    pack_natural((const char *)c->q + (size_t)element * sl_dtype_size(s->dtype), c->ldq, span->q_count, span->q_count,
                 group, d, padded, s->dtype, q + h * q_units);
    for (int64_t r = 0; r < DECODE_ROWS; r++) parts[h * c->part_size + r] = -1e30f;
  }
  for (int64_t key = begin; key < end; key += KEY_BLOCK)
    for (int64_t h = 0; h < c->heads_per_task; h++)
      SL_NAME(decode_block)(c, span, first_head + h, key, min_of(KEY_BLOCK, end - key), padded, q + h * q_units,
                            sums + h * DECODE_ROWS * SL_WIDTH, parts + h * c->part_size);
  for (int64_t h = 0; h < c->heads_per_task; h++)
    for (int64_t r = 0; r < DECODE_ROWS; r++)
      parts[h * c->part_size + DECODE_ROWS + r] = v_sum(*(VF *)(sums + (h * DECODE_ROWS + r) * SL_WIDTH));
}

/// Combines the ranges of one head of one span.
static void SL_NAME(combine_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct decode *c = context;
  const sl_attention_shape *s = c->shape;
  const int64_t index = task / s->heads, head = task % s->heads, d = s->head_dim, group = s->heads / s->kv_heads;
  const sl_span *span = &c->spans[index];
  const int64_t count = c->first_range[index + 1] - c->first_range[index], step = s->kv_heads * c->part_size;
  const float *parts = c->parts + (c->first_range[index] * s->kv_heads + head / group) * c->part_size;
  _Alignas(64) float o[c->padded];
  for (int64_t i = 0; i < span->q_count; i++) {
    const int64_t r = head % group * span->q_count + i, row = span->q_begin + i;
    float highest = -1e30f, total = 0;
    for (int64_t n = 0; n < count; n++) highest = fmaxf(highest, parts[n * step + r]);
    memset(o, 0, sizeof o);
    for (int64_t n = 0; n < count; n++) {
      const float *part = parts + n * step, weight = expf((part[r] - highest) * s->scale);
      total += part[DECODE_ROWS + r] * weight;
      for (int64_t x = 0; x < c->padded; x += SL_WIDTH)
        *(VF *)(o + x) += *(const VF *)(part + 2 * DECODE_ROWS + r * c->padded + x) * weight;
    }
    if (c->lse != NULL) c->lse[head * c->lse_stride + row] = highest * s->scale + logf(total);
    const float inverse = 1.0f / total;
    int64_t x = 0;
    for (; x + SL_WIDTH <= d; x += SL_WIDTH)
      v_store(c->o, row * c->ldo + head * d + x, s->dtype, *(VF *)(o + x) * inverse);
    if (x < d) v_store_part(c->o, row * c->ldo + head * d + x, d - x, s->dtype, *(VF *)(o + x) * inverse);
  }
}

#endif
