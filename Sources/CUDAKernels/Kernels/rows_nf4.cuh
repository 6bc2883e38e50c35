// What products of several rows with matrices in NF4 (see nf4.cu) have in common. Their columns are a multiple of 64: no block of
// absmax lies in two rows.
//
// A warp takes 256 columns of 32 rows of W at a time, an item, and each fragment of x that it reads serves all of them. Codes and
// absmax come through a ring in shared memory, so that loads wait for nothing but themselves.
#pragma once
#include "rows.cuh"

// NF4's values times 1.437 and rounded to bf16: of all factors the one with which rounding changes them least, 6e-4 of their
// size. The absmax values are divided by it.
#define CODE_FACTOR 1.437f
CONSTANT u32 nf4_codes[16] = {0xbfb8u, 0xbf80u, 0xbf41u, 0xbf11u, 0xbed1u, 0xbe88u, 0xbe06u, 0x0000u,
                              0x3deau, 0x3e6du, 0x3eb5u, 0x3ef9u, 0x3f22u, 0x3f4fu, 0x3f85u, 0x3fb8u};

enum {
  unit_columns = 256,
  unit_blocks = 4,
  /// Every pair of codes, once for each lane, so that no two meet in a bank; a byte of codes put before a byte that names the lane
  /// is the pair's place. The table's rows are 256 bytes long and half of each is free.
  pair_table = 256 * 256,
  /// What is small lies in places of 128 bytes, first the map of absmax codes; the others are the kernels' own.
  place_of_map = 0,
  places_of_map = 8,
};
/// Where things lie in a block's shared memory: codes of a row of an item, whose sixteens are turned by the row, so that eight rows'
/// lie in different banks, and places of 128 bytes. Places are the free halves of the table; where memory is little (`SMALL`) codes
/// lie there, and places behind the table.
template <bool SMALL> struct Places {
  enum { row_step = SMALL ? 256 : 128, item_bytes = 32 * row_step };
  /// The codes' first place.
  static MEMBER u32 codes() { return SMALL ? 128 : pair_table; }
  static MEMBER u32 place(int number) { return SMALL ? (u32)pair_table + (u32)number * 128 : (u32)number * 256 + 128; }
  /// From one of neighbouring places to the next.
  enum { place_step = SMALL ? 128 : 256 };
};

/// Fills the table and the map.
template <class P> DEVICE void build_tables(u8 *memory, const float *map) {
  for (int i = (int)threadIdx.x; i < 256 * 8; i += (int)blockDim.x) {
    u32 pair = nf4_codes[i / 8 >> 4] | nf4_codes[i / 8 & 15] << 16;
    *(uint4 *)(memory + i / 8 * 256 + i % 8 * 16) = make_uint4(pair, pair, pair, pair);
  }
  for (int i = (int)threadIdx.x; i < 256; i += (int)blockDim.x)
    *(float *)(memory + P::place(place_of_map + i / 32) + i % 32 * 4) = map[i] * (1.0f / CODE_FACTOR);
}
/// The pair of codes of a byte of `word`.
DEVICE u32 pair_of(const u8 *memory, u32 word, int byte) {
  return *(const u32 *)(memory + __byte_perm(word, threadIdx.x % 32 * 4, 0x5504u | (u32)byte << 4));
}

/// Brings the nested values of some rows to `to`, which moves on; returns where number 0 of all of them would lie.
DEVICE const float *bring_nested(const RowPart &part, int first_row, int last_row, int row_blocks, float *&to) {
  float *here = to;
  if (last_row <= first_row) return here;
  u32 first = ((u32)part.first + (u32)first_row * (u32)row_blocks) >> 8;
  u32 count = (((u32)part.first + (u32)last_row * (u32)row_blocks - 1) >> 8) - first + 1;
  for (u32 i = threadIdx.x; i < count; i += blockDim.x) here[i] = part.nested[first + i];
  to += count;
  return here - first;
}

/// The rows of W of an item: 16 of `low` from `first` on, and of `high` from `first + to_high` on, but none from `end` on: 32 of a
/// matrix, or as many of gate as of up.
struct ItemRows {
  int first, end, to_high;
};
DEVICE u32 active_eights(const ItemRows &rows) {
  u32 active = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) active |= (u32)(rows.first + i % 2 * 8 + (i < 2 ? 0 : rows.to_high) < rows.end) << i;
  return active;
}

/// Where a lane finds what it brings of an item: a sixteen of eight rows' codes, one of each four, and one row's absmax, at the first
/// column; which of the rows there are.
struct ItemSource {
  const u8 *low, *high, *absmax;
  u32 rows;
  bool has_absmax, in_words;
};
DEVICE ItemSource source_of(const RowPart &low, const RowPart &high, const ItemRows &rows, int row_blocks) {
  int lane = (int)threadIdx.x % 32, row_bytes = row_blocks * 32, row = rows.first + lane / 8;
  ItemSource s;
  s.low = (const u8 *)low.weights + (i64)row * row_bytes + lane % 8 * 16;
  s.high = (const u8 *)high.weights + (i64)(row + rows.to_high) * row_bytes + lane % 8 * 16;
  s.rows = 0;
#pragma unroll
  for (int j = 0; j < 8; j++) s.rows |= (u32)(row + j % 4 * 4 + (j < 4 ? 0 : rows.to_high) < rows.end) << j;
  int scaled = rows.first + lane % 16 + (lane < 16 ? 0 : rows.to_high);
  s.absmax = (lane < 16 ? low : high).absmax + (i64)scaled * row_blocks;
  s.has_absmax = scaled < rows.end;
  s.in_words = row_blocks % 4 == 0 && ((u64)low.absmax | (u64)high.absmax) % 4 == 0;
  return s;
}

/// Starts bringing the codes of a unit of the columns to `to`, and each lane its row's absmax to `absmax`.
template <class P> DEVICE void fetch_item(u8 *memory, u32 to, u32 absmax, const ItemSource &s, int unit, int row_blocks) {
  int lane = (int)threadIdx.x % 32, row_bytes = row_blocks * 32, at = unit * 128;
  u32 wanted = at + lane % 8 * 16 < row_bytes ? s.rows : 0;
  // Of every second four rows the sixteens are turned by four more.
  u8 *even = memory + to + (u32)(lane / 8 * P::row_step + (lane % 8 ^ lane / 8) * 16);
  u8 *odd = memory + to + (u32)(lane / 8 * P::row_step + (lane % 8 ^ 4 ^ lane / 8) * 16);
#pragma unroll
  for (int j = 0; j < 8; j++)
    copy_async((j % 2 ? odd : even) + j * 4 * P::row_step, (j < 4 ? s.low : s.high) + (i64)(j % 4 * 4) * row_bytes + at,
               wanted >> j & 1 ? 16 : 0);
  int block = unit * unit_blocks;
  u32 *word = (u32 *)(memory + absmax) + lane;
  if (s.in_words) {
    copy_async(word, s.absmax + block, s.has_absmax && block < row_blocks);
  } else {
    u32 codes = 0;
    for (int b = 0; b < unit_blocks; b++)
      if (s.has_absmax && block + b < row_blocks) codes |= (u32)s.absmax[block + b] << 8 * b;
    *word = codes;
  }
}

/// What a lane needs to make the factors of its row of an item.
struct LaneScales {
  const float *nested;
  u32 number;
  float mean;
  bool is_row;
};
DEVICE LaneScales lane_scales(const RowPart &part, const float *nested, const ItemRows &rows, int row_blocks) {
  int lane = (int)threadIdx.x % 32, row = rows.first + lane % 16 + (lane < 16 ? 0 : rows.to_high);
  return {nested, (u32)part.first + (u32)row * (u32)row_blocks, *part.offset * (1.0f / CODE_FACTOR), row < rows.end};
}
/// Makes the factors [block][row] of an item whose absmax is there, in neighbouring places from `factors` on.
template <class P> DEVICE void make_factors(u8 *memory, u32 absmax, u32 factors, const LaneScales &scales, int unit, int row_blocks) {
  int lane = (int)threadIdx.x % 32;
  u32 word = ((const u32 *)(memory + absmax))[lane];
#pragma unroll
  for (int b = 0; b < unit_blocks; b++) {
    int block = unit * unit_blocks + b;
    u32 code = word >> 8 * b & 255;
    float factor = 0;
    if (scales.is_row && block < row_blocks)
      factor = *(const float *)(memory + P::place(place_of_map + (int)(code / 32)) + code % 32 * 4) *
                   scales.nested[(scales.number + (u32)block) >> 8] +
               scales.mean;
    ((float *)(memory + factors + b * P::place_step))[lane] = factor;
  }
}

/// A lane's part of a block of an item, as the tensor cores take the rows of W: of two sixteens of rows and both halves of the
/// block's columns the pairs of codes of two products each, whose rows are g and g + 8.
struct CodeFragments {
  u32 pair[2][2][2][4];
};
/// Of the eights of rows that `active` names, or (`WHOLE`) of all four.
template <class P, bool WHOLE> DEVICE void load_codes(CodeFragments &f, const u8 *memory, u32 item, int block, u32 active) {
  int lane = (int)threadIdx.x % 32;
#pragma unroll
  for (int q = 0; q < 2; q++) {
    u32 codes[4];
    load_matrices(codes, memory + item + (u32)((q * 16 + lane / 16 * 8 + lane % 8) * P::row_step + ((2 * block + lane / 8 % 2) ^ lane % 8) * 16));
#pragma unroll
    for (int eight = 0; eight < 2; eight++) {
      if (!WHOLE && !(active >> (2 * q + eight) & 1)) continue;
#pragma unroll
      for (int j = 0; j < 2; j++)
#pragma unroll
        for (int k = 0; k < 4; k++) f.pair[q][j][k / 2][eight + k % 2 * 2] = pair_of(memory, codes[eight * 2 + j], k);
    }
  }
}

/// Eight rows of x and the 64 columns of a block, a lane's part of them.
struct RowFragments {
  uint4 half[2];
};
/// x: where the lane's part lies, of the second half of the columns `half_bytes` further; `left`: how many rows have a place, or
/// (`ALL`) all. The others are anything; nobody reads their sums.
template <bool ALL> DEVICE void load_rows(RowFragments &f, const u8 *x, int half_bytes, int left) {
  int g = (int)threadIdx.x % 32 / 4;
#pragma unroll
  for (int j = 0; j < 2; j++) {
    if (ALL) {
      f.half[j] = *(const uint4 *)(x + j * half_bytes);
    } else {
      load_shared_if(f.half[j], place_of(x + j * half_bytes), g < left);
    }
  }
}

/// Adds the products of a block with N times eight rows of x to total[eight of x][sixteen of W]: rows g and g + 8 of W, rows 2t and
/// 2t + 1 of x. factors: of rows g and g + 8 of both sixteens.
template <int N> DEVICE void multiply_eights(float (*total)[2][4], const CodeFragments &f, const RowFragments *x, const float (&factors)[4]) {
  float c[N][2][4];
  // Products that add to the same sums are as far apart as can be: each waits for the one before.
#pragma unroll
  for (int step = 0; step < 4; step++)
#pragma unroll
    for (int v = 0; v < N; v++)
#pragma unroll
      for (int q = 0; q < 2; q++) {
        const uint4 &half = x[v].half[step / 2];
        u32 first = step % 2 ? half.z : half.x, second = step % 2 ? half.w : half.y;
        if (step == 0) {
          multiply_first(c[v][q], f.pair[q][step / 2][step % 2], first, second);
        } else {
          multiply_add(c[v][q], f.pair[q][step / 2][step % 2], first, second);
        }
      }
#pragma unroll
  for (int v = 0; v < N; v++)
#pragma unroll
    for (int q = 0; q < 2; q++)
#pragma unroll
      for (int k = 0; k < 4; k++) total[v][q][k] += c[v][q][k] * factors[2 * q + k / 2];
}

/// The products of an item with EIGHTS times eight rows of x, of which `batch` or (`ALL`) all have a place.
template <class P, int EIGHTS, bool ALL, bool WHOLE>
DEVICE void multiply_item(const u8 *memory, u32 item, u32 factors, const u8 *x, int half_bytes, int batch, u32 active,
                          float (&total)[EIGHTS][2][4]) {
  // Two eights of rows of x at a time; the next two are read while these are multiplied.
  constexpr int pairs = (EIGHTS + 1) / 2, pair = EIGHTS > 1 ? 2 : 1;
  int g = (int)threadIdx.x % 32 / 4;
  // All four at once would take too many registers.
#pragma unroll 1
  for (int b = 0; b < unit_blocks; b++) {
    const u8 *rows = x + 2 * b * half_bytes;
    RowFragments r[2][pair];
#pragma unroll
    for (int v = 0; v < pair; v++) load_rows<ALL>(r[0][v], rows + 8 * v * 64, half_bytes, batch - 8 * v);
    CodeFragments f;
    load_codes<P, WHOLE>(f, memory, item, b, active);
    float of_rows[4];
#pragma unroll
    for (int i = 0; i < 4; i++) of_rows[i] = *(const float *)(memory + factors + b * P::place_step + (8 * i + g) * 4);
#pragma unroll
    for (int at = 0; at < pairs; at++) {
      if (at + 1 < pairs) {
#pragma unroll
        for (int v = 0; v < pair; v++) {
          int n = 8 * (2 * (at + 1) + v);
          load_rows<ALL>(r[(at + 1) % 2][v], rows + n * 64, half_bytes, batch - n);
        }
      }
      multiply_eights<pair>(total + 2 * at, f, r[at % 2], of_rows);
    }
  }
}

/// Two neighbours of a row of bf16 from column k on, of which there are `count`; zeros where it is not wanted.
DEVICE u32 pair_at(const u16 *row, int k, int count, bool wanted) {
  if (!wanted || k >= count) return 0;
  if (k + 1 < count && (u64)(row + k) % 4 == 0) return *(const u32 *)(row + k);
  return row[k] | (k + 1 < count ? (u32)row[k + 1] << 16 : 0);
}
/// Adds what adapters do, (x · Aᵀ) · (s·B)ᵀ, to the sums of an item's rows and of rows of x from n0 on, of which there are `batch`.
template <int EIGHTS>
DEVICE void add_adapters(float (&total)[EIGHTS][2][4], const RowPart &low, const RowPart &high, const ItemRows &rows, int n0, int batch) {
  int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int q = 0; q < 2; q++) {
    const RowPart &part = q == 0 ? low : high;
    int row = rows.first + (q == 0 ? 0 : rows.to_high) + g, rank = (int)part.rank;
    const u16 *b = part.b + (i64)row * rank, *s = part.s + (i64)(n0 + g) * part.ld_s;
#pragma unroll 1
    for (int k = 2 * t; k - 2 * t < rank; k += 16) {
      u32 of_b[4];
#pragma unroll
      for (int i = 0; i < 4; i++) of_b[i] = pair_at(b + i % 2 * 8 * rank, k + i / 2 * 8, rank, row + i % 2 * 8 < rows.end);
#pragma unroll
      for (int v = 0; v < EIGHTS; v++) {
        const u16 *of_s = s + (i64)(8 * v) * part.ld_s;
        bool is_row = 8 * v + g < batch;
        multiply_add(total[v][q], of_b, pair_at(of_s, k, rank, is_row), pair_at(of_s, k + 8, rank, is_row));
      }
    }
  }
}
