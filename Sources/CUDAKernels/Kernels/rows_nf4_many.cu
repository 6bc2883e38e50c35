// Products of 9 to 64 rows with matrices in NF4: each warp of a block has 32 rows of W and all columns of a slice, and x comes by
// and by, 256 columns for all warps at a time.
#include "rows_nf4.cuh"

enum {
  /// Of codes and of x: one unit is ahead.
  stages = 2,
  most_warps = 10,
  place_of_absmax = places_of_map,
  place_of_factors = place_of_absmax + stages * most_warps,
};

/// EIGHTS: of rows of x that there are at most.
template <int EIGHTS> DEVICE void rows_nf4_many(const RowProducts &p) {
  DYNAMIC_SHARED(memory);
  using P = Places<false>;
  constexpr int item_bytes = P::item_bytes;
  int lane = (int)threadIdx.x % 32, warp = (int)kept_of_warp(threadIdx.x / 32), warps = (int)blockDim.x / 32, g = lane / 4, t = lane % 4;
  int columns = (int)p.columns, row_blocks = columns / block_columns, batch = (int)p.batch;
  int slice = (int)blockIdx.y, slices = (int)p.slices;
  int units = (columns + unit_columns - 1) / unit_columns, begin = units * slice / slices, count = units * (slice + 1) / slices - begin;

  bool paired = p.activation != 0;
  int warp_rows = paired ? 16 : 32, tile_rows = warps * warp_rows, number = (int)blockIdx.x, part = 0;
  while (!paired && part < (int)p.parts - 1 && number >= ((int)p.part[part].rows + tile_rows - 1) / tile_rows)
    number -= ((int)p.part[part].rows + tile_rows - 1) / tile_rows, part++;
  const RowPart &low = p.part[part], &high = p.part[paired ? 1 : part];
  int first_row = number * tile_rows, last_row = first_row + tile_rows < (int)low.rows ? first_row + tile_rows : (int)low.rows;
  int first = first_row + warp * warp_rows;
  ItemRows rows = {first, first + warp_rows < last_row ? first + warp_rows : last_row, paired ? 0 : 16};
  bool has_rows = rows.first < rows.end;

  u32 ring = P::codes() + (u32)(warp * stages * item_bytes), x_at = P::codes() + (u32)(warps * stages * item_bytes);
  // Bytes of 32 columns of all rows of x: an odd number of rows' worth, so that those of one row lie in different banks.
  constexpr int half_bytes = (8 * EIGHTS + 1) * 64;
  constexpr u32 x_bytes = 8 * half_bytes;
  auto absmax_of = [&](int stage) { return P::place(place_of_absmax + warp * stages + stage); };
  ItemSource source = source_of(low, high, rows, row_blocks);
  auto fetch_codes = [&](int unit, int stage) {
    if (unit < count && has_rows) fetch_item<P>(memory, ring + (u32)stage * item_bytes, absmax_of(stage), source, begin + unit, row_blocks);
  };
  auto fetch_x = [&](int unit, int stage) {
    if (unit >= count) return;
    // A warp brings whole rows, a lane eight columns of each.
    int column = (begin + unit) * unit_columns + lane * 8, bytes = column < columns ? 16 : 0;
    const u16 *from = p.x + (i64)warp * p.ldx + (column < columns ? column : 0);
    u8 *to = memory + x_at + (u32)stage * x_bytes + (u32)(lane / 4 * half_bytes + warp * 64 + lane % 4 * 16);
#pragma unroll 4
    for (int n = warp; n < batch; n += warps, from += warps * p.ldx, to += warps * 64) copy_async(to, from, bytes);
  };
  // Weights depend on nothing that came before in the stream.
  fetch_codes(0, 0);
  let_next_begin();
  build_tables<P>(memory, p.map);
  float *nested = (float *)(memory + x_at + stages * x_bytes);
  const float *nested_low = bring_nested(low, first_row, last_row, row_blocks, nested);
  const float *nested_of_lane = paired ? bring_nested(high, first_row, last_row, row_blocks, nested) : nested_low;
  if (lane < 16) nested_of_lane = nested_low;
  wait_for_previous();
  fetch_x(0, 0);

  LaneScales scales = lane_scales(lane < 16 ? low : high, nested_of_lane, rows, row_blocks);
  u32 factors = P::place(place_of_factors + warp * unit_blocks);
  const u8 *rows_of_x = memory + x_at + (g * 4 + t) * 16;
  float total[EIGHTS][2][4] = {};
#pragma unroll 1
  for (int unit = 0; unit < count; unit++) {
    // All that was asked for is there; the other warps' part of x too, and they are done with the unit before.
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    int stage = unit % stages;
    fetch_codes(unit + 1, 1 - stage);
    fetch_x(unit + 1, 1 - stage);
    if (!has_rows) continue;
    make_factors<P>(memory, absmax_of(stage), factors, scales, begin + unit, row_blocks);
    __syncwarp();
    // Codes of rows that there are not are zero, and so are their factors.
    multiply_item<P, EIGHTS, true, true>(memory, ring + (u32)stage * item_bytes, factors, rows_of_x + (u32)stage * x_bytes, half_bytes,
                                         batch, 15, total);
  }

  if (has_rows && slice == 0) add_adapters<EIGHTS>(total, low, high, rows, 0, batch);

  // Sums [row of x, row of W] in the place of codes and x, a little more than the rows of W apart.
  __syncthreads();
  float *sums = (float *)(memory + pair_table);
  int row_sums = warps * 32 + 4;
#pragma unroll
  for (int v = 0; v < EIGHTS; v++)
#pragma unroll
    for (int q = 0; q < 2; q++)
#pragma unroll
      for (int k = 0; k < 4; k++) {
        int n = 8 * v + 2 * t + k % 2;
        if (n < batch) sums[n * row_sums + warp * 32 + q * 16 + k / 2 * 8 + g] = total[v][q][k];
      }
  __syncthreads();
  for (int n = warp; n < batch; n += warps)
    for (int r = lane; r < tile_rows && first_row + r < last_row; r += 32) {
      // Of gate and up a warp has 16 rows each.
      const float *from = sums + n * row_sums + (paired ? r / 16 * 32 + r % 16 : r);
      float gate = 0, old = slices == 1 ? old_value(p, part, first_row + r, n) : 0.0f;
      finish_or_leave(p, part, first_row + r, n, slice, from[0], old, gate);
      if (paired) finish_or_leave(p, 1, first_row + r, n, slice, from[16], 0, gate);
    }
}

KERNEL(320, 1) rows_nf4_many_16(const GRID_CONSTANT RowProducts p) { rows_nf4_many<2>(p); }
KERNEL(320, 1) rows_nf4_many_32(const GRID_CONSTANT RowProducts p) { rows_nf4_many<4>(p); }
// These take more registers than ten warps have.
KERNEL(256, 1) rows_nf4_many_48(const GRID_CONSTANT RowProducts p) { rows_nf4_many<6>(p); }
KERNEL(256, 1) rows_nf4_many_64(const GRID_CONSTANT RowProducts p) { rows_nf4_many<8>(p); }
