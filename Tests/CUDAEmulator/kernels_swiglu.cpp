#include "emulation.h"

#include "swiglu.cu"

EMULATED(swiglu_forward)
EMULATED(swiglu_backward)
