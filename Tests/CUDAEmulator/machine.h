#pragma once
#include "emulation.h"

/// Runs a kernel's blocks one after the other.
void emulated_launch(const EmulatedKernel *kernel, Index grid, Index threads, size_t shared_bytes, void **parameters);
