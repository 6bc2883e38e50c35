// How the attention kernels cut their work into tiles.
#pragma once
#include "include/attention.h"
#include "include/threads.h"
#include "scratch.h"

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

enum {
  KEY_BLOCK = 64,    // keys of a tile
  DECODE_ROWS = 16,  // queries × heads of a group up to which a document is decoded, not tiled
};

struct tiling {
  int64_t padded;          // head_dim rounded up to whole vectors
  int64_t positions;       // query positions of a tile, a multiple of 16
  int64_t heads_per_tile;  // heads of one group that a tile holds
  int64_t head_tiles;      // tiles for a whole group
};

/// About 48 to 128 rows (positions × heads): enough to reuse a block of keys, few enough to stay in the first cache.
static inline struct tiling tiling_of(const sl_attention_shape *shape) {
  int64_t group = shape->heads / shape->kv_heads, padded = (shape->head_dim + 15) / 16 * 16;
  int64_t positions = group == 1 ? 48 : group == 2 ? 32 : 16;
  int64_t most = 16384 / (positions * padded);
  most = most < 1 ? 1 : most > 8 ? 8 : most;
  int64_t tiles = blocks_of(group, most);
  return (struct tiling){padded, positions, blocks_of(group, tiles), tiles};
}

/// The span whose range of `first` holds `index`: first[i] <= index < first[i + 1].
static inline int64_t span_at(const int64_t *first, int64_t count, int64_t index) {
  int64_t low = 0, high = count;
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    if (first[middle] <= index)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/// Plain C, row by row, needing no memory.
void sl_attention_forward_simple(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count,
                                 const void *q, int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv,
                                 void *o, int64_t ldo, float *lse, int64_t lse_stride);

/// The same for documents of at most DECODE_ROWS / group queries: streams over the keys as they lie.
void sl_attention_decode(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                         int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, void *o, int64_t ldo,
                         float *lse, int64_t lse_stride);
