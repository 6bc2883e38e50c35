// NF4 with double quantization, as bitsandbytes defines it (Dettmers et al., 2023): quantizing and dequantizing.
//
// A matrix [rows, columns] is quantized in blocks of 64 elements of its rows laid end to end: element i is
// values[code i] · absmax[i / 64], two codes to a byte, the first in the high half. The absmax values, less their mean, are
// quantized in blocks of 256 to `map` (ascending, 256 values).
#include "half.cuh"
#include "nf4.cuh"

/// fp16 as bf16: y = x.
KERNEL(256, 1) copy_f16_bf16(i64 rows, i64 columns, const half_bits *x, i64 ldx, float factor, u16 *y, i64 ldy, int aligned) {
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.y * blockDim.y)
    for (i64 column = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8; column < columns; column += (i64)gridDim.x * blockDim.x * 8) {
      Eight value = load8(x + row * ldx + column, columns - column, 0);
#pragma unroll
      for (int i = 0; i < 8; i++) value.v[i] *= factor;
      store8(y + row * ldy + column, value, columns - column, aligned);
    }
}

/// How many of the borders between codes lie below x: the code of x.
DEVICE u32 nf4_code(float x) {
  u32 code = 0;
  code += x > -0.8480964004993439f;
  code += x > -0.6106329262256622f;
  code += x > -0.4599952697753906f;
  code += x > -0.33967943489551544f;
  code += x > -0.23460740596055984f;
  code += x > -0.13791173323988914f;
  code += x > -0.045525018125772476f;
  code += x > 0.03979014977812767f;
  code += x > 0.1202552504837513f;
  code += x > 0.2035212516784668f;
  code += x > 0.2920137718319893f;
  code += x > 0.3893125355243683f;
  code += x > 0.5016634166240692f;
  code += x > 0.6427869200706482f;
  code += x > 0.8614784181118011f;
  return code;
}

/// Eight neighbouring threads quantize a block of 64; `count` is even.
template <class T> DEVICE void quantize(i64 count, const T *x, u8 *codes, float *absmax, int aligned) {
  // Whole warps stay together: their last threads may find nothing to do.
  i64 blocks = (count + 63) / 64, eights = (blocks * 8 + 31) / 32 * 32;
  for (i64 eight = (i64)blockIdx.x * blockDim.x + threadIdx.x; eight < eights; eight += (i64)gridDim.x * blockDim.x) {
    i64 first = eight * 8;
    Eight value = load8(x + first, count - first, aligned);
    float highest = block_highest(value);
    float factor = highest > 0 ? 1.0f / highest : 0.0f;
    if (threadIdx.x % 8 == 0 && eight / 8 < blocks) absmax[eight / 8] = highest;
#pragma unroll
    for (int i = 0; i < 8; i += 2)
      if (first + i < count)
        codes[(first + i) / 2] = (u8)(nf4_code(value.v[i] * factor) << 4 | nf4_code(value.v[i + 1] * factor));
  }
}
KERNEL(256, 1) nf4_quantize_f32(i64 count, const float *x, u8 *codes, float *absmax, int aligned) {
  quantize(count, x, codes, absmax, aligned);
}
KERNEL(256, 1) nf4_quantize_bf16(i64 count, const u16 *x, u8 *codes, float *absmax, int aligned) {
  quantize(count, x, codes, absmax, aligned);
}
KERNEL(256, 1) nf4_quantize_f16(i64 count, const half_bits *x, u8 *codes, float *absmax, int aligned) {
  quantize(count, x, codes, absmax, aligned);
}

/// Σ x of each run of 16,384 values, in double and in one order: one block of 256 threads per run.
KERNEL(256, 1) nf4_partial_sums(i64 count, const float *x, double *partial) {
  __shared__ double sums[256];
  i64 begin = (i64)blockIdx.x * 16384, end = begin + 16384 < count ? begin + 16384 : count;
  double sum = 0;
  for (i64 i = begin + threadIdx.x; i < end; i += 256) sum += (double)x[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int step = 128; step > 0; step /= 2) {
    if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

/// The nearest of the map's values, found as bitsandbytes does: a search of seven steps, then the nearer neighbour.
DEVICE u32 map_code(const float *map, float x) {
  int pivot = 127, upper = 255, lower = 0;
  float low = -1.0f, high = 1.0f, value = map[pivot];
  for (int step = 64; step > 0; step /= 2) {
    if (x > value) {
      lower = pivot, low = value, pivot += step;
    } else {
      upper = pivot, high = value, pivot -= step;
    }
    value = map[pivot];
  }
  if (upper == 255) high = map[upper];
  if (lower == 0) low = map[lower];
  if (x > value) return x > (high + value) * 0.5f ? (u32)upper : (u32)pivot;
  return x < (low + value) * 0.5f ? (u32)lower : (u32)pivot;
}

/// Absmax values less their mean, quantized: one block of 256 threads per block of 256. `total`: their sum; offset: receives
/// the mean.
KERNEL(256, 1) nf4_quantize_absmax(i64 count, const float *absmax, const double *total, const float *map, u8 *codes,
                                   float *nested, float *offset) {
  __shared__ float room[32], table[256];
  table[threadIdx.x] = map[threadIdx.x];
  float mean = (float)(*total / (double)count);
  i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
  float value = i < count ? absmax[i] - mean : 0.0f;
  float highest = block_max(fabsf(value), room);
  __syncthreads();
  float factor = highest > 0 ? 1.0f / highest : 0.0f;
  if (i < count) codes[i] = (u8)map_code(table, value * factor);
  if (threadIdx.x == 0) nested[blockIdx.x] = highest;
  if (blockIdx.x == 0 && threadIdx.x == 0) *offset = mean;
}

/// y [rows, columns] = the matrix's elements, rounded to bf16; columns % 8 = 0. `scale(block)`: what the codes of a block are
/// multiplied by. `values`: 16 floats of shared memory.
template <class Scale>
DEVICE void dequantize(i64 rows, i64 columns, const u8 *codes, u16 *y, i64 ldy, int aligned, float *values, Scale scale) {
  // Sixteen values lie in sixteen banks: lanes meet in one only to read the same.
  int thread = (int)(threadIdx.y * blockDim.x + threadIdx.x);
#pragma unroll
  for (int i = 0; i < 16; i++)
    if (thread == i) values[i] = nf4_values[i];
  __syncthreads();
  i64 width = columns / 8;
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.y * blockDim.y)
    for (i64 eight = (i64)blockIdx.x * blockDim.x + threadIdx.x; eight < width; eight += (i64)gridDim.x * blockDim.x) {
      i64 at = row * width + eight;
      u32 packed = *(const u32 *)(codes + at * 4);
      float factor = scale(at / 8);
      Eight value;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        u32 byte = packed >> 8 * i & 255u;
        value.v[2 * i] = values[byte >> 4] * factor;
        value.v[2 * i + 1] = values[byte & 15u] * factor;
      }
      store8(y + row * ldy + eight * 8, value, 8, aligned);
    }
}

/// With double quantization. `first`: absmax values of the first nested block that belong to rows before the first.
KERNEL(256, 4) nf4_dequantize(i64 rows, i64 columns, const u8 *codes, const u8 *absmax, const float *nested, const float *map,
                              const float *offset, i64 first, u16 *y, i64 ldy, int aligned) {
  __shared__ float values[16], table[256];
  for (int i = (int)(threadIdx.y * blockDim.x + threadIdx.x); i < 256; i += (int)(blockDim.x * blockDim.y)) table[i] = map[i];
  float mean = *offset;
  // Rounded twice, as bitsandbytes does: product, then sum.
  dequantize(rows, columns, codes, y, ldy, aligned, values, [=](i64 block) {
    return __fadd_rn(__fmul_rn(table[absmax[block]], nested[(block + first) / 256]), mean);
  });
}
/// With absmax in fp32.
KERNEL(256, 4) nf4_dequantize_plain(i64 rows, i64 columns, const u8 *codes, const float *absmax, u16 *y, i64 ldy, int aligned) {
  __shared__ float values[16];
  dequantize(rows, columns, codes, y, ldy, aligned, values, [=](i64 block) { return absmax[block]; });
}
