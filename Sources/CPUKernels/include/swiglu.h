// SwiGLU: act = silu(gate) · up.
#pragma once
#include "types.h"

/// gate_up: rows of [gate (width), up (width)] at stride ld; act: [rows, width] at stride ld_act.
void sl_swiglu_forward(int64_t rows, int64_t width, const void *gate_up, int64_t ld, void *act, int64_t ld_act,
                       sl_dtype dtype);

/// Gradient of `sl_swiglu_forward`. d_act: [rows, width] at ld_dact; d_gate_up: rows of [d_gate, d_up] at ld_dgu, may be
/// gate_up itself (ld_dgu = ld). act: the forward result again at ld_act, or NULL; it may be d_act itself.
void sl_swiglu_backward(int64_t rows, int64_t width, const void *gate_up, int64_t ld, const void *d_act,
                        int64_t ld_dact, void *d_gate_up, int64_t ld_dgu, void *act, int64_t ld_act, sl_dtype dtype);
