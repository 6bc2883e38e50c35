// The CUDA kernels' sources, embedded: NVRTC compiles them for the card at hand.
#pragma once

/// A file of Kernels/.
typedef struct {
  /// "rmsnorm.cu".
  const char *name;
  /// Its text, ended by a zero.
  const char *text;
} sl_kernel_source;

/// Every file, `.cu` and the `.cuh` that they include; the last entry's name is NULL.
const sl_kernel_source *sl_kernel_sources_begin(void);
