// The product of one row with matrices in NF4 (see nf4.cu), whose columns are a multiple of 64: what writing one answer waits
// for. No tensor core helps one row: sums are of f16 pairs, four at a time, then fp32.
#include "nf4.cuh"
#include "rows.cuh"

/// What a lane reads of two rows: 32 codes of each, their absmax.
struct OneItem {
  uint4 codes[2];
  u32 absmax[2];
  float nested[2];
};

enum { one_warps = 10, one_stages = 2 };

/// A warp takes two rows of W (of gate and up one each) and goes on to the next two, a lane 32 columns of every 1,024.
KERNEL(one_warps * 32, 2) rows_nf4_one(const GRID_CONSTANT RowProducts p) {
  DYNAMIC_SHARED(memory);
  // Every pair of codes as two f16, once for each lane, so that no two meet in a bank: a byte of codes put before a byte that
  // names the lane is the pair's place.
  u32 *table = (u32 *)memory;
  float *map = (float *)(memory + 256 * 256), *room = map + 256;
  uint4 *xs = (uint4 *)(room + 32);
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
  u32 columns = (u32)p.columns, row_blocks = columns / 64;
  int steps = (int)(columns + 1023) / 1024;
  bool paired = p.activation != 0;
  int per = paired ? 1 : 2, units0 = ((int)p.part[0].rows + per - 1) / per;
  int units1 = p.parts > 1 && !paired ? ((int)p.part[1].rows + 1) / 2 : 0, units2 = p.parts > 2 ? ((int)p.part[2].rows + 1) / 2 : 0;
  int units = units0 + units1 + units2, first = warp * (int)gridDim.x + (int)blockIdx.x, stride = warps * (int)gridDim.x;
  int items = first < units ? (units - first + stride - 1) / stride * steps : 0;

  auto place = [&](int unit, int r, int &part, int &row) {
    part = paired ? r : 0, row = unit * per + (paired ? 0 : r);
    if (paired || unit < units0) return;
    unit -= units0, part = 1;
    if (unit >= units1) unit -= units1, part = 2;
    row = unit * 2 + r;
  };
  const u8 *codes[2], *absmax[2];
  const float *nested[2];
  u32 blocks[2];
  int reading = first;
  u32 reading_step = 0;
  auto enter = [&]() {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      int part, row;
      place(reading, r, part, row);
      const RowPart &to = p.part[part];
      // The last row again, where there is no second one.
      if (row >= to.rows) row = (int)to.rows - 1;
      codes[r] = (const u8 *)to.weights + (i64)row * (columns / 2);
      blocks[r] = (u32)row * row_blocks;
      absmax[r] = to.absmax + blocks[r];
      blocks[r] += (u32)to.first;
      nested[r] = to.nested;
    }
  };
  auto load = [&](OneItem &item) {
    // Beyond the columns the last ones again, which meet zeros of x.
    u32 at = reading_step * 512 + (u32)lane * 16, block = reading_step * 16 + (u32)lane / 2;
    if (at + 16 > columns / 2) at = columns / 2 - 16, block = row_blocks - 1;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      item.codes[r] = load_once((const uint4 *)(codes[r] + at));
      item.absmax[r] = absmax[r][block];
      item.nested[r] = nested[r][(blocks[r] + block) >> 8];
    }
    if (++reading_step == (u32)steps) {
      reading_step = 0, reading += stride;
      if (reading < units) enter();
    }
  };
  // Weights depend on nothing that came before in the stream.
  OneItem ring[one_stages] = {};
  if (items > 0) enter();
#pragma unroll
  for (int i = 0; i < one_stages; i++)
    if (i < items) load(ring[i]);
  for (int i = (int)threadIdx.x; i < 256 * 8; i += (int)blockDim.x) {
    u32 pair = pair_of_halves(nf4_values[i / 8 >> 4], nf4_values[i / 8 & 15]);
    *(uint4 *)(table + i / 8 * 64 + i % 8 * 4) = make_uint4(pair, pair, pair, pair);
  }
  for (int i = (int)threadIdx.x; i < 256; i += (int)blockDim.x) map[i] = p.map[i];
  let_next_begin();
  wait_for_previous();

  // x as f16, over a power of two that none of it exceeds.
  const uint4 *from = (const uint4 *)p.x;
  float highest = 0;
  for (int i = (int)threadIdx.x; i < (int)columns / 8; i += (int)blockDim.x) {
    Eight value = load_vector((const u16 *)(from + i));
#pragma unroll
    for (int k = 0; k < 8; k++) highest = fmaxf(highest, fabsf(value.v[k]));
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, step));
  if (lane == 0) room[warp] = highest;
  __syncthreads();
  highest = lane < warps ? room[lane] : 0.0f;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, step));
  u32 exponent = (__float_as_uint(highest) >> 23 & 255u) + 1;
  exponent = exponent < 2 ? 2 : exponent > 252 ? 252 : exponent;
  float scale = __uint_as_float(exponent << 23), inverse = __uint_as_float((254 - exponent) << 23);
  for (int i = (int)threadIdx.x; i < steps * 128; i += (int)blockDim.x) {
    Eight value = {};
    if (i * 8 < (int)columns) value = load_vector((const u16 *)(from + i));
    // Four pieces of a lane lie a row of lanes apart.
    xs[(i / 128 * 4 + i % 4) * 32 + i / 4 % 32] = make_uint4(
        pair_of_halves(value.v[0] * inverse, value.v[1] * inverse), pair_of_halves(value.v[2] * inverse, value.v[3] * inverse),
        pair_of_halves(value.v[4] * inverse, value.v[5] * inverse), pair_of_halves(value.v[6] * inverse, value.v[7] * inverse));
  }
  __syncthreads();

  int unit = first, step = 0, part[2] = {}, row[2] = {};
  float totals[2] = {}, mean[2] = {};
  auto begin = [&]() {
#pragma unroll
    for (int r = 0; r < 2; r++) place(unit, r, part[r], row[r]), mean[r] = *p.part[part[r]].offset;
  };
  if (items > 0) begin();
  u32 own = (u32)lane * 4;
#pragma unroll 1
  for (int number = 0; number < items; number += one_stages) {
#pragma unroll
    for (int u = 0; u < one_stages; u++) {
      if (number + u >= items) break;
      OneItem &item = ring[u];
      u32 sums[2][4];
#pragma unroll
      for (int c = 0; c < 4; c++) {
        uint4 x = xs[(step * 4 + c) * 32 + lane];
#pragma unroll
        for (int r = 0; r < 2; r++) {
          u32 word = c == 0 ? item.codes[r].x : c == 1 ? item.codes[r].y : c == 2 ? item.codes[r].z : item.codes[r].w;
          u32 w0 = *(const u32 *)(memory + __byte_perm(word, own, 0x5504)), w1 = *(const u32 *)(memory + __byte_perm(word, own, 0x5514));
          u32 w2 = *(const u32 *)(memory + __byte_perm(word, own, 0x5524)), w3 = *(const u32 *)(memory + __byte_perm(word, own, 0x5534));
          sums[r][0] = c == 0 ? multiply_halves(w0, x.x) : multiply_add_halves(w0, x.x, sums[r][0]);
          sums[r][1] = c == 0 ? multiply_halves(w1, x.y) : multiply_add_halves(w1, x.y, sums[r][1]);
          sums[r][2] = c == 0 ? multiply_halves(w2, x.z) : multiply_add_halves(w2, x.z, sums[r][2]);
          sums[r][3] = c == 0 ? multiply_halves(w3, x.w) : multiply_add_halves(w3, x.w, sums[r][3]);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; r++) {
        u32 a = add_halves(sums[r][0], sums[r][1]), b = add_halves(sums[r][2], sums[r][3]);
        totals[r] += ((low_half(a) + high_half(a)) + (low_half(b) + high_half(b))) *
                     __fadd_rn(__fmul_rn(map[item.absmax[r]], item.nested[r]), mean[r]);
      }
      if (number + u + one_stages < items) load(item);
      if (++step < steps) continue;
      step = 0;
      float values[2], gate = 0;
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const RowPart &to = p.part[part[r]];
        values[r] = totals[r] * scale;
        if (row[r] < to.rows)
          for (int i = lane; i < (int)to.rank; i += 32) values[r] += widen(to.b[row[r] * to.rank + i]) * widen(to.s[i]);
        values[r] = warp_sum(values[r]);
        totals[r] = 0;
      }
      if (lane == 0) {
#pragma unroll
        for (int r = 0; r < 2; r++)
          if (row[r] < p.part[part[r]].rows) write_row(p, part[r], row[r], 0, values[r] + old_value(p, part[r], row[r], 0), gate);
      }
      unit += stride;
      if (unit < units) begin();
    }
  }
}
