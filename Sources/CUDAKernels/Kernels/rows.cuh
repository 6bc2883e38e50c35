// Products of a few rows with frozen matrices, as decoding has them: y = x · Wᵀ + (x · Aᵀ) · (s·B)ᵀ. Every weight is read once
// for up to 16 rows, at the memory's speed.
#pragma once
#include "prelude.cuh"

// A block of 8 warps takes 8 rows of W at a time, each warp an eighth of the columns, and goes on to the next 8: blocks stay
// for the whole product. Rows of W are the tensor cores' columns, rows of x their rows, so that fp32 sums of 16 rows of x cost
// no more than those of one. Weights go from memory into registers two steps ahead.
enum { row_warps = 8, row_threads = 256, block_columns = 64, tile_rows = 8 };

/// One matrix of a group that multiplies the same x. All fields take eight bytes.
struct RowPart {
  i64 rows;
  /// Two codes in a byte, or bf16.
  const void *weights;
  /// Elements from one row of bf16 to the next.
  i64 stride;
  /// NF4's absmax: codes, what they are parts of, the mean; absmax values of the first nested block that come before.
  const u8 *absmax;
  const float *nested, *offset;
  i64 first;
  /// s·B: bf16 [rows, rank], and x · Aᵀ: bf16 [batch, rank] at stride ld_s.
  const u16 *b, *s;
  i64 ld_s, rank;
  /// bf16 or fp32 [batch, rows] at stride ldy.
  void *y;
  i64 ldy;
};

struct RowProducts {
  RowPart part[3];
  /// Matrices; columns of each; rows of x.
  i64 parts, columns, batch;
  const u16 *x;
  i64 ldx;
  /// NF4's map of absmax codes.
  const float *map;
  /// Blocks of 64 columns that a block multiplies, and how many such slices there are; partial sums of more than one go to
  /// fp32 [slices, batch, Σ rows].
  i64 slice, slices;
  float *partial;
  /// Whether y is fp32, is added to, and whether the parts are gate and up, of which silu(gate) · up goes to bf16 [batch, rows].
  i64 is_float, accumulates;
  u16 *activation;
  i64 ld_activation;
  /// Where γ is given, x is what the residual stream, fp32 [columns], becomes by RMSNorm: one row, in NF4 only.
  const float *stream, *gamma;
  double epsilon;
};

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

/// What the adapter adds.
DEVICE float adapted(const RowPart &part, i64 row, i64 n, float value) {
  if (part.rank == 0) return value;
  const u16 *b = part.b + row * part.rank, *s = part.s + n * part.ld_s;
  int aligned = part.rank % 8 == 0 && ((u64)b | (u64)s) % 16 == 0;
  for (i64 r = 0; r < part.rank; r += 8) {
    Eight one = load8(b + r, part.rank - r, aligned), two = load8(s + r, part.rank - r, aligned);
#pragma unroll
    for (int i = 0; i < 8; i++) value += one.v[i] * two.v[i];
  }
  return value;
}

DEVICE float silu(float x) { return x / (1.0f + power2(-x * LOG2_E)); }

/// What an element of y is added to.
DEVICE float old_value(const RowProducts &p, int part, i64 row, i64 n) {
  const RowPart &to = p.part[part];
  if (!p.accumulates) return 0;
  return p.is_float ? ((float *)to.y)[n * to.ldy + row] : widen(((u16 *)to.y)[n * to.ldy + row]);
}

/// Writes an element of y, its adapter's part and what it is added to included; `gate`: of the same row and place, where the parts
/// are gate and up.
DEVICE void finish_row(const RowProducts &p, int part, i64 row, i64 n, float value, float old, float &gate) {
  const RowPart &to = p.part[part];
  value = adapted(to, row, n, value) + old;
  if (p.is_float) {
    ((float *)to.y)[n * to.ldy + row] = value;
  } else {
    ((u16 *)to.y)[n * to.ldy + row] = narrow(value);
  }
  if (p.activation == 0) return;
  if (part == 0) {
    gate = value;
  } else {
    p.activation[n * p.ld_activation + row] = narrow(silu(gate) * value);
  }
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
  if (p.slices == 1) {
    finish_row(p, tile.part, row, n0 + n, value, old, gate);
    return;
  }
  i64 total = p.part[0].rows, before = 0;
  if (p.parts > 1) total += p.part[1].rows;
  if (p.parts > 2) total += p.part[2].rows;
  if (tile.part > 0) before += p.part[0].rows;
  if (tile.part > 1) before += p.part[1].rows;
  p.partial[((i64)slice * p.batch + n0 + n) * total + before + row] = value;
}
