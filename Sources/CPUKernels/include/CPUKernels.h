// The CPU's kernels.
#pragma once
#include "attention.h"
#include "crossentropy.h"
#include "rmsnorm.h"
#include "rope.h"
#include "swiglu.h"
#include "threads.h"
#include "types.h"
