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

/// Eights of a row of A that a thread reads before x is there.
enum { one_ahead = 3 };
/// The row's product with what `x` gives from a column on, of which `of_a` is there.
template <class X> DEVICE float row_product(const AdapterInputs &p, const u16 *a, const uint4 (&of_a)[one_ahead], float *room, X x) {
  float sum = 0;
  i64 c = (i64)threadIdx.x * 8;
  if (p.aligned) {
#pragma unroll
    for (int i = 0; i < one_ahead; i++, c += 256 * 8) {
      if (c + 8 > p.columns) continue;
      float one[8];
      widen_pair(one, of_a[i].x), widen_pair(one + 2, of_a[i].y), widen_pair(one + 4, of_a[i].z), widen_pair(one + 6, of_a[i].w);
      Eight two = x(c);
#pragma unroll
      for (int k = 0; k < 8; k++) sum += one[k] * two.v[k];
    }
  }
  for (; c < p.columns; c += 256 * 8) {
    Eight one = load8(a + c, p.columns - c, (int)p.aligned), two = x(c);
#pragma unroll
    for (int k = 0; k < 8; k++) sum += one.v[k] * two.v[k];
  }
  return block_sum(sum, room);
}

/// s = x · Aᵀ of every adapter of a group: one block per row of an A.
KERNEL(256, 4) rows_adapters(const GRID_CONSTANT AdapterInputs p) {
  __shared__ float room[32];
  i64 row = blockIdx.x;
  int part = 0;
  if (row >= p.part[0].rank) row -= p.part[0].rank, part = 1;
  if (part == 1 && row >= p.part[1].rank) row -= p.part[1].rank, part = 2;
  const AdapterPart &to = p.part[part];
  const u16 *a = to.a + row * p.columns;
  // Weights depend on nothing that came before in the stream: most of the row is on its way before x is there.
  uint4 of_a[one_ahead];
#pragma unroll
  for (int i = 0; i < one_ahead; i++) {
    i64 c = (i64)(i * 256 + (int)threadIdx.x) * 8;
    of_a[i] = p.aligned && c + 8 <= p.columns ? *(const uint4 *)(a + c) : make_uint4(0, 0, 0, 0);
  }
  let_next_begin();
  wait_for_previous();
  for (i64 n = 0; n < p.batch; n++) {
    float sum;
    if (p.gamma != 0) {
      float squares = 0;
      for (i64 c = (i64)threadIdx.x * 8; c < p.columns; c += 256 * 8) {
        Eight value = load_vector(p.stream + c);
#pragma unroll
        for (int k = 0; k < 8; k++) squares += value.v[k] * value.v[k];
      }
      float rstd = 1.0f / sqrtf(block_sum(squares, room) / (float)p.columns + (float)p.epsilon);
      sum = row_product(p, a, of_a, room, [&](i64 c) {
        Eight value = load_vector(p.stream + c), factor = load_vector(p.gamma + c);
#pragma unroll
        for (int k = 0; k < 8; k++) value.v[k] = widen(narrow(value.v[k] * (rstd * factor.v[k])));
        return value;
      });
    } else {
      const u16 *x = p.x + n * p.ldx;
      sum = row_product(p, a, of_a, room, [&](i64 c) { return load8(x + c, p.columns - c, (int)p.aligned); });
    }
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
  constexpr int ahead = 4, step = many_warps * 32;
  uint4 one[ahead], two[ahead], of_x[ahead];
  auto load_a = [&](int begin) {
#pragma unroll
    for (int i = 0; i < ahead; i++)
      one[i] = load(first, begin + i * step, row < rank), two[i] = load(second, begin + i * step, row + 8 < rank);
  };
  load_a(warp * 32);
  let_next_begin();
  wait_for_previous();
  float c[2][4] = {};
  for (int begin = warp * 32; begin < columns; begin += ahead * step) {
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
  int element = (int)threadIdx.x, of_n = (int)blockIdx.y * 8 + element / 16, of_row = number * 16 + element % 16;
  if (element >= 128 || of_n >= (int)p.batch || of_row >= rank) return;
  float sum = 0;
#pragma unroll
  for (int w = 0; w < many_warps; w++) sum += sums[w * 128 + element];
  to.s[(i64)of_n * to.ld_s + of_row] = narrow(sum);
}
