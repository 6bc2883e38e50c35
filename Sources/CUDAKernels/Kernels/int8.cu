// Matrices in 8 bits: blocks of 64 elements of the rows laid end to end, each with an fp32 scale, its largest magnitude / 127.
#include "half.cuh"

/// Eight neighbouring threads quantize a block of 64; `count` is a multiple of 64.
template <class T> DEVICE void quantize(i64 count, const T *x, u8 *codes, float *scales, int aligned) {
  i64 eights = (count / 8 + 31) / 32 * 32;
  for (i64 eight = (i64)blockIdx.x * blockDim.x + threadIdx.x; eight < eights; eight += (i64)gridDim.x * blockDim.x) {
    i64 first = eight * 8;
    Eight value = load8(x + first, count - first, aligned);
    float highest = block_highest(value);
    if (first >= count) continue;
    float factor = highest > 0 ? 127.0f / highest : 0.0f;
    if (threadIdx.x % 8 == 0) scales[eight / 8] = highest / 127.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) codes[first + i] = (u8)(signed char)rintf(value.v[i] * factor);
  }
}
KERNEL(256, 1) int8_quantize_f32(i64 count, const float *x, u8 *codes, float *scales, int aligned) {
  quantize(count, x, codes, scales, aligned);
}
KERNEL(256, 1) int8_quantize_bf16(i64 count, const u16 *x, u8 *codes, float *scales, int aligned) {
  quantize(count, x, codes, scales, aligned);
}
KERNEL(256, 1) int8_quantize_f16(i64 count, const half_bits *x, u8 *codes, float *scales, int aligned) {
  quantize(count, x, codes, scales, aligned);
}

/// y [rows, columns] = code · scale, rounded to bf16; columns % 64 = 0. Grid: x over eights of columns, y over rows.
KERNEL(256, 4) int8_dequantize(i64 rows, i64 columns, const u8 *codes, const float *scales, u16 *y, i64 ldy, int aligned) {
  i64 width = columns / 8;
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.y * blockDim.y)
    for (i64 eight = (i64)blockIdx.x * blockDim.x + threadIdx.x; eight < width; eight += (i64)gridDim.x * blockDim.x) {
      i64 at = row * width + eight;
      uint2 packed = *(const uint2 *)(codes + at * 8);
      float scale = scales[at / 8];
      Eight value;
#pragma unroll
      for (int i = 0; i < 8; i++) {
        u32 word = i < 4 ? packed.x : packed.y;
        value.v[i] = (float)(int)(signed char)(word >> 8 * (i % 4) & 255u) * scale;
      }
      store8(y + row * ldy + eight * 8, value, 8, aligned);
    }
}
