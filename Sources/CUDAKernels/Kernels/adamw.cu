// AdamW (Loshchilov & Hutter, 2019): one pass over four flat fp32 arrays.
#include "prelude.cuh"

/// g = gradient · scale; m = β₁m + (1-β₁)g; v = β₂v + (1-β₂)g²; w = w · keep - rate · m / (√v · root + ε).
KERNEL(256, 1) adamw(i64 count, float *w, const float *gradients, float *m, float *v, float beta1, float rest1, float beta2,
                     float rest2, float rate, float root, float keep, float epsilon, float scale) {
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
    float g = gradients[i] * scale;
    float first = beta1 * m[i] + rest1 * g, second = beta2 * v[i] + rest2 * g * g;
    m[i] = first;
    v[i] = second;
    w[i] = w[i] * keep - rate * first / (sqrtf(second) * root + epsilon);
  }
}
