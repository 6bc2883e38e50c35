#include "emulation.h"

#include "rows_nf4_many.cu"

EMULATED(rows_nf4_32)
EMULATED(rows_nf4_48)
EMULATED(rows_nf4_64)
