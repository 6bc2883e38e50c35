// The CPU's kernels.
#pragma once
#include "adamw.h"
#include "attention.h"
#include "crossentropy.h"
#include "elementwise.h"
#include "headnorm.h"
#include "linear.h"
#include "matmul.h"
#include "rmsnorm.h"
#include "rope.h"
#include "swiglu.h"
#include "threads.h"
#include "types.h"
