#include "emulation.h"

#include "sample.cu"

EMULATED(sample)
