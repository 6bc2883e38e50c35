// SwiGLU: y = silu(gate) · up, forward and backward. Grid: x over eights of columns, y over rows.
#include "prelude.cuh"

#define EACH_EIGHT(rows, columns)                                                                   \
  for (i64 row = (i64)blockIdx.y * blockDim.y + threadIdx.y; row < (rows); row += (i64)gridDim.y * blockDim.y) \
    for (i64 column = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8; column < (columns);         \
         column += (i64)gridDim.x * blockDim.x * 8)

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + power2(-x * LOG2_E)); }

/// gate, up: bf16 [rows, columns] at stride ld; y at ldy.
KERNEL(256, 1) swiglu_forward(i64 rows, i64 columns, const u16 *gate, const u16 *up, i64 ld, u16 *y, i64 ldy, int aligned) {
  EACH_EIGHT(rows, columns) {
    Eight g = load8(gate + row * ld + column, columns - column, aligned);
    Eight u = load8(up + row * ld + column, columns - column, aligned);
#pragma unroll
    for (int i = 0; i < 8; i++) g.v[i] *= sigmoid(g.v[i]) * u.v[i];
    store8(y + row * ldy + column, g, columns - column, aligned);
  }
}

/// gate and up become their gradients; y, or null, receives the forward result again and may be dy itself.
KERNEL(256, 1) swiglu_backward(i64 rows, i64 columns, u16 *gate, u16 *up, i64 ld, const u16 *dy, i64 lddy, u16 *y, i64 ldy,
                               int aligned) {
  EACH_EIGHT(rows, columns) {
    i64 at = row * ld + column, n = columns - column;
    Eight g = load8(gate + at, n, aligned), u = load8(up + at, n, aligned);
    Eight d = load8(dy + row * lddy + column, n, aligned), again;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      float s = sigmoid(g.v[i]), silu = g.v[i] * s, up_value = u.v[i];
      again.v[i] = silu * up_value;
      u.v[i] = d.v[i] * silu;
      g.v[i] = d.v[i] * up_value * s * (1.0f + g.v[i] * (1.0f - s));
    }
    store8(gate + at, g, n, aligned);
    store8(up + at, u, n, aligned);
    if (y != 0) store8(y + row * ldy + column, again, n, aligned);
  }
}
