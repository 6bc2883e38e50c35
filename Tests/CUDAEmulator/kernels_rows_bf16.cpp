#include "emulation.h"

#include "rows_bf16.cu"

EMULATED(rows_bf16_8)
EMULATED(rows_bf16_16)
EMULATED(rows_sum)
