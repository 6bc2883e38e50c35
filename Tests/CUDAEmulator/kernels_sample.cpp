#include "emulation.h"

#include "sample.cu"

EMULATED(sample_best)
EMULATED(sample)
