#include "emulation.h"

#include "adamw.cu"

EMULATED(adamw)
