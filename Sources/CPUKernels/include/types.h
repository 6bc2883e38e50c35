// Element types that the kernels read and write.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Element type of a buffer. Arithmetic and accumulation are fp32 whichever it is.
typedef enum { SL_F32 = 0, SL_BF16 = 1 } sl_dtype;

/// Bytes of one element.
static inline size_t sl_dtype_size(sl_dtype dtype) { return dtype == SL_F32 ? 4 : 2; }
