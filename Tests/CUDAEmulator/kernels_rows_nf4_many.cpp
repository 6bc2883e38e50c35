#include "emulation.h"

#include "rows_nf4_many.cu"

EMULATED(rows_nf4_many_16)
EMULATED(rows_nf4_many_32)
EMULATED(rows_nf4_many_48)
EMULATED(rows_nf4_many_64)
