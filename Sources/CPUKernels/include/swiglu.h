// SwiGLU: act = silu(gate) · up.
#pragma once
#include "types.h"

/// gate, up: [rows, width] at stride ld (two buffers, or the two halves of one buffer's rows); act: [rows, width] at
/// stride ld_act.
void sl_swiglu_forward(int64_t rows, int64_t width, const void *gate, const void *up, int64_t ld, void *act,
                       int64_t ld_act, sl_dtype dtype);

/// Gradient of `sl_swiglu_forward`. d_act: [rows, width] at ld_dact; d_gate, d_up: [rows, width] at ld_dgu, may be gate
/// and up themselves. act: the forward result again at ld_act, or NULL; it may be d_act itself.
void sl_swiglu_backward(int64_t rows, int64_t width, const void *gate, const void *up, int64_t ld, const void *d_act,
                        int64_t ld_dact, void *d_gate, void *d_up, int64_t ld_dgu, void *act, int64_t ld_act,
                        sl_dtype dtype);
