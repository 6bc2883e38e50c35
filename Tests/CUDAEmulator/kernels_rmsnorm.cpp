#include "emulation.h"

#include "rmsnorm.cu"

EMULATED(rmsnorm_forward)
EMULATED(rmsnorm_apply)
EMULATED(rmsnorm_backward_f32)
EMULATED(rmsnorm_backward_bf16)
EMULATED(headnorm_forward)
EMULATED(headnorm_backward)
