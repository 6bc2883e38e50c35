// The product of one row with matrices in NF4 (see nf4.cu), whose columns are a multiple of 64: what writing one answer waits
// for. No tensor core helps one row: sums are of f16 pairs, four at a time, then fp32.
//
// Weights never wait for x: a kernel's first ones are on their way into shared memory while the kernel before it still computes,
// since blocks of both fit a multiprocessor. Codes go by way of shared memory, not straight into registers: what is read into
// registers ahead is waited for with whatever comes next, as a warp has few ways to tell its loads apart.
#include "nf4.cuh"
#include "rows_one.cuh"

enum {
  /// Columns of a row that a warp takes at once, 32 for each lane, and the bytes of their codes: a piece.
  one_columns = 1024,
  one_bytes = 512,
  /// The table of pairs of codes: 256 rows of 256 bytes, of which the first half are the pair, once for each lane. The other
  /// halves hold the codes that are on their way, four for each piece.
  one_table = 256 * 256,
  one_piece = 4 * 256,
  /// Behind the table: the map of absmax codes, the warps' sums of squares; then the share's absmax codes and nested values, and
  /// x, whose place the sums of rows take.
  one_map = one_table,
  one_squares = one_map + 1024,
  one_free = one_squares + 128,
};

/// Where a block keeps what it needs of a part's absmax, in bytes of shared memory: the code of the share's first block, and
/// the nested value number 0 if all of them were there.
struct OneScales {
  u32 codes, nested;
};

/// Starts bringing a part's absmax of the share to places from `at` on, which moves on.
DEVICE OneScales bring_scales(u8 *memory, const RowPart &part, RowShare share, u32 row_blocks, u32 &at) {
  if (share.last <= share.first) return {at, at};
  u64 begin = (u64)(part.absmax + (i64)share.first * row_blocks), end = begin + (u64)(share.last - share.first) * row_blocks;
  OneScales r;
  r.codes = at + (u32)(begin & 15);
  begin &= ~15ull;
  // What lies before the first code in its 16 bytes belongs to the same allocation.
  u32 pieces = (u32)((end - begin + 15) / 16), bytes = (u32)(end - begin);
  for (u32 i = threadIdx.x; i < pieces; i += blockDim.x)
    copy_async(memory + at + i * 16, (const u8 *)begin + i * 16, bytes - i * 16 < 16 ? (int)(bytes - i * 16) : 16);
  at += pieces * 16;
  u32 first = ((u32)part.first + (u32)share.first * row_blocks) >> 8;
  u32 count = (((u32)part.first + (u32)share.last * row_blocks - 1) >> 8) - first + 1;
  r.nested = at - first * 4;
  for (u32 i = threadIdx.x; i < count; i += blockDim.x) *(float *)(memory + at + i * 4) = part.nested[first + i];
  at += (count * 4 + 15) / 16 * 16;
  return r;
}

/// A warp takes `CHUNKS` (1 or 2) times 1,024 columns, whose part of x stays in its registers; it goes through pieces of 1,024 columns
/// two at a time; STAGES such pairs are on their way.
template <int CHUNKS, int STAGES> DEVICE void one_row(const RowProducts &p) {
  DYNAMIC_SHARED(memory);
  int lane = (int)kept(threadIdx.x % 32), warp = (int)kept_of_warp(threadIdx.x / 32);
  u32 columns = (u32)p.columns, row_bytes = columns / 2, row_blocks = columns / 64;
  Teams all_teams = teams_of(p, CHUNKS * one_columns, warp);
  int team_warps = all_teams.warps, teams = all_teams.count, slice = all_teams.slice, team = all_teams.team;
  bool paired = all_teams.paired;
  RowShare share = share_of_block(p);
  // Rows of the team; of gate and up, rows of both take turns.
  int units = share.last - share.first, count = units > team ? (units - team + teams - 1) / teams : 0;
  if (paired) count *= 2;
  const RowPart &even = p.part[share.part], &odd = p.part[paired ? 1 : share.part];
  u32 column = (u32)(slice * CHUNKS) * one_columns + (u32)lane * 32;

  // Where the team's next rows of even and of odd number lie, and how far on the ones behind them.
  u32 to_odd = paired ? 0 : (u32)teams, step_rows = paired ? (u32)teams : 2 * (u32)teams, row_ahead = (u32)(share.first + team);
  const u8 *from_even = (const u8 *)even.weights + (u64)row_ahead * row_bytes + column / 2;
  const u8 *from_odd = (const u8 *)odd.weights + (u64)(row_ahead + to_odd) * row_bytes + column / 2;
  u64 step_bytes = (u64)step_rows * row_bytes;
  u32 ring = (u32)warp * (STAGES * 2 * one_piece) + (u32)lane / 8 * 256 + 128 + (u32)lane % 8 * 16;
  ring = kept(ring);
  int left = count;
  auto fetch = [&](u32 to, bool is_odd, int c) {
    // Beyond the columns and the rows codes are zero, and so is x.
    const u8 *&from = is_odd ? from_odd : from_even;
    copy_async(memory + to, from + c * one_bytes, left > 0 && column + c * one_columns < columns ? 16 : 0);
    if (c == CHUNKS - 1) left--, from += step_bytes;
  };
  // Weights depend on nothing that came before in the stream.
#pragma unroll
  for (int i = 0; i < STAGES; i++) {
#pragma unroll
    for (int k = 0; k < 2; k++) fetch(ring + (i * 2 + k) * one_piece, (i * 2 + k) / CHUNKS % 2, (i * 2 + k) % CHUNKS);
    commit_copies();
  }
  let_next_begin();
  u32 free_at = one_free;
  OneScales scales = bring_scales(memory, even, share, row_blocks, free_at), odd_scales = scales;
  if (paired) odd_scales = bring_scales(memory, odd, share, row_blocks, free_at);
  commit_copies();
  for (int i = (int)threadIdx.x; i < 256 * 8; i += (int)blockDim.x) {
    u32 pair = pair_of_halves(nf4_values[i / 8 >> 4], nf4_values[i / 8 & 15]);
    *(uint4 *)(memory + i / 8 * 256 + i % 8 * 16) = make_uint4(pair, pair, pair, pair);
  }
  for (int i = (int)threadIdx.x; i < 256; i += (int)blockDim.x) ((float *)(memory + one_map))[i] = p.map[i];

  // A lane makes the factor of one block of a piece: the first half of the warp that of the pair's first piece.
  int half = lane / 16;
  bool own_odd = CHUNKS == 1 && half;
  u32 block = (u32)(slice * CHUNKS + (CHUNKS > 1 ? half : 0)) * (one_columns / 64) + (u32)lane % 16;
  // Behind the columns the last one's factor, which meets zeros: anything else may be no number.
  if (block >= row_blocks) block = row_blocks - 1;
  // Of the next even row: the place of the block's code, its number among all of the part's, the place of nested value 0; and
  // how far from there those of the odd row are.
  u32 code_at = scales.codes + (u32)team * row_blocks + block, number = (u32)even.first + row_ahead * row_blocks + block;
  u32 nested_at = scales.nested, nested_to_odd = odd_scales.nested - scales.nested;
  u32 code_to_odd = odd_scales.codes - scales.codes + to_odd * row_blocks;
  u32 number_to_odd = (u32)odd.first - (u32)even.first + to_odd * row_blocks;
  float mean_even = *even.offset, mean_odd = *odd.offset;
  if (own_odd) code_at += code_to_odd, number += number_to_odd, nested_at += nested_to_odd, mean_even = mean_odd;
  u32 step_blocks = step_rows * row_blocks;
  wait_for_previous();

  // What results are added to, read long before it is needed.
  int slots = paired ? 2 * units : units;
  float old = p.accumulates && (int)threadIdx.x < slots ? old_of_slot(p, share, paired, (int)threadIdx.x) : 0.0f;
  // x in bf16: threads bring what lies side by side, lanes take what is theirs. A lane's four pieces lie a row of lanes apart.
  uint4 *pieces = (uint4 *)(memory + free_at);
  auto piece_at = [&](u32 i) { return pieces + (i / 128 * 4 + i % 4) * 32 + i / 4 % 32; };
  bring_x(p, (u32)(team_warps * CHUNKS) * (one_columns / 8), (float *)(memory + one_squares), piece_at);
  // The absmax codes are there too.
  wait_copies<0>();
  __syncthreads();
  // As f16, over a power of two of the lane's own that none of its columns exceeds.
  u32 x[CHUNKS][16];
  float scale;
  {
    float largest = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        uint4 piece = pieces[((slice * CHUNKS + c) * 4 + i) * 32 + lane];
        x[c][i * 4] = piece.x, x[c][i * 4 + 1] = piece.y, x[c][i * 4 + 2] = piece.z, x[c][i * 4 + 3] = piece.w;
#pragma unroll
        for (int k = 0; k < 4; k++) {
          u32 pair = x[c][i * 4 + k];
          largest = fmaxf(largest, fmaxf(fabsf(widen((u16)pair)), fabsf(widen((u16)(pair >> 16)))));
        }
      }
    u32 exponent = (__float_as_uint(largest) >> 23 & 255u) + 1;
    exponent = exponent < 2 ? 2 : exponent > 252 ? 252 : exponent;
    scale = __uint_as_float(exponent << 23);
    float inverse = __uint_as_float((254 - exponent) << 23);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
      for (int i = 0; i < 16; i++)
        x[c][i] = pair_of_halves(widen((u16)x[c][i]) * inverse, widen((u16)(x[c][i] >> 16)) * inverse);
  }
  // Sums of rows come to where x lay, those of a row's warps side by side, and behind them what they are added to.
  __syncthreads();
  int sums_of_row = team_warps + 1;
  float *all_sums = (float *)(memory + free_at);
  for (int slot = (int)threadIdx.x; slot < slots; slot += (int)blockDim.x)
    all_sums[slot * sums_of_row + team_warps] = slot == (int)threadIdx.x || !p.accumulates ? old : old_of_slot(p, share, paired, slot);

  u32 own = (u32)lane * 4, last_stage = (STAGES - 1) * 2 * one_piece, stage = 0;
  // What the loop needs it keeps: none of it is worked out again.
  step_bytes = kept_of_warp(step_bytes), step_blocks = kept_of_warp(step_blocks);
  from_even = (const u8 *)kept((u64)from_even), from_odd = (const u8 *)kept((u64)from_odd);
  u32 half_lane = kept((u32)lane / 2);
  // Of four rows at a time; behind the team's last one codes are zero and factors made of whatever lies there: nobody keeps its sum.
#pragma unroll 1
  for (int i = 0; i < count; i += 4) {
    float total[4] = {};
#pragma unroll
    for (int pair = 0; pair < 2 * CHUNKS; pair++) {
      float factor;
      {
        bool is_odd = CHUNKS > 1 && pair % 2;
        u32 code = memory[code_at + (is_odd ? code_to_odd : 0)], value = (number + (is_odd ? number_to_odd : 0)) >> 8;
        float nested = *(const float *)(memory + nested_at + (is_odd ? nested_to_odd : 0) + value * 4);
        factor = __fadd_rn(__fmul_rn(((const float *)(memory + one_map))[code], nested), is_odd ? mean_odd : mean_even);
        if (CHUNKS == 1 || is_odd) code_at += step_blocks, number += step_blocks;
      }
      wait_copies<STAGES - 1>();
      u32 here = ring + stage;
      uint4 codes[2];
#pragma unroll
      for (int k = 0; k < 2; k++) codes[k] = *(const uint4 *)(memory + here + k * one_piece);
      u32 sums[2][4];
#pragma unroll
      for (int w = 0; w < 4; w++)
#pragma unroll
        for (int k = 0; k < 2; k++) {
          const int c = (pair * 2 + k) % CHUNKS;
          u32 word = w == 0 ? codes[k].x : w == 1 ? codes[k].y : w == 2 ? codes[k].z : codes[k].w;
          u32 w0 = *(const u32 *)(memory + __byte_perm(word, own, 0x5504)), w1 = *(const u32 *)(memory + __byte_perm(word, own, 0x5514));
          u32 w2 = *(const u32 *)(memory + __byte_perm(word, own, 0x5524)), w3 = *(const u32 *)(memory + __byte_perm(word, own, 0x5534));
          sums[k][0] = w == 0 ? multiply_halves(w0, x[c][0]) : multiply_add_halves(w0, x[c][w * 4], sums[k][0]);
          sums[k][1] = w == 0 ? multiply_halves(w1, x[c][1]) : multiply_add_halves(w1, x[c][w * 4 + 1], sums[k][1]);
          sums[k][2] = w == 0 ? multiply_halves(w2, x[c][2]) : multiply_add_halves(w2, x[c][w * 4 + 2], sums[k][2]);
          sums[k][3] = w == 0 ? multiply_halves(w3, x[c][3]) : multiply_add_halves(w3, x[c][w * 4 + 3], sums[k][3]);
        }
#pragma unroll
      for (int k = 0; k < 2; k++) {
        const int piece = (pair + STAGES) * 2 + k;
        fetch(here + k * one_piece, piece / CHUNKS % 2, piece % CHUNKS);
      }
      commit_copies();
#pragma unroll
      for (int k = 0; k < 2; k++) {
        u32 a = add_halves(sums[k][0], sums[k][1]), b = add_halves(sums[k][2], sums[k][3]);
        total[(pair * 2 + k) / CHUNKS] += ((low_half(a) + high_half(a)) + (low_half(b) + high_half(b))) *
                                          __shfl_sync(0xffffffffu, factor, k * 16 + (int)half_lane);
      }
      stage = stage == last_stage ? 0 : stage + 2 * one_piece;
    }
#pragma unroll
    for (int r = 0; r < 4; r++) total[r] *= scale;
    float sum = sum_of_four(total, lane);
    int index = i + lane / 8;
    if (lane % 8 == 0 && index < count) all_sums[all_teams.slot(index) * sums_of_row + slice] = sum;
  }
  __syncthreads();
  finish_slots(p, share, all_teams, all_sums, 0, units);
}

KERNEL(320, 2) rows_nf4_one_1(const GRID_CONSTANT RowProducts p) { one_row<1, 3>(p); }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
// Three pairs on their way leave too few registers there.
KERNEL(288, 2) rows_nf4_one_2(const GRID_CONSTANT RowProducts p) { one_row<2, 2>(p); }
#else
KERNEL(288, 2) rows_nf4_one_2(const GRID_CONSTANT RowProducts p) { one_row<2, 3>(p); }
#endif
/// For the widest rows: two do not fit a multiprocessor.
KERNEL(576, 1) rows_nf4_one_wide(const GRID_CONSTANT RowProducts p) { one_row<2, 1>(p); }
