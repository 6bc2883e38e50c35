// Products of up to 8 rows with matrices in NF4, or of more, 16 at a time, on cards with little shared memory: a block has a share of
// the rows of W, its warps each a part of the columns, and x stays in shared memory.
#include "rows_nf4.cuh"

/// Items of a warp in shared memory, and whose place is where, of at most so many warps.
template <bool SMALL> struct FewPlaces : Places<SMALL> {
  enum {
    stages = 2,
    most_warps = SMALL ? 4 : 10,
    absmax = places_of_map,
    factors = absmax + (int)stages * (int)most_warps,
    sums = factors + (int)unit_blocks * (int)most_warps,
    /// Of the sums of eight rows of x and of those there is a second set for each warp, or sixteen rows'.
    all = sums + 16 * (int)most_warps,
    /// Elements of a tile that a thread has.
    elements = SMALL ? 4 : 2,
  };
};

/// HALVES: eights of rows of x that a block multiplies. SMALL: for cards with 99 KB of shared memory.
template <int HALVES, bool SMALL> DEVICE void rows_nf4(const RowProducts &p) {
  DYNAMIC_SHARED(memory);
  using P = FewPlaces<SMALL>;
  constexpr int stages = P::stages, elements = P::elements, item_bytes = P::item_bytes;
  int lane = (int)threadIdx.x % 32, warp = (int)kept_of_warp(threadIdx.x / 32), warps = (int)blockDim.x / 32, g = lane / 4, t = lane % 4;
  int columns = (int)p.columns, row_blocks = columns / block_columns;
  int passes = (int)(p.batch + 8 * HALVES - 1) / (8 * HALVES);
  int slice = (int)blockIdx.y / passes, n0 = (int)blockIdx.y % passes * 8 * HALVES, slices = (int)p.slices;
  int batch = (int)p.batch - n0 < 8 * HALVES ? (int)p.batch - n0 : 8 * HALVES;
  // Units of the slice, and those of the warp.
  int units = (columns + unit_columns - 1) / unit_columns, slice_begin = units * slice / slices;
  int slice_units = units * (slice + 1) / slices - slice_begin, begin = slice_begin + slice_units * warp / warps;
  int own = slice_begin + slice_units * (warp + 1) / warps - begin;

  bool paired = p.activation != 0;
  RowShare share = share_of_block(p);
  const RowPart &low = p.part[share.part], &high = p.part[paired ? 1 : share.part];
  // Tiles are of as many eights each as they can be alike.
  int most = paired ? 16 : 32, rows = share.last - share.first, tiles = (rows + most - 1) / most;
  int tile_height = tiles > 0 ? ((rows + 7) / 8 + tiles - 1) / tiles * 8 : most;
  tiles = (rows + tile_height - 1) / tile_height;
  auto rows_of_tile = [&](int tile) {
    int first = share.first + tile * tile_height, end = first + tile_height;
    return ItemRows{first, end < share.last ? end : share.last, paired ? 0 : 16};
  };

  u32 ring = P::codes() + (u32)(warp * stages * item_bytes);
  auto absmax_of = [&](int stage) { return P::place(P::absmax + warp * stages + stage); };
  int next_tile = 0, next_unit = 0;
  ItemSource source = source_of(low, high, rows_of_tile(0), row_blocks);
  auto fetch = [&](int stage) {
    if (next_tile < tiles && own > 0) {
      fetch_item<P>(memory, ring + (u32)stage * item_bytes, absmax_of(stage), source, begin + next_unit, row_blocks);
      if (++next_unit == own) next_unit = 0, source = source_of(low, high, rows_of_tile(++next_tile), row_blocks);
    }
    commit_copies();
  };
  // Weights depend on nothing that came before in the stream.
#pragma unroll
  for (int i = 0; i < stages; i++) fetch(i);
  let_next_begin();
  build_tables<P>(memory, p.map);
  u32 x_at = SMALL ? P::place(P::all) : pair_table + (u32)(warps * stages * item_bytes);
  float *nested = (float *)(memory + x_at + slice_units * batch * (unit_columns * 2));
  const float *nested_low = bring_nested(low, share.first, share.last, row_blocks, nested);
  const float *nested_of_lane = paired ? bring_nested(high, share.first, share.last, row_blocks, nested) : nested_low;
  if (lane < 16) nested_of_lane = nested_low;
  wait_for_previous();
  // x: for each 32 columns, rows one after the other; zeros behind the columns.
  int pieces = slice_units * (unit_columns / 8), first_column = slice_begin * unit_columns;
  for (int i = (int)threadIdx.x; i < pieces * batch; i += (int)blockDim.x) {
    int n = i / pieces, piece = i % pieces, column = first_column + piece * 8;
    copy_async(memory + x_at + ((piece / 4 * batch + n) * 4 + piece % 4) * 16, p.x + (i64)(n0 + n) * p.ldx + (column < columns ? column : 0),
               column < columns ? 16 : 0);
  }
  commit_copies();
  wait_copies<0>();
  __syncthreads();

  int half_bytes = batch * 64, stage = 0, turn = 0;
  const u8 *rows_of_x = memory + x_at + (begin - slice_begin) * 8 * half_bytes + (g * 4 + t) * 16;
  u32 factors = P::place(P::factors + warp * unit_blocks);
  // The thread's elements of a tile: row of x, row of W in the tile.
  int row_bits = paired ? 4 : 5;
  auto n_of = [&](int k) { return ((int)threadIdx.x + k * (int)blockDim.x) >> row_bits; };
  auto row_of = [&](int k) { return ((int)threadIdx.x + k * (int)blockDim.x) & ((1 << row_bits) - 1); };
  for (int index = 0; index < tiles; index++) {
    ItemRows tile = rows_of_tile(index);
    u32 active = active_eights(tile);
    // What results are added to is read long before it is needed.
    float old[elements] = {};
#pragma unroll
    for (int k = 0; k < elements; k++)
      if (p.accumulates && slices == 1 && n_of(k) < batch && tile.first + row_of(k) < tile.end)
        old[k] = old_value(p, share.part, tile.first + row_of(k), n0 + n_of(k));
    float total[HALVES][2][4] = {};
    LaneScales scales = lane_scales(lane < 16 ? low : high, nested_of_lane, tile, row_blocks);
#pragma unroll 1
    for (int unit = 0; unit < own; unit++) {
      wait_copies<stages - 1>();
      // Other lanes' copies are there, and what they read of the last item's factors is read.
      __syncwarp();
      make_factors<P>(memory, absmax_of(stage), factors, scales, begin + unit, row_blocks);
      __syncwarp();
      u32 item = ring + (u32)stage * item_bytes;
      const u8 *x = rows_of_x + unit * 8 * half_bytes;
      if (active == 15) {
        multiply_item<P, HALVES, false, true>(memory, item, factors, x, half_bytes, batch, active, total);
      } else {
        multiply_item<P, HALVES, false, false>(memory, item, factors, x, half_bytes, batch, active, total);
      }
      // All lanes have read the item.
      __syncwarp();
      fetch(stage);
      stage = stage + 1 == stages ? 0 : stage + 1;
    }

    // Warps take turns in what adapters add.
    if (slice == 0 && index % warps == warp) add_adapters<HALVES>(total, low, high, tile, n0, batch);

    // Sums [warp, row of x, row of W], the eights of W turned by the row of x. Eight rows of x have two places in turn.
    auto sums_of = [&](int of_warp, int n) {
      return (float *)(memory + P::place(P::sums + ((HALVES > 1 ? 0 : turn * warps) + of_warp) * 8 * HALVES + n));
    };
    if (HALVES > 1 && index > 0) __syncthreads();
#pragma unroll
    for (int v = 0; v < HALVES; v++)
#pragma unroll
      for (int q = 0; q < 2; q++)
#pragma unroll
        for (int k = 0; k < 4; k++) sums_of(warp, 8 * v + 2 * t + k % 2)[8 * ((2 * q + k / 2) ^ t) + g] = total[v][q][k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < elements; k++) {
      int n = n_of(k), r = row_of(k);
      if (n >= batch || tile.first + r >= tile.end) continue;
      float gate = 0;
      for (int again = 0; again < (paired ? 2 : 1); again++) {
        int at = r + again * 16;
        float value = 0;
        for (int w = 0; w < warps; w++) value += sums_of(w, n)[8 * (at / 8 ^ n / 2 % 4) + at % 8];
        finish_or_leave(p, share.part + again, tile.first + r, n0 + n, slice, value, old[k], gate);
      }
    }
    turn = 1 - turn;
  }
}

KERNEL(320, 1) rows_nf4_8(const GRID_CONSTANT RowProducts p) { rows_nf4<1, false>(p); }
KERNEL(128, 1) rows_nf4_8_small(const GRID_CONSTANT RowProducts p) { rows_nf4<1, true>(p); }
KERNEL(128, 1) rows_nf4_16_small(const GRID_CONSTANT RowProducts p) { rows_nf4<2, true>(p); }
