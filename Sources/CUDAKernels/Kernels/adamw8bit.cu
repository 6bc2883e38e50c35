// AdamW with 8-bit moments (Dettmers et al., 2022): one block of threads per block of 256 elements.
#include "prelude.cuh"

/// The code whose value is nearest to x: eight halvings of a rising map.
DEVICE u8 nearest(const float *map, float x) {
  int found = 0;
#pragma unroll
  for (int half = 128; half > 0; half /= 2)
    found += x > 0.5f * (map[found + half - 1] + map[found + half]) ? half : 0;
  return (u8)found;
}

/// As adamw, with moments map[code] · scale of the block, whose new scale is the largest magnitude.
KERNEL(256, 1) adamw8bit(i64 count, float *w, const float *gradients, u8 *first_codes, u8 *second_codes, float *first_scales,
                         float *second_scales, const float *first_map, const float *second_map, float beta1, float rest1,
                         float beta2, float rest2, float rate, float root, float keep, float epsilon, float scale) {
  __shared__ float first_values[256];
  __shared__ float second_values[256];
  __shared__ float room[32];
  first_values[threadIdx.x] = first_map[threadIdx.x];
  second_values[threadIdx.x] = second_map[threadIdx.x];
  __syncthreads();
  i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
  float first = 0, second = 0;
  if (i < count) {
    float g = gradients[i] * scale;
    first = beta1 * first_values[first_codes[i]] * first_scales[blockIdx.x] + rest1 * g;
    second = beta2 * second_values[second_codes[i]] * second_scales[blockIdx.x] + rest2 * g * g;
    w[i] = w[i] * keep - rate * first / (sqrtf(second) * root + epsilon);
  }
  float first_largest = block_max(fabsf(first), room);
  float second_largest = block_max(fabsf(second), room);
  if (i < count) {
    first_codes[i] = nearest(first_values, first_largest > 0 ? first / first_largest : 0.0f);
    second_codes[i] = nearest(second_values, second_largest > 0 ? second / second_largest : 0.0f);
  }
  if (threadIdx.x == 0) {
    first_scales[blockIdx.x] = first_largest;
    second_scales[blockIdx.x] = second_largest;
  }
}
