// Products of a few rows with matrices in bf16, whose columns are a multiple of 64; sums of slices.
#include "rows.cuh"

// A block of 8 warps takes 8 rows of W at a time, each warp an eighth of the columns, and goes on to the next 8: blocks stay
// for the whole product. Rows of W are the tensor cores' columns, rows of x their rows, so that fp32 sums of 16 rows of x cost
// no more than those of one. Weights go from memory into registers two steps ahead.
enum { row_warps = 8, tile_rows = 8 };

/// Rows of W that a block is at.
struct RowTile {
  int part, row;
};

/// Tiles of 8 rows are counted through the parts; gate and up take turns.
DEVICE int tiles_of(const RowProducts &p, int part) { return (int)((p.part[part].rows + tile_rows - 1) / tile_rows); }
/// How many tiles this block takes, and the one that it takes as number `index`.
DEVICE int tiles_of_block(const RowProducts &p) {
  int units = tiles_of(p, 0), block = (int)blockIdx.x, blocks = (int)gridDim.x;
  if (p.activation == 0 && p.parts > 1) units += tiles_of(p, 1);
  if (p.activation == 0 && p.parts > 2) units += tiles_of(p, 2);
  int mine = block < units ? (units - block + blocks - 1) / blocks : 0;
  return p.activation != 0 ? 2 * mine : mine;
}
DEVICE RowTile tile_of_block(const RowProducts &p, int index) {
  int block = (int)blockIdx.x, blocks = (int)gridDim.x;
  if (p.activation != 0) return {index % 2, (block + index / 2 * blocks) * tile_rows};
  int unit = block + index * blocks, first = tiles_of(p, 0);
  if (unit < first) return {0, unit * tile_rows};
  unit -= first;
  int second = tiles_of(p, 1);
  if (unit < second) return {1, unit * tile_rows};
  return {2, (unit - second) * tile_rows};
}

/// The rows of x that a block multiplies, from shared memory: `HALVES` times 8 at most. `place(piece)`: where a piece of eight
/// columns of a block lies among its eight.
template <class Place> DEVICE void load_x(const RowProducts &p, u16 *x, int first, int blocks, int n0, int batch, Place place) {
  int pieces = blocks * 8;
#pragma unroll 2
  for (int i = (int)threadIdx.x; i < pieces * batch; i += row_threads) {
    int n = i / pieces, piece = i % pieces, at = place(piece % 8);
    const u16 *from = p.x + (i64)(n0 + n) * p.ldx + first * block_columns + piece * 8;
    *(uint4 *)(x + (((piece / 8 * 2 + at / 4) * batch + n) * 4 + at % 4) * 8) = *(const uint4 *)from;
  }
}

/// What the thread's element of a tile is added to, read long before it is needed.
DEVICE float old_of_tile(const RowProducts &p, RowTile tile, int n0, int batch) {
  int n = (int)threadIdx.x / tile_rows, row = tile.row + (int)threadIdx.x % tile_rows;
  return n < batch && p.slices == 1 && row < p.part[tile.part].rows ? old_value(p, tile.part, row, n0 + n) : 0.0f;
}

/// Where the block's warps leave a tile's sums, [warps, 8 · HALVES, 8]: of two such places, in turn, so that one barrier is enough.
template <int HALVES> DEVICE float *sums_of_turn(float *sums, int turn) {
  return sums + turn * (row_warps * 8 * HALVES * tile_rows);
}

/// A warp leaves its sums there, as the tensor cores' fragments have them, and begins anew.
template <int HALVES> DEVICE void leave_sums(float *sums, int warp, int g, int t, float (&total)[4]) {
  float *mine = sums + warp * (8 * HALVES * tile_rows);
  *(float2 *)(mine + g * tile_rows + 2 * t) = make_float2(total[0], total[1]);
  if (HALVES > 1) *(float2 *)(mine + (g + 8) * tile_rows + 2 * t) = make_float2(total[2], total[3]);
  total[0] = total[1] = total[2] = total[3] = 0;
}

/// Adds the warps' sums up and writes what comes out. sums: [warps, 8 · HALVES, 8]. `gate` stays with the thread.
template <int HALVES>
DEVICE void add_warps(const RowProducts &p, RowTile tile, const float *sums, int n0, int batch, int slice, float old,
                      float &gate) {
  int n = (int)threadIdx.x / tile_rows, r = (int)threadIdx.x % tile_rows;
  int row = tile.row + r;
  if (n >= batch || row >= p.part[tile.part].rows) return;
  float value = 0;
#pragma unroll
  for (int w = 0; w < row_warps; w++) value += sums[(w * 8 * HALVES + n) * tile_rows + r];
  finish_or_leave(p, tile.part, row, n0 + n, slice, value, old, gate);
}

/// Two fragments of x: rows g and, of the second half, g + 8 at a block's piece; zero beyond the batch.
template <int HALVES> DEVICE void load_x_fragment(uint4 (&f)[2], const u16 *x, int piece, int batch, int g, int t) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    f[half] = make_uint4(0, 0, 0, 0);
    int n = g + 8 * half;
    if (half < HALVES && n < batch) f[half] = *(const uint4 *)(x + ((piece * batch + n) * 4 + t) * 8);
  }
}

/// What a lane reads of two blocks of a row: 16 columns of each.
struct WeightItem {
  uint4 weights[4];
};
struct WeightCursor {
  int tile, step;
  const u16 *weights;
};

template <int HALVES> DEVICE void rows_bf16(const RowProducts &p) {
  DYNAMIC_SHARED(memory);
  float *sums = (float *)memory;
  u16 *x = (u16 *)(sums + 2 * row_warps * 8 * HALVES * tile_rows);
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
  int passes = (int)(p.batch + 8 * HALVES - 1) / (8 * HALVES);
  int slice = (int)blockIdx.y / passes, n0 = (int)blockIdx.y % passes * 8 * HALVES, row_blocks = (int)p.columns / block_columns;
  int batch = (int)p.batch - n0 < 8 * HALVES ? (int)p.batch - n0 : 8 * HALVES;
  int length = (int)p.slice, slice_begin = slice * length,
      slice_end = slice_begin + length < row_blocks ? slice_begin + length : row_blocks;
  int count = slice_end - slice_begin, begin = slice_begin + count * warp / row_warps,
      end = slice_begin + count * (warp + 1) / row_warps;
  int steps = ((count + row_warps - 1) / row_warps + 1) / 2;
  int tiles = tiles_of_block(p), items = tiles * steps;

  auto enter = [&](WeightCursor &c) {
    RowTile tile = tile_of_block(p, c.tile);
    const RowPart &part = p.part[tile.part];
    i64 row = tile.row + g < (int)part.rows ? tile.row + g : part.rows - 1;
    c.weights = (const u16 *)part.weights + row * part.stride + t * 8;
  };
  auto load = [&](WeightItem &item, WeightCursor &c) {
    int block = begin + c.step * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      item.weights[i] = make_uint4(0, 0, 0, 0);
      if (block + i / 2 < end)
        item.weights[i] = load_once((const uint4 *)(c.weights + (block + i / 2) * block_columns + i % 2 * 32));
    }
    if (++c.step == steps) {
      c.step = 0;
      if (++c.tile < tiles) enter(c);
    }
  };

  enum { depth = 2 };
  WeightItem ring[depth];
  WeightCursor reading = {};
  if (tiles > 0) enter(reading);
#pragma unroll
  for (int i = 0; i < depth; i++)
    if (i < items) load(ring[i], reading);
  let_next_begin();
  wait_for_previous();
  load_x(p, x, slice_begin, count, n0, batch, [](int piece) { return piece; });
  __syncthreads();

  float total[4] = {}, gate = 0;
  int step = 0, turn = 0;
  int index = 0;
  RowTile tile = tile_of_block(p, 0);
  float old = tiles > 0 ? old_of_tile(p, tile, n0, batch) : 0.0f;
  for (int first = 0; first < items; first += depth) {
#pragma unroll
    for (int u = 0; u < depth; u++) {
      if (first + u >= items) break;
      WeightItem &item = ring[u];
      int block = begin + step * 2;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (block + i / 2 >= end) break;
        uint4 f[2], w = item.weights[i];
        load_x_fragment<HALVES>(f, x, (block - slice_begin) * 2 + i, batch, g, t);
        u32 low[4] = {f[0].x, f[1].x, f[0].y, f[1].y}, high[4] = {f[0].z, f[1].z, f[0].w, f[1].w};
        multiply_add(total, low, w.x, w.y);
        multiply_add(total, high, w.z, w.w);
      }
      if (first + u + depth < items) load(item, reading);
      if (++step < steps) continue;
      step = 0;
      float *left = sums_of_turn<HALVES>(sums, turn);
      leave_sums<HALVES>(left, warp, g, t, total);
      __syncthreads();
      add_warps<HALVES>(p, tile, left, n0, batch, slice, old, gate);
      turn = 1 - turn;
      if (++index == tiles) break;
      tile = tile_of_block(p, index);
      old = old_of_tile(p, tile, n0, batch);
    }
  }
}

KERNEL(256, 2) rows_bf16_8(const GRID_CONSTANT RowProducts p) { rows_bf16<1>(p); }
KERNEL(256, 2) rows_bf16_16(const GRID_CONSTANT RowProducts p) { rows_bf16<2>(p); }

/// The slices' sums, added up in their order. Grid: x over rows of W, of gate alone where the parts are gate and up; y over rows
/// of x.
KERNEL(256, 4) rows_sum(const GRID_CONSTANT RowProducts p) {
  wait_for_previous();
  let_next_begin();
  i64 at = (i64)blockIdx.x * row_threads + threadIdx.x, total = p.part[0].rows, row = at;
  if (p.parts > 1) total += p.part[1].rows;
  if (p.parts > 2) total += p.part[2].rows;
  i64 most = p.activation != 0 ? p.part[0].rows : total;
  if (at >= most) return;
  int part = 0;
  if (row >= p.part[0].rows) row -= p.part[0].rows, part = 1;
  if (part == 1 && row >= p.part[1].rows) row -= p.part[1].rows, part = 2;
  for (i64 n = blockIdx.y; n < p.batch; n += gridDim.y) {
    float gate = 0;
    for (int again = 0; again < (p.activation != 0 ? 2 : 1); again++) {
      const float *from = p.partial + n * total + at + again * p.part[0].rows;
      float value = 0;
      for (i64 slice = 0; slice < p.slices; slice++) value += from[slice * p.batch * total];
      finish_row(p, part + again, row, n, value, old_value(p, part + again, row, n), gate);
    }
  }
}
