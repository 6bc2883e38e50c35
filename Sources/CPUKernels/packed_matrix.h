// What the fused layers know of a packed matrix. Internal.
#pragma once
#include "include/matmul.h"

/// The panels of a matrix that is packed in them (see panels.h); NULL for one that oneDNN reads, or for NULL.
const uint32_t *sl_packed_panels(const sl_packed_matrix *packed);
/// k of a right-hand side [k, n].
int64_t sl_packed_rows(const sl_packed_matrix *packed);
/// n of a right-hand side [k, n].
int64_t sl_packed_columns(const sl_packed_matrix *packed);
/// The type of operands that it multiplies.
sl_dtype sl_packed_type(const sl_packed_matrix *packed);
