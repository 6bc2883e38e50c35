// What a packed matrix is. Internal.
#pragma once
#include "matvec.h"
#include "onednn_api.h"
#include "packed_matrix.h"
#include "slab.h"
#include "strips.h"

struct sl_packed_matrix {
  api_layout layout;  // of oneDNN's, unless in panels or in strips
  int in_panels, in_strips;
  size_t size;
  sl_dtype dtype;
  int64_t k, n;
  sl_block_layout blocks;  // n_block 0: a layout that `sl_matvec` does not read
  sl_strips strips;
  void *values;
  slab *owner;
};
