// x · Aᵀ of the adapters of a group, for few rows of x.
#include "rows.cuh"

/// A of one adapter of a group.
struct AdapterPart {
  const u16 *a;
  i64 rank;
  u16 *s;
  i64 ld_s;
};
struct AdapterInputs {
  AdapterPart part[3];
  i64 columns, batch;
  const u16 *x;
  i64 ldx, aligned;
  /// As in `RowProducts`.
  const float *stream, *gamma;
  double epsilon;
  /// Of several rows of x: parts of the columns that blocks take, their sums [sixteen of A and eight of x, part, 128], and how many of
  /// each have come, zero before and after.
  i64 splits;
  float *partial;
  int *done;
};

/// s = x · Aᵀ of every adapter of a group: one block per row of an A.
KERNEL(256, 4) rows_adapters(const GRID_CONSTANT AdapterInputs p) {
  __shared__ float room[32];
  i64 row = blockIdx.x;
  int part = 0;
  if (row >= p.part[0].rank) row -= p.part[0].rank, part = 1;
  if (part == 1 && row >= p.part[1].rank) row -= p.part[1].rank, part = 2;
  const AdapterPart &to = p.part[part];
  const u16 *a = to.a + row * p.columns;
  wait_for_previous();
  let_next_begin();
  if (p.gamma != 0) {
    float squares = 0, sum = 0;
    for (i64 c = (i64)threadIdx.x * 8; c < p.columns; c += 256 * 8) {
      Eight value = load_vector(p.stream + c);
#pragma unroll
      for (int i = 0; i < 8; i++) squares += value.v[i] * value.v[i];
    }
    float rstd = 1.0f / sqrtf(block_sum(squares, room) / (float)p.columns + (float)p.epsilon);
    for (i64 c = (i64)threadIdx.x * 8; c < p.columns; c += 256 * 8) {
      Eight value = load_vector(p.stream + c), factor = load_vector(p.gamma + c), one = load8(a + c, 8, (int)p.aligned);
#pragma unroll
      for (int i = 0; i < 8; i++) sum += one.v[i] * widen(narrow(value.v[i] * (rstd * factor.v[i])));
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) to.s[row] = narrow(sum);
    return;
  }
  for (i64 n = 0; n < p.batch; n++) {
    const u16 *x = p.x + n * p.ldx;
    float sum = 0;
    for (i64 c = (i64)threadIdx.x * 8; c < p.columns; c += 256 * 8) {
      Eight one = load8(a + c, p.columns - c, (int)p.aligned), two = load8(x + c, p.columns - c, (int)p.aligned);
#pragma unroll
      for (int i = 0; i < 8; i++) sum += one.v[i] * two.v[i];
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) to.s[n * to.ld_s + row] = narrow(sum);
  }
}

enum { many_warps = 16 };
/// The same for several rows of x that are aligned, on the tensor cores: a block has 16 rows of an A, eight of x and a part of the
/// columns, each of its warps every sixteenth 32 of them; the last block of a part adds the parts up in their order. Grid: x over
/// sixteens of rows of every A, y over eights of rows of x, for each of them over parts.
KERNEL(512, 1) rows_adapters_many(const GRID_CONSTANT AdapterInputs p) {
  __shared__ float sums[many_warps * 128];
  __shared__ int is_last;
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
  int splits = (int)p.splits, split = (int)blockIdx.y % splits, first_n = (int)blockIdx.y / splits * 8;
  int number = (int)blockIdx.x, part = 0;
  while (part < 2 && number >= ((int)p.part[part].rank + 15) / 16) number -= ((int)p.part[part].rank + 15) / 16, part++;
  const AdapterPart &to = p.part[part];
  int rank = (int)to.rank, columns = (int)p.columns, row = number * 16 + g, n = first_n + g;
  int pieces = (columns + 31) / 32, from = pieces * split / splits * 32, end = pieces * (split + 1) / splits * 32;
  if (end > columns) end = columns;
  const u16 *first = to.a + (i64)row * columns + t * 8, *second = first + (i64)8 * columns, *x = p.x + (i64)n * p.ldx + t * 8;
  auto load = [&](const u16 *of, int column, bool wanted) {
    return wanted && column + t * 8 < end ? *(const uint4 *)(of + column) : make_uint4(0, 0, 0, 0);
  };
  constexpr int ahead = 4, step = many_warps * 32;
  uint4 one[ahead], two[ahead], of_x[ahead];
  auto load_a = [&](int begin) {
#pragma unroll
    for (int i = 0; i < ahead; i++)
      one[i] = load(first, begin + i * step, row < rank), two[i] = load(second, begin + i * step, row + 8 < rank);
  };
  // Weights depend on nothing that came before in the stream.
  load_a(from + warp * 32);
  let_next_begin();
  wait_for_previous();
  float c[2][4] = {};
  for (int begin = from + warp * 32; begin < end; begin += ahead * step) {
#pragma unroll
    for (int i = 0; i < ahead; i++) of_x[i] = load(x, begin + i * step, n < (int)p.batch);
#pragma unroll
    for (int i = 0; i < ahead; i++) {
      u32 low[4] = {one[i].x, two[i].x, one[i].y, two[i].y}, high[4] = {one[i].z, two[i].z, one[i].w, two[i].w};
      multiply_add(c[0], low, of_x[i].x, of_x[i].y);
      multiply_add(c[1], high, of_x[i].z, of_x[i].w);
    }
    load_a(begin + ahead * step);
  }
  // Sums [warp, row of x, row of A].
#pragma unroll
  for (int k = 0; k < 4; k++) sums[warp * 128 + (2 * t + k % 2) * 16 + g + k / 2 * 8] = c[0][k] + c[1][k];
  __syncthreads();
  int element = (int)threadIdx.x % 128, of_n = first_n + element / 16, of_row = number * 16 + element % 16;
  float sum = 0;
#pragma unroll
  for (int w = 0; w < many_warps; w++) sum += sums[w * 128 + element];
  int tile = (int)blockIdx.y / splits * (int)gridDim.x + (int)blockIdx.x;
  float *partial = p.partial + (i64)tile * splits * 128 + element;
  if (splits > 1) {
    if (threadIdx.x < 128) partial[split * 128] = sum;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      is_last = atomicAdd(p.done + tile, 1) == splits - 1;
      if (is_last) p.done[tile] = 0;
    }
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    sum = 0;
    for (int i = 0; i < splits; i++) sum += load_fresh(partial + i * 128);
  }
  if (threadIdx.x < 128 && of_n < (int)p.batch && of_row < rank) to.s[(i64)of_n * to.ld_s + of_row] = narrow(sum);
}
