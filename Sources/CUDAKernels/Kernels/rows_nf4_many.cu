// Products of 17 to 64 rows with matrices in NF4: a block has 256 rows of W, each of its eight warps 32 of them and all columns of a
// slice, and x comes by and by, 256 columns for all warps at a time.
#include "rows_nf4.cuh"

enum {
  tile_warps = 8,
  /// Codes are two units ahead, x one.
  code_stages = 3,
  x_stages = 2,
  half_of_absmax = halves_of_map,
  half_of_factors = half_of_absmax + code_stages * tile_warps,
};

/// Bytes of 32 columns of all rows of x: an odd number of rows' worth, so that those of one row lie in different banks.
DEVICE int half_bytes_of(int batch) { return (batch | 1) * 64; }

/// Adds the products of an item with SIXTEENS times 16 rows of x.
template <int SIXTEENS>
DEVICE void multiply_item(const u8 *memory, u32 item, u32 factors, shared_place x, int batch, float (&total)[SIXTEENS][4][4]) {
  int t = (int)threadIdx.x % 4, half_bytes = half_bytes_of(batch);
#pragma unroll 1
  for (int b = 0; b < unit_blocks; b++) {
    u32 codes[2][4], pair[4][2][4];
    load_codes(codes, memory, item, b);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 2; j++)
#pragma unroll
        for (int k = 0; k < 4; k++) pair[i][j][k] = pair_of(memory, codes[i / 2][i % 2 * 2 + j], k);
#pragma unroll
    for (int m = 0; m < SIXTEENS; m++) {
      if (16 * m >= batch) break;
      float c[4][4];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        RowFragments f = load_rows<true>(x + (u32)((b * 2 + j) * half_bytes + 16 * m * 64), batch - 16 * m);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          if (j == 0) {
            multiply_first(c[i], f.one, pair[i][j][0], pair[i][j][1]);
          } else {
            multiply_add(c[i], f.one, pair[i][j][0], pair[i][j][1]);
          }
          multiply_add(c[i], f.two, pair[i][j][2], pair[i][j][3]);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        // The sums' columns are rows 2t and 2t + 1 of the eight.
        float2 factor = *(const float2 *)(memory + factors + b * 256 + (8 * i + 2 * t) * 4);
#pragma unroll
        for (int k = 0; k < 4; k++) total[m][i][k] += c[i][k] * (k % 2 ? factor.y : factor.x);
      }
    }
  }
}

template <int SIXTEENS> DEVICE void rows_nf4_many(const RowProducts &p) {
  DYNAMIC_SHARED(memory);
  int lane = (int)threadIdx.x % 32, warp = (int)kept_of_warp(threadIdx.x / 32), g = lane / 4, t = lane % 4;
  int columns = (int)p.columns, row_blocks = columns / block_columns, batch = (int)p.batch;
  int slice = (int)blockIdx.y, slices = (int)p.slices;
  int units = (columns + unit_columns - 1) / unit_columns, begin = units * slice / slices, count = units * (slice + 1) / slices - begin;

  bool paired = p.activation != 0;
  int warp_rows = paired ? 16 : 32, tile_rows = tile_warps * warp_rows, number = (int)blockIdx.x, part = 0;
  while (!paired && part < (int)p.parts - 1 && number >= ((int)p.part[part].rows + tile_rows - 1) / tile_rows)
    number -= ((int)p.part[part].rows + tile_rows - 1) / tile_rows, part++;
  const RowPart &low = p.part[part], &high = p.part[paired ? 1 : part];
  int first_row = number * tile_rows, last_row = first_row + tile_rows < (int)low.rows ? first_row + tile_rows : (int)low.rows;
  int first = first_row + warp * warp_rows;
  ItemRows rows = {first, first + warp_rows < last_row ? first + warp_rows : last_row, paired ? 0 : 16};
  bool has_rows = rows.first < rows.end;

  u32 ring = pair_table + (u32)warp * ((u32)code_stages * item_bytes), x_at = pair_table + (u32)(tile_warps * code_stages) * item_bytes;
  u32 x_bytes = 8 * (u32)half_bytes_of(batch);
  auto absmax_of = [&](int stage) { return free_half(half_of_absmax + warp * code_stages + stage); };
  auto fetch_codes = [&](int unit, int stage) {
    if (unit < count && has_rows) fetch_item(memory, ring + (u32)stage * item_bytes, absmax_of(stage), low, high, rows, begin + unit, row_blocks);
    commit_copies();
  };
  auto fetch_x = [&](int unit, int stage) {
    if (unit < count) {
      int from = (begin + unit) * unit_columns;
      for (int i = (int)threadIdx.x; i < batch * 32; i += (int)blockDim.x) {
        int n = i / 32, piece = i % 32, column = from + piece * 8;
        copy_async(memory + x_at + (u32)stage * x_bytes + (u32)(piece / 4 * half_bytes_of(batch) + n * 64 + piece % 4 * 16),
                   p.x + (i64)n * p.ldx + (column < columns ? column : 0), column < columns ? 16 : 0);
      }
    }
    commit_copies();
  };
  // Weights depend on nothing that came before in the stream.
#pragma unroll
  for (int i = 0; i < code_stages - 1; i++) fetch_codes(i, i);
  let_next_begin();
  build_tables(memory, p.map);
  float *nested = (float *)(memory + x_at + x_stages * x_bytes);
  const float *nested_low = bring_nested(low, first_row, last_row, row_blocks, nested);
  const float *nested_of_lane = paired ? bring_nested(high, first_row, last_row, row_blocks, nested) : nested_low;
  if (lane < 16) nested_of_lane = nested_low;
  wait_for_previous();
  fetch_x(0, 0);
  wait_copies<0>();
  __syncthreads();

  LaneScales scales = lane_scales(lane < 16 ? low : high, nested_of_lane, rows, row_blocks);
  u32 factors = free_half(half_of_factors + warp * unit_blocks);
  shared_place rows_of_x = place_of(memory + x_at + (g * 4 + t) * 16);
  float total[SIXTEENS][4][4] = {};
  int code_stage = 0, x_stage = 0;
#pragma unroll 1
  for (int unit = 0; unit < count; unit++) {
    // All but the last codes that were asked for; the other warps' part of x is there, and they are done with the unit before.
    if (unit > 0) {
      wait_copies<1>();
      __syncthreads();
    }
    fetch_x(unit + 1, 1 - x_stage);
    fetch_codes(unit + 2, code_stage == 0 ? 2 : code_stage - 1);
    if (has_rows) {
      make_factors(memory, absmax_of(code_stage), factors, scales, begin + unit, row_blocks);
      __syncwarp();
      multiply_item<SIXTEENS>(memory, ring + (u32)code_stage * item_bytes, factors, rows_of_x + (u32)x_stage * x_bytes, batch, total);
    }
    code_stage = code_stage == code_stages - 1 ? 0 : code_stage + 1, x_stage = 1 - x_stage;
  }

#pragma unroll
  for (int m = 0; m < SIXTEENS; m++)
#pragma unroll
    for (int k = 0; k < 4; k++) {
      int n = 16 * m + g + k / 2 * 8;
      if (n >= batch) continue;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        // Gate's eights come first, each before up's of the same rows.
        if (paired && i > 1) continue;
        int row = rows.first + 8 * i + 2 * t + k % 2;
        if (row >= rows.end) continue;
        float gate = 0, old = slices == 1 ? old_value(p, part, row, n) : 0.0f;
        finish_or_leave(p, part, row, n, slice, total[m][i][k], old, gate);
        if (paired) finish_or_leave(p, 1, row, n, slice, total[m][(i + 2) % 4][k], 0, gate);
      }
    }
}

KERNEL(256, 1) rows_nf4_32(const GRID_CONSTANT RowProducts p) { rows_nf4_many<2>(p); }
KERNEL(256, 1) rows_nf4_64(const GRID_CONSTANT RowProducts p) { rows_nf4_many<4>(p); }
