// Products of a few rows with matrices in NF4 (see nf4.cu), whose columns are a multiple of 64: no block of absmax lies in two
// rows.
//
// A warp takes 256 columns of 32 rows of W at a time, an item, and each fragment of x that it reads serves all of them. Codes and
// absmax come through a ring in shared memory, one item ahead, so that loads wait for nothing but themselves.
#include "rows.cuh"

// NF4's values times 1.437 and rounded to bf16: of all factors the one with which rounding changes them least, 6e-4 of their
// size. The absmax values are divided by it.
#define CODE_FACTOR 1.437f
CONSTANT u32 nf4_codes[16] = {0xbfb8u, 0xbf80u, 0xbf41u, 0xbf11u, 0xbed1u, 0xbe88u, 0xbe06u, 0x0000u,
                              0x3deau, 0x3e6du, 0x3eb5u, 0x3ef9u, 0x3f22u, 0x3f4fu, 0x3f85u, 0x3fb8u};

enum {
  unit_columns = 256,
  unit_blocks = 4,
  /// Codes of 32 rows, 128 bytes each, whose sixteens are turned by the row, so that eight rows' lie in different banks.
  item_bytes = 32 * 128,
  stages = 2,
  most_warps = 10,
  /// Every pair of codes, once for each lane, so that no two meet in a bank; a byte of codes put before a byte that names the lane
  /// is the pair's place. The table's rows are 256 bytes long and half of each is free: what is small lies there, 128 bytes at a
  /// time. Behind the table: the ring, x, nested values.
  pair_table = 256 * 256,
  half_of_map = 0,
  half_of_absmax = 8,
  half_of_factors = half_of_absmax + stages * most_warps,
  half_of_sums = half_of_factors + unit_blocks * most_warps,
};
DEVICE u32 free_half(int number) { return (u32)number * 256 + 128; }

/// The rows of W of a tile: 32 of a matrix, or 16 of each of gate and up.
struct TileRows {
  int first, end;
};

/// Where a lane reads an item: its row of codes of each four matrices, factors, its part of x's rows, bytes of 32 columns of all those
/// rows, and how many rows there are.
struct ItemPlaces {
  u32 codes, factors;
  shared_place x;
  int half_bytes, batch;
};

/// Adds the products of an item; of the eights of W that `active` names, or (`WHOLE`) of all four.
template <int HALVES, bool WHOLE>
DEVICE void multiply_item(const u8 *memory, const ItemPlaces &at, u32 active, float (&total)[4][2 * HALVES]) {
  int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
  // All four at once would take too many registers.
#pragma unroll 1
  for (int b = 0; b < unit_blocks; b++) {
    u32 codes[2][4];
#pragma unroll
    for (int q = 0; q < 2; q++) load_matrices(codes[q], memory + at.codes + q * 2048 + ((2 * b + lane / 8 % 2) ^ lane % 8) * 16);
    float c[4][4];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      // Rows of x beyond the batch are anything; nobody reads their sums.
      uint4 f, second = make_uint4(0, 0, 0, 0);
      shared_place x = at.x + (u32)((b * 2 + j) * at.half_bytes);
      load_shared_if(f, x, g < at.batch);
      if (HALVES > 1) load_shared_if(second, x + 8 * 64, g + 8 < at.batch);
      u32 one[4] = {f.x, second.x, f.y, second.y}, two[4] = {f.z, second.z, f.w, second.w};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (!WHOLE && !(active >> i & 1)) continue;
        u32 word = codes[i / 2][i % 2 * 2 + j], pair[4];
#pragma unroll
        for (int k = 0; k < 4; k++) pair[k] = *(const u32 *)(memory + __byte_perm(word, (u32)lane * 4, 0x5504u | (u32)k << 4));
        if (j == 0) {
          multiply_first(c[i], one, pair[0], pair[1]);
        } else {
          multiply_add(c[i], one, pair[0], pair[1]);
        }
        multiply_add(c[i], two, pair[2], pair[3]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (!WHOLE && !(active >> i & 1)) continue;
      // The sums' columns are rows 2t and 2t + 1 of the eight.
      float2 factor = *(const float2 *)(memory + at.factors + b * 256 + (8 * i + 2 * t) * 4);
      total[i][0] += c[i][0] * factor.x, total[i][1] += c[i][1] * factor.y;
      if (HALVES > 1) total[i][2 * HALVES - 2] += c[i][2] * factor.x, total[i][2 * HALVES - 1] += c[i][3] * factor.y;
    }
  }
}

/// HALVES: eights of rows of x that a block multiplies.
template <int HALVES> DEVICE void rows_nf4(const RowProducts &p) {
  DYNAMIC_SHARED(memory);
  int lane = (int)threadIdx.x % 32, warp = (int)kept_of_warp(threadIdx.x / 32), warps = (int)blockDim.x / 32, g = lane / 4, t = lane % 4;
  int columns = (int)p.columns, row_blocks = columns / block_columns, row_bytes = columns / 2;
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
    return TileRows{first, end < share.last ? end : share.last};
  };
  // From the first row of the tile's low half to that of its high half.
  int to_high = paired ? 0 : 16;

  u32 ring = pair_table + (u32)warp * (stages * item_bytes);
  bool absmax_in_words = row_blocks % 4 == 0 && ((u64)low.absmax | (u64)high.absmax) % 4 == 0;
  int next_tile = 0, next_unit = 0;
  auto fetch = [&](int stage) {
    if (next_tile < tiles && own > 0) {
      TileRows tile = rows_of_tile(next_tile);
      int unit = begin + next_unit, row = tile.first + lane / 8, at = unit * 128 + lane % 8 * 16;
      bool inside = at < row_bytes;
      u32 to = ring + (u32)stage * item_bytes + (u32)(lane / 8) * 128;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const RowPart &part = j < 4 ? low : high;
        int from = row + j % 4 * 4 + (j < 4 ? 0 : to_high);
        copy_async(memory + to + j * 512 + (lane % 8 ^ (j % 2 * 4 + lane / 8)) * 16, (const u8 *)part.weights + (i64)from * row_bytes + at,
                   inside && from < tile.end ? 16 : 0);
      }
      // A lane has the absmax of one row.
      const RowPart &part = lane < 16 ? low : high;
      int from = tile.first + lane % 16 + (lane < 16 ? 0 : to_high), block = unit * unit_blocks;
      u32 *word = (u32 *)(memory + free_half(half_of_absmax + warp * stages + stage)) + lane;
      const u8 *absmax = part.absmax + (i64)from * row_blocks + block;
      if (absmax_in_words) {
        copy_async(word, absmax, from < tile.end && block < row_blocks);
      } else {
        u32 codes = 0;
        for (int b = 0; b < unit_blocks; b++)
          if (from < tile.end && block + b < row_blocks) codes |= (u32)absmax[b] << 8 * b;
        *word = codes;
      }
      if (++next_unit == own) next_unit = 0, next_tile++;
    }
    commit_copies();
  };
  // Weights depend on nothing that came before in the stream.
#pragma unroll
  for (int i = 0; i < stages; i++) fetch(i);
  let_next_begin();
  for (int i = (int)threadIdx.x; i < 256 * 8; i += (int)blockDim.x) {
    u32 pair = nf4_codes[i / 8 >> 4] | nf4_codes[i / 8 & 15] << 16;
    *(uint4 *)(memory + i / 8 * 256 + i % 8 * 16) = make_uint4(pair, pair, pair, pair);
  }
  for (int i = (int)threadIdx.x; i < 256; i += (int)blockDim.x)
    *(float *)(memory + free_half(half_of_map + i / 32) + i % 32 * 4) = p.map[i] * (1.0f / CODE_FACTOR);
  u32 x_at = pair_table + (u32)(warps * stages * item_bytes);
  // Nested values of the share's rows, number 0 of all of them first; of gate and of up.
  float *nested = (float *)(memory + x_at + slice_units * batch * (unit_columns * 2));
  auto bring_nested = [&](const RowPart &part, float *to) {
    if (rows <= 0) return to;
    u32 first = ((u32)part.first + (u32)share.first * (u32)row_blocks) >> 8;
    u32 count = (((u32)part.first + (u32)share.last * (u32)row_blocks - 1) >> 8) - first + 1;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) to[i] = part.nested[first + i];
    nested = to + count;
    return to - first;
  };
  const float *nested_low = bring_nested(low, nested), *nested_high = paired ? bring_nested(high, nested) : nested_low;
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

  // What a lane reads: of x rows g and g + 8; of codes a row of the eight that its number among them says, of two such eights both
  // sixteens of a block.
  shared_place rows_of_x = place_of(memory + x_at + (begin - slice_begin) * 8 * batch * 64 + (g * 4 + t) * 16);
  int half_bytes = batch * 64;
  u32 codes_of_lane = ring + (u32)(lane / 16 * 8 + lane % 8) * 128;
  u32 factors = free_half(half_of_factors + warp * unit_blocks), stage = 0;
  bool is_low = lane < 16;
  u32 first_number = (u32)(is_low ? low.first : high.first);
  const float *nested_of_lane = is_low ? nested_low : nested_high;
  float mean = (is_low ? *low.offset : *high.offset) * (1.0f / CODE_FACTOR);
  int turn = 0, finished_rows = paired ? 16 : 32;
  for (int index = 0; index < tiles; index++) {
    TileRows tile = rows_of_tile(index);
    // Eights that hold rows.
    u32 active = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) active |= (u32)(tile.first + (paired ? i % 2 : i) * 8 < tile.end) << i;
    // What results are added to is read long before it is needed.
    float old[2] = {};
#pragma unroll
    for (int k = 0; k < 2; k++) {
      int element = (int)threadIdx.x + k * (int)blockDim.x, n = element / finished_rows, row = tile.first + element % finished_rows;
      if (p.accumulates && slices == 1 && n < batch && row < tile.end) old[k] = old_value(p, share.part, row, n0 + n);
    }
    float total[4][2 * HALVES] = {};
    int row = tile.first + lane % 16 + (is_low ? 0 : to_high);
    bool is_row = row < tile.end;
#pragma unroll 1
    for (int unit = 0; unit < own; unit++) {
      wait_copies<stages - 1>();
      // Other lanes' copies are there, and what they read of the last item's factors is read.
      __syncwarp();
      u32 word = ((const u32 *)(memory + free_half(half_of_absmax + warp * stages + (int)stage)))[lane];
      int block = (begin + unit) * unit_blocks;
      u32 number = first_number + (u32)row * (u32)row_blocks + (u32)block;
#pragma unroll
      for (int b = 0; b < unit_blocks; b++) {
        u32 code = word >> 8 * b & 255;
        float factor = 0;
        if (is_row && block + b < row_blocks)
          factor = *(const float *)(memory + free_half(half_of_map + (int)(code / 32)) + code % 32 * 4) * nested_of_lane[(number + b) >> 8] + mean;
        ((float *)(memory + factors + b * 256))[lane] = factor;
      }
      __syncwarp();
      ItemPlaces here = {codes_of_lane + stage * item_bytes, factors, rows_of_x + (u32)(unit * 8 * half_bytes), half_bytes, batch};
      if (active == 15) {
        multiply_item<HALVES, true>(memory, here, active, total);
      } else {
        multiply_item<HALVES, false>(memory, here, active, total);
      }
      // All lanes have read the item.
      __syncwarp();
      fetch((int)stage);
      stage = stage + 1 == stages ? 0 : stage + 1;
    }

    // Sums [warp, row of x, row of W], the eights of W turned by the row of x.
    auto sums_of = [&](int of_warp, int n) {
      return (float *)(memory + free_half(half_of_sums + ((HALVES > 1 ? 0 : turn * warps) + of_warp) * 8 * HALVES + n));
    };
    if (HALVES > 1 && index > 0) __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int at = 8 * (i ^ g % 4) + 2 * t;
      *(float2 *)(sums_of(warp, g) + at) = make_float2(total[i][0], total[i][1]);
      if (HALVES > 1) *(float2 *)(sums_of(warp, g + 8) + at) = make_float2(total[i][2 * HALVES - 2], total[i][2 * HALVES - 1]);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 2; k++) {
      int element = (int)threadIdx.x + k * (int)blockDim.x, n = element / finished_rows, r = element % finished_rows;
      if (n >= batch || tile.first + r >= tile.end) continue;
      float gate = 0;
      for (int again = 0; again < (paired ? 2 : 1); again++) {
        int at = r + again * 16;
        float value = 0;
        for (int w = 0; w < warps; w++) value += sums_of(w, n)[8 * (at / 8 ^ n % 4) + at % 8];
        finish_or_leave(p, share.part + again, tile.first + r, n0 + n, slice, value, old[k], gate);
      }
    }
    turn = 1 - turn;
  }
}

KERNEL(320, 1) rows_nf4_8(const GRID_CONSTANT RowProducts p) { rows_nf4<1>(p); }
KERNEL(320, 1) rows_nf4_16(const GRID_CONSTANT RowProducts p) { rows_nf4<2>(p); }
