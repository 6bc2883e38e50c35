#include "emulation.h"

#include "rows_adapters.cu"

EMULATED(rows_adapters)
EMULATED(rows_adapters_many)
