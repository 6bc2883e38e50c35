#include "emulation.h"

#include "rope.cu"

EMULATED(rope)
