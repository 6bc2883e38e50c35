#include "emulation.h"

#include "rows_nf4.cu"

EMULATED(rows_nf4_8)
EMULATED(rows_nf4_8_small)
EMULATED(rows_nf4_16_small)
