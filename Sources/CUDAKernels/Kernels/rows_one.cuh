// What products of one row have in common, however the matrices are stored: teams of warps, sums of a row that several warps have
// parts of, and how they are finished.
#pragma once
#include "rows.cuh"

/// A row of W is taken by a team of warps, each its own columns; a block has one or several teams, which take turns in its rows.
/// What a team takes as number `index`, and the team of a block, lies in slots: one for each row, of gate and up in turn.
struct Teams {
  int warps, count, team, slice;
  bool paired;

  MEMBER int slot(int index) const { return paired ? (team + index / 2 * count) * 2 + index % 2 : team + index * count; }
};
DEVICE Teams teams_of(const RowProducts &p, u32 columns_of_warp, int warp) {
  int warps = (int)(((u32)p.columns + columns_of_warp - 1) / columns_of_warp);
  return {warps, (int)blockDim.x / 32 / warps, warp / warps, warp % warps, p.activation != 0};
}

/// What the row of a block's slot is added to.
DEVICE float old_of_slot(const RowProducts &p, RowShare share, bool paired, int slot) {
  return old_value(p, paired ? slot % 2 : share.part, share.first + (paired ? slot / 2 : slot), 0);
}

/// Hands the eights of the residual stream that are the thread's to `use(number, eight)`: four are read at once.
template <class Use> DEVICE void each_eight(const RowProducts &p, Use use) {
  u32 columns = (u32)p.columns;
  for (u32 first = threadIdx.x; first * 8 < columns; first += blockDim.x * 4) {
    Eight values[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      u32 at = (first + i * blockDim.x) * 8;
      values[i] = {};
      if (at < columns) values[i] = load_vector(p.stream + at);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      u32 number = first + i * blockDim.x;
      if (number * 8 < columns) use(number, values[i]);
    }
  }
}

/// Starts bringing x, or makes it of the residual stream by RMSNorm: bf16 in pieces of eight columns, zeros behind the columns, to
/// shared memory, where `place` says that each lies. It is there after `wait_copies` and a barrier. squares: room for a float of each
/// warp.
template <class Place> DEVICE void bring_x(const RowProducts &p, u32 pieces, float *squares_of_warps, Place place) {
  u32 columns = (u32)p.columns;
  if (p.gamma == 0) {
    for (u32 i = threadIdx.x; i < pieces; i += blockDim.x)
      copy_async(place(i), p.x + (i * 8 < columns ? i * 8 : 0), i * 8 < columns ? 16 : 0);
    commit_copies();
    return;
  }
  int lane = (int)threadIdx.x % 32;
  float squares = 0;
  each_eight(p, [&](u32, Eight &value) {
#pragma unroll
    for (int k = 0; k < 8; k++) squares += value.v[k] * value.v[k];
  });
  squares = warp_sum(squares);
  if (lane == 0) squares_of_warps[threadIdx.x / 32] = squares;
  __syncthreads();
  squares = warp_sum(lane < (int)blockDim.x / 32 ? squares_of_warps[lane] : 0.0f);
  float rstd = 1.0f / sqrtf(squares / (float)columns + (float)p.epsilon);
  // Read once more, which the first cache answers.
  each_eight(p, [&](u32 piece, Eight &value) {
    Eight factor = load_vector(p.gamma + piece * 8);
#pragma unroll
    for (int k = 0; k < 8; k++) value.v[k] *= rstd * factor.v[k];
    *place(piece) = make_uint4(narrow2(value.v[0], value.v[1]), narrow2(value.v[2], value.v[3]), narrow2(value.v[4], value.v[5]),
                               narrow2(value.v[6], value.v[7]));
  });
  for (u32 i = columns / 8 + threadIdx.x; i < pieces; i += blockDim.x) *place(i) = make_uint4(0, 0, 0, 0);
}

/// Four sums over the warp at once: each lane of eight ends with the same one of them, that of lane / 8.
DEVICE float sum_of_four(const float (&total)[4], int lane) {
  bool upper = lane & 16, second = lane & 8;
  float one = upper ? total[2] : total[0], two = upper ? total[3] : total[1];
  one += __shfl_xor_sync(0xffffffffu, upper ? total[0] : total[2], 16);
  two += __shfl_xor_sync(0xffffffffu, upper ? total[1] : total[3], 16);
  float sum = second ? two : one;
  sum += __shfl_xor_sync(0xffffffffu, second ? one : two, 8);
#pragma unroll
  for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}

/// Writes `units` rows (of gate and up: of each) from `first` of the share on. sums: of each slot those of its team's warps side by
/// side, and behind them what they are added to.
DEVICE void finish_slots(const RowProducts &p, RowShare share, const Teams &teams, const float *sums, int first, int units) {
  for (int unit = (int)threadIdx.x; unit < units; unit += (int)blockDim.x) {
    float gate = 0;
    for (int r = 0; r < (teams.paired ? 2 : 1); r++) {
      const float *of_slot = sums + (teams.paired ? unit * 2 + r : unit) * (teams.warps + 1);
      float value = 0;
      for (int w = 0; w < teams.warps; w++) value += of_slot[w];
      finish_row(p, teams.paired ? r : share.part, share.first + first + unit, 0, value, of_slot[teams.warps], gate);
    }
  }
}
