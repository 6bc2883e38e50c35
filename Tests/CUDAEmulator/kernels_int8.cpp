#include "emulation.h"

#include "int8.cu"

EMULATED(int8_quantize_f32)
EMULATED(int8_quantize_bf16)
EMULATED(int8_quantize_f16)
EMULATED(int8_dequantize)
