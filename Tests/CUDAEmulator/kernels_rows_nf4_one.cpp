#include "emulation.h"

#include "rows_nf4_one.cu"

EMULATED(rows_nf4_one_1)
EMULATED(rows_nf4_one_2)
EMULATED(rows_nf4_one_wide)
