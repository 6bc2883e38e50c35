#include "emulation.h"

#include "matmul.cu"

EMULATED(product_f32)
EMULATED(product_bf16)
