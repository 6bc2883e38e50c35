#include "emulation.h"

#include "calibration.cu"

EMULATED(row_dots_bf16_bf16)
EMULATED(row_dots_f32_bf16)
EMULATED(scale_rows_bf16)
EMULATED(subtract_bf16)
