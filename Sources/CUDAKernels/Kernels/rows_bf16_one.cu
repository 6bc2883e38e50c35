// The product of one row with matrices in bf16: what writing one answer waits for where weights are not quantized, and of a head.
//
// As in rows_nf4_one.cu weights never wait for x: they come by cp.async through a ring in shared memory, of which every lane reads
// only what it brought itself, and a block has less than half of a multiprocessor, so that the next kernel's fills its ring beside
// it. Nothing goes by way of the first cache.
#include "rows_one.cuh"

enum {
  /// Columns of a row that a warp takes at once, eight for each lane, and their bytes: a piece. An item is that of four rows.
  piece_columns = 256,
  piece_bytes = 512,
  item_bytes = 4 * piece_bytes,
  /// Items of a warp that are on their way.
  items_ahead = 3,
  /// Behind the warps' sums of squares: the ring, x, the sums of rows.
  ring_at = 128,
  /// Rows that a team takes between two times that sums are finished: a multiple of four.
  round_rows = 256,
};

/// Columns are a multiple of 8. Warps of a block: as many as take whole pieces of a row, each as many as any other if that can be,
/// or a multiple of that.
KERNEL(384, 2) rows_bf16_one(const GRID_CONSTANT RowProducts p) {
  DYNAMIC_SHARED(memory);
  int lane = (int)threadIdx.x % 32, warp = (int)kept_of_warp(threadIdx.x / 32), warps = (int)blockDim.x / 32;
  int columns = (int)p.columns, own = (columns + warps * piece_columns - 1) / (warps * piece_columns);
  Teams teams = teams_of(p, (u32)(own * piece_columns), warp);
  RowShare share = share_of_block(p);
  int units = share.last - share.first, of_unit = teams.paired ? 2 : 1;
  int count = (units > teams.team ? (units - teams.team + teams.count - 1) / teams.count : 0) * of_unit;
  const RowPart &even = p.part[share.part], &odd = p.part[teams.paired ? 1 : share.part];
  int column = teams.slice * own * piece_columns + lane * 8;

  // The first of the next four rows of the team, and the second; the others are a step behind them.
  i64 row = share.first + teams.team, step_rows = teams.paired ? teams.count : 2 * teams.count;
  const u16 *from_even = (const u16 *)even.weights + row * even.stride + column;
  const u16 *from_odd = (const u16 *)odd.weights + (row + (teams.paired ? 0 : teams.count)) * odd.stride + column;
  i64 step_even = step_rows * even.stride, step_odd = step_rows * odd.stride;
  u32 ring = ring_at + (u32)warp * (items_ahead * item_bytes) + (u32)lane * 16;
  int left = count, next = 0;
  auto fetch = [&](u32 to) {
    bool inside = column + next < columns;
#pragma unroll
    for (int r = 0; r < 4; r++)
      copy_async(memory + to + r * piece_bytes, (r % 2 ? from_odd + r / 2 * step_odd : from_even + r / 2 * step_even) + next,
                 inside && r < left ? 16 : 0);
    commit_copies();
    next += piece_columns;
    if (next == own * piece_columns) next = 0, left -= 4, from_even += 2 * step_even, from_odd += 2 * step_odd;
  };
  // Weights depend on nothing that came before in the stream.
#pragma unroll
  for (int i = 0; i < items_ahead; i++) fetch(ring + i * item_bytes);
  let_next_begin();
  wait_for_previous();

  // What results are added to is read long before it is needed.
  int slots = units * of_unit;
  float old = p.accumulates && (int)threadIdx.x < slots ? old_of_slot(p, share, teams.paired, (int)threadIdx.x) : 0.0f;
  uint4 *pieces = (uint4 *)(memory + ring_at + warps * (items_ahead * item_bytes));
  int padded = teams.warps * own * piece_columns;
  bring_x(p, padded / 8, (float *)memory, [&](u32 i) { return pieces + i; });
  wait_copies<0>();
  __syncthreads();

  const u8 *x = (const u8 *)pieces + column * 2;
  float *sums = (float *)(pieces + padded / 8);
  int sums_of_row = teams.warps + 1, slots_of_round = round_rows * teams.count;
  u32 stage = 0;
  for (int begin = 0, first = 0; first < slots; begin += round_rows, first += slots_of_round) {
    int here = slots - first < slots_of_round ? slots - first : slots_of_round;
    for (int slot = (int)threadIdx.x; slot < here; slot += (int)blockDim.x)
      sums[slot * sums_of_row + teams.warps] =
          !p.accumulates ? 0.0f : first + slot == (int)threadIdx.x ? old : old_of_slot(p, share, teams.paired, first + slot);
    int end = begin + round_rows < count ? begin + round_rows : count;
#pragma unroll 1
    for (int i = begin; i < end; i += 4) {
      float total[4] = {};
#pragma unroll 1
      for (int c = 0; c < own; c++) {
        wait_copies<items_ahead - 1>();
        uint4 piece = *(const uint4 *)(x + c * piece_bytes), of_row[4];
#pragma unroll
        for (int r = 0; r < 4; r++) of_row[r] = *(const uint4 *)(memory + ring + stage + r * piece_bytes);
        float of_x[8];
        widen_pair(of_x, piece.x), widen_pair(of_x + 2, piece.y), widen_pair(of_x + 4, piece.z), widen_pair(of_x + 6, piece.w);
#pragma unroll
        for (int r = 0; r < 4; r++) {
          float w[8];
          widen_pair(w, of_row[r].x), widen_pair(w + 2, of_row[r].y), widen_pair(w + 4, of_row[r].z), widen_pair(w + 6, of_row[r].w);
#pragma unroll
          for (int k = 0; k < 8; k++) total[r] += w[k] * of_x[k];
        }
        fetch(ring + stage);
        stage = stage == (items_ahead - 1) * item_bytes ? 0 : stage + item_bytes;
      }
      float sum = sum_of_four(total, lane);
      int index = i + lane / 8;
      if (lane % 8 == 0 && index < count) sums[(teams.slot(index) - first) * sums_of_row + teams.slice] = sum;
    }
    __syncthreads();
    finish_slots(p, share, teams, sums, first / of_unit, here / of_unit);
    __syncthreads();
  }
}
