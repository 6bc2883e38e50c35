#include "emulation.h"

#include "rows_bf16_one.cu"

EMULATED(rows_bf16_one)
