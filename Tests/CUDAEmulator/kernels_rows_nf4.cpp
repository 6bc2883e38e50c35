#include "emulation.h"

#include "rows_nf4.cu"

EMULATED(rows_nf4_1_4)
EMULATED(rows_nf4_1_5)
EMULATED(rows_nf4_8_4)
EMULATED(rows_nf4_16_2)
