#include "emulation.h"

#include "attention_forward.cu"

EMULATED(attention_forward_64)
EMULATED(attention_forward_96)
EMULATED(attention_forward_128)
