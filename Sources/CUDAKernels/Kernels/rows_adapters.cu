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
/// The same for several rows of x that are aligned, on the tensor cores: a block has 16 rows of an A and eight of x, each of its warps
/// every sixteenth 32 columns. Grid: x over sixteens of rows of every A, y over eights of rows of x.
KERNEL(512, 1) rows_adapters_many(const GRID_CONSTANT AdapterInputs p) {
  __shared__ float sums[many_warps * 128];
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
  int number = (int)blockIdx.x, part = 0;
  while (part < 2 && number >= ((int)p.part[part].rank + 15) / 16) number -= ((int)p.part[part].rank + 15) / 16, part++;
  const AdapterPart &to = p.part[part];
  int rank = (int)to.rank, columns = (int)p.columns, row = number * 16 + g, n = (int)blockIdx.y * 8 + g;
  const u16 *first = to.a + (i64)row * columns + t * 8, *second = first + (i64)8 * columns, *x = p.x + (i64)n * p.ldx + t * 8;
  auto load = [&](const u16 *from, int column, bool wanted) {
    return wanted && column + t * 8 < columns ? *(const uint4 *)(from + column) : make_uint4(0, 0, 0, 0);
  };
  wait_for_previous();
  let_next_begin();
  float c[2][4] = {};
  constexpr int ahead = 4;
  for (int begin = warp * 32; begin < columns; begin += ahead * many_warps * 32) {
    uint4 one[ahead], two[ahead], of_x[ahead];
#pragma unroll
    for (int i = 0; i < ahead; i++) {
      int column = begin + i * many_warps * 32;
      one[i] = load(first, column, row < rank), two[i] = load(second, column, row + 8 < rank);
      of_x[i] = load(x, column, n < (int)p.batch);
    }
#pragma unroll
    for (int i = 0; i < ahead; i++) {
      u32 low[4] = {one[i].x, two[i].x, one[i].y, two[i].y}, high[4] = {one[i].z, two[i].z, one[i].w, two[i].w};
      multiply_add(c[0], low, of_x[i].x, of_x[i].y);
      multiply_add(c[1], high, of_x[i].z, of_x[i].w);
    }
  }
  // Sums [warp, row of x, row of A].
#pragma unroll
  for (int k = 0; k < 4; k++) sums[warp * 128 + (2 * t + k % 2) * 16 + g + k / 2 * 8] = c[0][k] + c[1][k];
  __syncthreads();
  int element = (int)threadIdx.x, of_n = (int)blockIdx.y * 8 + element / 16, of_row = number * 16 + element % 16;
  if (element >= 128 || of_n >= (int)p.batch || of_row >= rank) return;
  float sum = 0;
#pragma unroll
  for (int w = 0; w < many_warps; w++) sum += sums[w * 128 + element];
  to.s[(i64)of_n * to.ld_s + of_row] = narrow(sum);
}
