#include "emulation.h"

#include "crossentropy.cu"

EMULATED(cross_entropy)
