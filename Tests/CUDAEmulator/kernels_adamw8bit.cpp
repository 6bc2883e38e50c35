#include "emulation.h"

#include "adamw8bit.cu"

EMULATED(adamw8bit)
