// Working memory of a kernel call, kept between calls so that its pages stay mapped.
#pragma once
#include <stddef.h>

/// At least `size` bytes, 64-byte aligned, or NULL when there is no memory. Give it back with `sl_return_scratch`.
void *sl_take_scratch(size_t size);
void sl_return_scratch(void *scratch);
