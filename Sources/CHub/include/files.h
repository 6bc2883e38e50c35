// What Glibc's Swift module leaves out.
#pragma once
#include <stdint.h>

/// Takes disk space for a file's first `size` bytes. 0, or errno; EOPNOTSUPP where the file system cannot.
int sl_reserve(int descriptor, int64_t size);
