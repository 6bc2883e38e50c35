#include "emulation.h"

#include "rows_one.cu"

EMULATED(rows_nf4_one)
