#include "emulation.h"

#include "nf4.cu"

EMULATED(copy_f16_bf16)
EMULATED(nf4_quantize_f32)
EMULATED(nf4_quantize_bf16)
EMULATED(nf4_quantize_f16)
EMULATED(nf4_partial_sums)
EMULATED(nf4_quantize_absmax)
EMULATED(nf4_dequantize)
EMULATED(nf4_dequantize_plain)
