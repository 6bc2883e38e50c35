// The CPU's kernels.
#pragma once
#include "attention.h"
#include "threads.h"
#include "types.h"
