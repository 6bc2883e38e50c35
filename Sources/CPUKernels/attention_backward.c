// Attention, backward: the weights are computed again tile by tile from the saved log-sum-exp.
//
// A task is a few blocks of keys of one key head: it keeps their dK and dV, and walks over the query tiles that see a
// block, adding to their dQ. Blocks add to a tile in rising order, each task waiting for the one before (the queue hands
// tasks out in that order, so the one waited for is done or running): the sums have one order whatever the thread count.
#ifndef SL_SOURCE
#include "attention_internal.h"
#include <sched.h>
#include <stdatomic.h>

struct key_task {
  int32_t span, block, blocks, kv_head;
};

struct backward {
  const sl_attention_shape *shape;
  const sl_span *spans;
  int64_t span_count;
  struct tiling tiling;
  int64_t tiles, tasks, most_blocks;  // most_blocks: of a task
  const void *q, *k, *v, *o, *d_o;
  void *dq, *dk, *dv;
  const float *lse;
  int64_t ldq, ldk, ldv, ldo, lddo, lddq, lddk, lddv, lse_stride;
  // In the workspace:
  int64_t *first_tile;           // per span, [span_count + 1]
  struct key_task *key_tasks;    // [tasks]
  _Atomic(int32_t) *blocks_done; // per (tile, kv head): blocks of keys whose part of dQ has been added
  float *delta, *lse2;           // per (tile, kv head, head of the group, position): Σ dO · O; log-sum-exp in base 2
  float *dq_sums;                // per (tile, kv head, head of the group, position): [padded]
  uint32_t *q_units, *d_o_units; // per (tile, kv head): units along head_dim, then (pairs only) along the rows
};

/// Lays the workspace out; with `base` NULL only its size counts.
static size_t lay_out(struct backward *c, char *base) {
  const sl_attention_shape *s = c->shape;
  c->tiling = tiling_of(s);
  c->tiles = c->tasks = 0;
  int64_t blocks = 0;
  for (int64_t i = 0; i < c->span_count; i++) {
    c->tiles += blocks_of(c->spans[i].q_count, c->tiling.positions);
    blocks += blocks_of(c->spans[i].kv_count, KEY_BLOCK);
  }
  // Several blocks share what a tile reads and writes; their dK and dV still fit in the second cache.
  c->most_blocks = blocks * s->kv_heads / (16 * sl_thread_count());
  if (c->most_blocks > 16384 / (KEY_BLOCK * c->tiling.padded)) c->most_blocks = 16384 / (KEY_BLOCK * c->tiling.padded);
  if (c->most_blocks < 1) c->most_blocks = 1;
  for (int64_t i = 0; i < c->span_count; i++)
    c->tasks += blocks_of(blocks_of(c->spans[i].kv_count, KEY_BLOCK), c->most_blocks) * s->kv_heads;
  size_t rows = (size_t)(c->tiles * c->tiling.positions * s->heads), at = 0;
#define PLACE(field, count)                                                                                            \
  c->field = (void *)(base + at);                                                                                      \
  at += ((count) * sizeof *c->field + 63) / 64 * 64
  PLACE(first_tile, (size_t)c->span_count + 1);
  PLACE(key_tasks, (size_t)c->tasks);
  PLACE(blocks_done, (size_t)(c->tiles * s->kv_heads));
  PLACE(delta, rows);
  PLACE(lse2, rows);
  PLACE(dq_sums, rows * (size_t)c->tiling.padded);
  PLACE(q_units, rows * (size_t)c->tiling.padded);
  PLACE(d_o_units, rows * (size_t)c->tiling.padded);
#undef PLACE
  return at;
}

/// Waits until `count` blocks have been added.
static void wait_for(_Atomic(int32_t) *done, int32_t count) {
  for (int spins = 0; atomic_load_explicit(done, memory_order_acquire) < count; spins++)
    if (spins >= 200) sched_yield();
}

#define SL_SOURCE "attention_backward.c"
#define SL_PAIRED_TOO
#include "each_path.h"

size_t sl_attention_backward_workspace(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count) {
  struct backward c = {.shape = shape, .spans = spans, .span_count = span_count};
  return lay_out(&c, NULL);
}

void sl_attention_backward(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                           int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, const void *o,
                           int64_t ldo, const float *lse, int64_t lse_stride, const void *d_o, int64_t lddo, void *dq,
                           int64_t lddq, void *dk, int64_t lddk, void *dv, int64_t lddv, void *workspace) {
  struct backward c = {.shape = shape, .spans = spans, .span_count = span_count, .q = q, .k = k, .v = v, .o = o,
                       .d_o = d_o, .dq = dq, .dk = dk, .dv = dv, .lse = lse, .ldq = ldq, .ldk = ldk, .ldv = ldv,
                       .ldo = ldo, .lddo = lddo, .lddq = lddq, .lddk = lddk, .lddv = lddv, .lse_stride = lse_stride};
  lay_out(&c, workspace);
  c.first_tile[0] = 0;
  for (int64_t i = 0; i < span_count; i++)
    c.first_tile[i + 1] = c.first_tile[i] + blocks_of(spans[i].q_count, c.tiling.positions);
  // The first blocks of every document first: they have the most queries, and a block seldom waits for its neighbor.
  int64_t task = 0;
  for (int64_t block = 0; task < c.tasks; block += c.most_blocks)
    for (int64_t i = 0; i < span_count; i++) {
      int64_t count = min_of(c.most_blocks, blocks_of(spans[i].kv_count, KEY_BLOCK) - block);
      for (int32_t head = 0; count > 0 && head < shape->kv_heads; head++)
        c.key_tasks[task++] = (struct key_task){(int32_t)i, (int32_t)block, (int32_t)count, head};
    }
  sl_parallel(c.tiles * shape->kv_heads, SL_CHOOSE_PAIRED(prepare_task, shape->dtype), &c);
  sl_parallel(c.tasks, SL_CHOOSE_PAIRED(key_blocks_task, shape->dtype), &c);
}

#else
#include "attention_tile.h"

/// Packs the queries and dO of one tile of one key head's group, and computes its delta and lse2.
static void SL_NAME(prepare_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct backward *c = context;
  const sl_attention_shape *s = c->shape;
  int64_t tile = task / s->kv_heads, kv_head = task % s->kv_heads, group = s->heads / s->kv_heads, d = s->head_dim;
  int64_t index = span_at(c->first_tile, c->span_count, tile), positions = c->tiling.positions;
  const sl_span *span = &c->spans[index];
  int64_t q_first = (tile - c->first_tile[index]) * positions;
  atomic_store_explicit(&c->blocks_done[task], 0, memory_order_relaxed);
  const size_t size = sl_dtype_size(s->dtype);
  const int64_t padded = c->tiling.padded, rows = group * positions, q_count = min_of(positions, span->q_count - q_first);
  unit *q = c->q_units + task * rows * padded, *d_o = c->d_o_units + task * rows * padded;
  const int64_t first_row = span->q_begin + q_first, column = kv_head * group * d;
  pack_natural((const char *)c->q + (size_t)(first_row * c->ldq + column) * size, c->ldq, q_count, positions, group, d,
               padded, s->dtype, q);
  pack_natural((const char *)c->d_o + (size_t)(first_row * c->lddo + column) * size, c->lddo, q_count, positions, group,
               d, padded, s->dtype, d_o);
#if SL_PAIR == 2
  pack_pairs(q, rows, padded, q + rows * UNITS(padded));
  pack_pairs(d_o, rows, padded, d_o + rows * UNITS(padded));
#endif
  for (int64_t p = 0; p < positions; p++)
    for (int64_t g = 0; g < group; g++) {
      int64_t r = (task * group + g) * positions + p, head = kv_head * group + g, i = 0;
      if (q_first + p >= span->q_count) {
        c->delta[r] = 0;
        c->lse2[r] = INFINITY;  // no weight
        continue;
      }
      int64_t row = span->q_begin + q_first + p, o = row * c->ldo + head * d, d_o = row * c->lddo + head * d;
      VF sum = {};
      for (; i + SL_WIDTH <= d; i += SL_WIDTH) sum += v_load(c->o, o + i, s->dtype) * v_load(c->d_o, d_o + i, s->dtype);
      if (i < d) sum += v_load_part(c->o, o + i, d - i, s->dtype) * v_load_part(c->d_o, d_o + i, d - i, s->dtype);
      c->delta[r] = v_sum(sum);
      c->lse2[r] = c->lse[head * c->lse_stride + row] * 1.44269504088896341f;
    }
}

/// Scores and the weights' gradients [rows][KEY_BLOCK] -> weights and score gradients in units along the rows, and score
/// gradients in units along the keys (which are the same numbers when SL_PAIR is 1).
FN void SL_NAME(weigh)(int64_t rows, int64_t columns, const float *scores, const float *d_weights, const float *lse2,
                       const float *delta, float factor, unit *weights, unit *d_scores, unit *d_scores_by_key) {
  for (int64_t r = 0; r < rows; r += SL_PAIR) {
    const float *s = scores + r * KEY_BLOCK, *dw = d_weights + r * KEY_BLOCK;
#if SL_PAIR == 2
    const __m512i index = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    uint16_t *natural = (uint16_t *)d_scores_by_key + r * KEY_BLOCK;
    float lse0 = lse2[r], lse1 = lse2[r + 1], delta0 = delta[r], delta1 = delta[r + 1];
    for (int64_t i = 0; i < columns; i += 16) {
      VF p0 = exp2_tile(*(const VF *)(s + i) * factor - lse0);
      VF p1 = exp2_tile(*(const VF *)(s + KEY_BLOCK + i) * factor - lse1);
      VF d0 = p0 * (*(const VF *)(dw + i) - delta0), d1 = p1 * (*(const VF *)(dw + KEY_BLOCK + i) - delta1);
      __m512i p = (__m512i)_mm512_cvtne2ps_pbh((__m512)p1, (__m512)p0);
      __m512i d = (__m512i)_mm512_cvtne2ps_pbh((__m512)d1, (__m512)d0);
      _mm512_storeu_si512(weights + r / 2 * KEY_BLOCK + i, _mm512_permutexvar_epi16(index, p));
      _mm512_storeu_si512(d_scores + r / 2 * KEY_BLOCK + i, _mm512_permutexvar_epi16(index, d));
      _mm256_storeu_si256((__m256i *)(natural + i), _mm512_castsi512_si256(d));
      _mm256_storeu_si256((__m256i *)(natural + KEY_BLOCK + i), _mm512_extracti64x4_epi64(d, 1));
    }
#else
    (void)d_scores_by_key;
    for (int64_t i = 0; i < columns; i += SL_WIDTH) {
      VF p = exp2_tile(*(const VF *)(s + i) * factor - lse2[r]);
      *(VF *)(weights + r * KEY_BLOCK + i) = p;
      *(VF *)(d_scores + r * KEY_BLOCK + i) = p * (*(const VF *)(dw + i) - delta[r]);
    }
#endif
  }
}

/// Writes rows of sums, times `scale`, in the caller's type.
FN void SL_NAME(write_rows)(int64_t rows, int64_t width, const float *sums, int64_t padded, float scale, void *out,
                            int64_t first, int64_t stride, sl_dtype dtype) {
  for (int64_t r = 0; r < rows; r++, sums += padded, first += stride) {
    int64_t i = 0;
    for (; i + SL_WIDTH <= width; i += SL_WIDTH) v_store(out, first + i, dtype, *(const VF *)(sums + i) * scale);
    if (i < width) v_store_part(out, first + i, width - i, dtype, *(const VF *)(sums + i) * scale);
  }
}

static void SL_NAME(key_blocks_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct backward *c = context;
  const sl_attention_shape *s = c->shape;
  const struct key_task *t = &c->key_tasks[task];
  const sl_span *span = &c->spans[t->span];
  const int64_t group = s->heads / s->kv_heads, d = s->head_dim, padded = c->tiling.padded;
  const int64_t positions = c->tiling.positions, offset = span->kv_count - span->q_count;
  const int64_t task_key = t->block * KEY_BLOCK, task_keys = min_of(t->blocks * KEY_BLOCK, span->kv_count - task_key);
  const int64_t most = c->tiling.heads_per_tile * positions, block_units = KEY_BLOCK * UNITS(padded);
  const size_t size = sl_dtype_size(s->dtype);
  const float factor = s->scale * 1.44269504088896341f;

  // Of each block: keys and values transposed, keys by key; dK and dV.
  _Alignas(64) unit keys[t->blocks * block_units], values[t->blocks * block_units], by_key[t->blocks * block_units];
  _Alignas(64) float dk[t->blocks * KEY_BLOCK * padded], dv[t->blocks * KEY_BLOCK * padded];
  _Alignas(64) unit natural[block_units];
  _Alignas(64) float scores[most * KEY_BLOCK], d_weights[most * KEY_BLOCK];
  _Alignas(64) unit weights[UNITS(most) * KEY_BLOCK], d_scores[UNITS(most) * KEY_BLOCK];
#if SL_PAIR == 2
  _Alignas(64) unit d_scores_by_key[most * UNITS(KEY_BLOCK)];
#else
  unit *d_scores_by_key = d_scores;
#endif

  for (int64_t b = 0; b < t->blocks; b++) {
    const int64_t row = span->kv_begin + task_key + b * KEY_BLOCK, count = min_of(KEY_BLOCK, task_keys - b * KEY_BLOCK);
    const char *v = (const char *)c->v + (size_t)(row * c->ldv + t->kv_head * d) * size;
    const char *k = (const char *)c->k + (size_t)(row * c->ldk + t->kv_head * d) * size;
    pack_natural(v, c->ldv, count, KEY_BLOCK, 1, d, padded, s->dtype, natural);
    pack_transposed(natural, UNITS(padded), values + b * block_units);
    pack_natural(k, c->ldk, count, KEY_BLOCK, 1, d, padded, s->dtype, natural);
    pack_transposed(natural, UNITS(padded), keys + b * block_units);
#if SL_PAIR == 2
    pack_pairs(natural, KEY_BLOCK, padded, by_key + b * block_units);
#else
    memcpy(by_key + b * block_units, natural, sizeof natural);
#endif
  }
  memset(dk, 0, sizeof dk);
  memset(dv, 0, sizeof dv);

  // Tiles of queries that see some key of the blocks.
  int64_t first_q = task_key > offset ? task_key - offset : 0, end_q = span->q_count;
  if (s->window > 0) end_q = min_of(end_q, task_key + task_keys - 1 + s->window - offset);
  for (int64_t i = first_q / positions; i * positions < end_q; i++) {
    const int64_t q_first = i * positions, q_count = min_of(positions, span->q_count - q_first);
    // The keys that the tile sees, and the task's blocks among theirs.
    const int64_t key_end = q_first + q_count + offset;
    const int64_t key_begin = s->window > 0 && q_first + offset - s->window + 1 > 0 ? q_first + offset - s->window + 1 : 0;
    const int64_t first_block = key_begin / KEY_BLOCK, end_block = (key_end - 1) / KEY_BLOCK + 1;
    const int64_t begin = t->block > first_block ? t->block : first_block, end = min_of(t->block + t->blocks, end_block);
    const int64_t slot = (c->first_tile[t->span] + i) * s->kv_heads + t->kv_head;
    wait_for(&c->blocks_done[slot], (int32_t)(begin - first_block));
    for (int64_t g = 0; g < group; g += c->tiling.heads_per_tile) {
      const int64_t heads = min_of(c->tiling.heads_per_tile, group - g), rows = heads * positions;
      const int64_t first_row = (slot * group + g) * positions, first_head = t->kv_head * group + g;
      float *dq = c->dq_sums + first_row * padded;
      const unit *q = c->q_units + slot * group * positions * padded + g * positions * UNITS(padded);
      const unit *d_o = c->d_o_units + slot * group * positions * padded + g * positions * UNITS(padded);
#if SL_PAIR == 2
      const unit *q_by_row = q + group * positions * UNITS(padded), *d_o_by_row = d_o + group * positions * UNITS(padded);
#else
      const unit *q_by_row = q, *d_o_by_row = d_o;
#endif
      for (int64_t block = begin; block < end; block++) {
        const int64_t key = block * KEY_BLOCK, columns = (min_of(KEY_BLOCK, key_end - key) + 15) / 16 * 16;
        const bool causal = key + columns - 1 > q_first + offset;
        const bool windowed = s->window > 0 && key < q_first + positions - 1 + offset - s->window + 1;
        const int64_t at = (block - t->block) * block_units, sums = (block - t->block) * KEY_BLOCK * padded;
        product(rows, columns, UNITS(padded), q, UNITS(padded), true, keys + at, KEY_BLOCK, scores, KEY_BLOCK,
                PRODUCT_STORE, NULL);
        if (causal || windowed)
          for (int64_t r = 0; r < rows; r++) {
            int64_t last = q_first + r % positions + offset, first = s->window > 0 ? last - s->window + 1 : 0;
            float *row = scores + r * KEY_BLOCK;
            for (int64_t x = 0; x < columns; x++) row[x] = key + x > last || key + x < first ? -INFINITY : row[x];
          }
        product(rows, columns, UNITS(padded), d_o, UNITS(padded), true, values + at, KEY_BLOCK, d_weights, KEY_BLOCK,
                PRODUCT_STORE, NULL);
        SL_NAME(weigh)(rows, columns, scores, d_weights, c->lse2 + first_row, c->delta + first_row, factor, weights,
                       d_scores, d_scores_by_key);
        product(columns, padded, UNITS(rows), weights, KEY_BLOCK, false, d_o_by_row, padded, dv + sums, padded,
                PRODUCT_ADD, NULL);
        product(columns, padded, UNITS(rows), d_scores, KEY_BLOCK, false, q_by_row, padded, dk + sums, padded,
                PRODUCT_ADD, NULL);
        if (block == first_block)
          product(rows, padded, UNITS(columns), d_scores_by_key, UNITS(KEY_BLOCK), true, by_key + at, padded, dq, padded,
                  PRODUCT_STORE, NULL);
        else
          product(rows, padded, UNITS(columns), d_scores_by_key, UNITS(KEY_BLOCK), true, by_key + at, padded, dq, padded,
                  PRODUCT_ADD, NULL);
      }
      if (end == end_block)
        for (int64_t h = 0; h < heads; h++)
          SL_NAME(write_rows)(q_count, d, dq + h * positions * padded, padded, s->scale, c->dq,
                              (span->q_begin + q_first) * c->lddq + (first_head + h) * d, c->lddq, s->dtype);
    }
    atomic_store_explicit(&c->blocks_done[slot], (int32_t)(end - first_block), memory_order_release);
  }
  const int64_t row = span->kv_begin + task_key;
  SL_NAME(write_rows)(task_keys, d, dk, padded, s->scale, c->dk, row * c->lddk + t->kv_head * d, c->lddk, s->dtype);
  SL_NAME(write_rows)(task_keys, d, dv, padded, 1.0f, c->dv, row * c->lddv + t->kv_head * d, c->lddv, s->dtype);
}

#endif
