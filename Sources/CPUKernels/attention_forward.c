// Attention, forward: tiles of queries over blocks of keys with an online softmax.
//
// A tile holds a few query positions of several heads of one group, so that heads which share keys share the packed
// keys too, and a causal tile stays narrow. Keys and values are packed once per call for all tiles.
#ifndef SL_SOURCE
#include "attention_internal.h"

struct forward {
  const sl_attention_shape *shape;
  const sl_span *spans;
  int64_t span_count, padded, positions, heads_per_tile, head_tiles;
  const void *q, *k, *v;
  void *o;
  float *lse;
  int64_t ldq, ldk, ldv, ldo, lse_stride;
  int64_t *first_block;  // per span: its first block of packed keys, counted over all spans; [span_count + 1]
  int64_t *first_tile;   // per span: its first query tile; [span_count + 1]
  uint32_t *packed;      // per (block, kv head): keys transposed, then values
  int64_t block_units;   // of one such pair
};

#define SL_SOURCE "attention_forward.c"
#define SL_PAIRED_TOO
#include "each_path.h"

void sl_attention_forward(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                          int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, void *o, int64_t ldo,
                          float *lse, int64_t lse_stride) {
  struct forward c = {.shape = shape, .spans = spans, .span_count = span_count, .q = q, .k = k, .v = v, .o = o,
                      .lse = lse, .ldq = ldq, .ldk = ldk, .ldv = ldv, .ldo = ldo, .lse_stride = lse_stride};
  bool few = true;
  for (int64_t i = 0; i < span_count; i++) few &= spans[i].q_count * (shape->heads / shape->kv_heads) <= DECODE_ROWS;
  if (few) {
    sl_attention_decode(shape, spans, span_count, q, ldq, k, ldk, v, ldv, o, ldo, lse, lse_stride);
    return;
  }
  struct tiling tiling = tiling_of(shape);
  c.padded = tiling.padded;
  c.positions = tiling.positions;
  c.heads_per_tile = tiling.heads_per_tile;
  c.head_tiles = tiling.head_tiles;
  // Units hold one number or two: sized for one, which costs nothing until touched.
  c.block_units = 2 * KEY_BLOCK * c.padded;
  int64_t blocks = 0, tiles = 0;
  for (int64_t i = 0; i < span_count; i++) {
    blocks += blocks_of(spans[i].kv_count, KEY_BLOCK);
    tiles += blocks_of(spans[i].q_count, c.positions);
  }
  size_t tables = (size_t)(2 * (span_count + 1)) * sizeof(int64_t);
  tables = (tables + 63) / 64 * 64;
  char *scratch = sl_take_scratch(tables + (size_t)(blocks * shape->kv_heads * c.block_units) * sizeof(uint32_t));
  if (scratch == NULL) {
    sl_attention_forward_simple(shape, spans, span_count, q, ldq, k, ldk, v, ldv, o, ldo, lse, lse_stride);
    return;
  }
  c.first_block = (int64_t *)scratch;
  c.first_tile = c.first_block + span_count + 1;
  c.packed = (uint32_t *)(scratch + tables);
  c.first_block[0] = c.first_tile[0] = 0;
  for (int64_t i = 0; i < span_count; i++) {
    c.first_block[i + 1] = c.first_block[i] + blocks_of(spans[i].kv_count, KEY_BLOCK);
    c.first_tile[i + 1] = c.first_tile[i] + blocks_of(spans[i].q_count, c.positions);
  }
  sl_parallel(blocks * shape->kv_heads, SL_CHOOSE_PAIRED(pack_task, shape->dtype), &c);
  sl_parallel(tiles * shape->kv_heads * c.head_tiles, SL_CHOOSE_PAIRED(tile_task, shape->dtype), &c);
  sl_return_scratch(scratch);
}

#else
#include "attention_tile.h"

/// Packs one block of keys and values of one key head.
static void SL_NAME(pack_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct forward *c = context;
  const sl_attention_shape *s = c->shape;
  int64_t block = task / s->kv_heads, head = task % s->kv_heads, index = span_at(c->first_block, c->span_count, block);
  const sl_span *span = &c->spans[index];
  int64_t first = (block - c->first_block[index]) * KEY_BLOCK, count = span->kv_count - first;
  size_t size = sl_dtype_size(s->dtype);
  const char *k = (const char *)c->k + (size_t)((span->kv_begin + first) * c->ldk + head * s->head_dim) * size;
  const char *v = (const char *)c->v + (size_t)((span->kv_begin + first) * c->ldv + head * s->head_dim) * size;
  unit *keys = c->packed + task * c->block_units, *values = keys + KEY_BLOCK * c->padded;
  _Alignas(64) unit natural[KEY_BLOCK * UNITS(c->padded)];
  pack_natural(k, c->ldk, count, KEY_BLOCK, 1, s->head_dim, c->padded, s->dtype, natural);
  pack_transposed(natural, UNITS(c->padded), keys);
#if SL_PAIR == 2
  pack_natural(v, c->ldv, count, KEY_BLOCK, 1, s->head_dim, c->padded, s->dtype, natural);
  pack_pairs(natural, KEY_BLOCK, c->padded, values);
#else
  pack_natural(v, c->ldv, count, KEY_BLOCK, 1, s->head_dim, c->padded, s->dtype, values);
#endif
}

/// One tile: `positions` queries of up to `heads_per_tile` heads against all the keys they see.
static void SL_NAME(tile_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct forward *c = context;
  const sl_attention_shape *s = c->shape;
  int64_t lanes = s->kv_heads * c->head_tiles, tiles = c->first_tile[c->span_count];
  // The last tiles of a document are the longest: they go first.
  int64_t tile = tiles - 1 - task / lanes, kv_head = task % lanes / c->head_tiles, head_tile = task % c->head_tiles;
  int64_t index = span_at(c->first_tile, c->span_count, tile);
  const sl_span *span = &c->spans[index];
  int64_t group = s->heads / s->kv_heads, d = s->head_dim, padded = c->padded, positions = c->positions;
  int64_t first_head = kv_head * group + head_tile * c->heads_per_tile;
  int64_t heads = min_of(c->heads_per_tile, (kv_head + 1) * group - first_head), rows = heads * positions;
  int64_t q_first = (tile - c->first_tile[index]) * positions, q_count = min_of(positions, span->q_count - q_first);
  int64_t offset = span->kv_count - span->q_count;
  // Keys that some query of the tile sees.
  int64_t key_end = q_first + q_count + offset;
  int64_t key_begin = s->window > 0 && q_first + offset - s->window + 1 > 0 ? q_first + offset - s->window + 1 : 0;
  size_t size = sl_dtype_size(s->dtype);

  _Alignas(64) unit q[rows * UNITS(padded)];
  _Alignas(64) float o[rows * padded], scores[rows * KEY_BLOCK], sums[rows * SL_WIDTH];
  _Alignas(64) float maximum[rows], alpha[rows];
  _Alignas(64) unit weights[rows * UNITS(KEY_BLOCK)];
  const char *source = (const char *)c->q + (size_t)((span->q_begin + q_first) * c->ldq + first_head * d) * size;
  pack_natural(source, c->ldq, q_count, positions, heads, d, padded, s->dtype, q);
  for (int64_t r = 0; r < rows; r++) maximum[r] = -1e30f;
  memset(sums, 0, sizeof(float) * (size_t)(rows * SL_WIDTH));

  float factor = s->scale * 1.44269504088896341f;
  bool fresh = true;
  for (int64_t block = key_begin / KEY_BLOCK; block * KEY_BLOCK < key_end; block++) {
    int64_t key = block * KEY_BLOCK, columns = (min_of(KEY_BLOCK, key_end - key) + 15) / 16 * 16;
    const unit *keys = c->packed + ((c->first_block[index] + block) * s->kv_heads + kv_head) * c->block_units;
    const unit *values = keys + KEY_BLOCK * padded;
    product(rows, columns, UNITS(padded), q, UNITS(padded), true, keys, KEY_BLOCK, scores, KEY_BLOCK, PRODUCT_STORE,
            NULL);
    bool causal = key + columns - 1 > q_first + offset;
    bool windowed = s->window > 0 && key < q_first + positions - 1 + offset - s->window + 1;
    if (causal || windowed)
      for (int64_t r = 0; r < rows; r++) {
        int64_t last = q_first + r % positions + offset, first = s->window > 0 ? last - s->window + 1 : 0;
        float *row = scores + r * KEY_BLOCK;
        for (int64_t i = 0; i < columns; i++) row[i] = key + i > last || key + i < first ? -INFINITY : row[i];
      }
    softmax_block(rows, columns, scores, weights, maximum, sums, alpha, factor);
    if (fresh)
      product(rows, padded, UNITS(columns), weights, UNITS(KEY_BLOCK), true, values, padded, o, padded, PRODUCT_STORE,
              NULL);
    else
      product(rows, padded, UNITS(columns), weights, UNITS(KEY_BLOCK), true, values, padded, o, padded,
              PRODUCT_SCALE_ADD, alpha);
    fresh = false;
  }

  for (int64_t h = 0; h < heads; h++)
    for (int64_t p = 0; p < q_count; p++) {
      int64_t r = h * positions + p, row = span->q_begin + q_first + p, i = 0;
      float sum = v_sum(*(VF *)(sums + r * SL_WIDTH)), inverse = 1.0f / sum;
      if (c->lse != NULL) c->lse[(first_head + h) * c->lse_stride + row] = maximum[r] * s->scale + logf(sum);
      char *out = (char *)c->o + (size_t)(row * c->ldo + (first_head + h) * d) * size;
      for (; i + SL_WIDTH <= d; i += SL_WIDTH) v_store(out, i, s->dtype, *(VF *)(o + r * padded + i) * inverse);
      if (i < d) v_store_part(out, i, d - i, s->dtype, *(VF *)(o + r * padded + i) * inverse);
    }
}

#endif
