#include "emulation.h"

#include "elementwise.cu"

EMULATED(copy_f32_f32)
EMULATED(copy_f32_bf16)
EMULATED(copy_bf16_f32)
EMULATED(copy_bf16_bf16)
EMULATED(block_diagonal)
EMULATED(add_bias_bf16)
EMULATED(add_bias_f32)
EMULATED(move_rows_16)
EMULATED(move_rows_1)
EMULATED(embed)
EMULATED(squares)
EMULATED(sum_doubles)
EMULATED(dropout)
EMULATED(dropout_backward_f32)
EMULATED(dropout_backward_bf16)
EMULATED(random_bf16)
EMULATED(add_noise)
EMULATED(mix)
