// Versions 2 and 3 of oneDNN's API differ in how a memory and a product are described: the differences are these functions,
// and nothing else. Internal.
#pragma once
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

#include "include/types.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t api_layout;  // owned
static inline dnnl_status_t api_strided(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type,
                                        const dnnl_dims_t strides) {
  return dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides);
}
static inline dnnl_status_t api_any(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type) {
  return dnnl_memory_desc_create_with_tag(out, 2, dims, type, dnnl_format_tag_any);
}
static inline void api_layout_free(api_layout *layout) {
  if (*layout) dnnl_memory_desc_destroy(*layout);
  *layout = NULL;
}
static inline dnnl_status_t api_copy(api_layout *out, const api_layout *from) {
  return dnnl_memory_desc_clone(out, *from);
}
static inline size_t api_layout_size(const api_layout *layout) { return dnnl_memory_desc_get_size(*layout); }
static inline dnnl_status_t api_memory(dnnl_memory_t *memory, const api_layout *layout, dnnl_engine_t engine,
                                       void *handle) {
  return dnnl_memory_create(memory, *layout, engine, handle);
}
static inline dnnl_status_t api_append_sum(dnnl_post_ops_t ops) {
  return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
static inline dnnl_status_t api_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const api_layout *a,
                                       const api_layout *b, const api_layout *c, dnnl_primitive_attr_t attributes) {
  return dnnl_matmul_primitive_desc_create(out, engine, *a, *b, NULL, *c, attributes);
}
static inline dnnl_status_t api_queried(api_layout *out, dnnl_primitive_desc_t description, dnnl_query_t what) {
  const_dnnl_memory_desc_t found = dnnl_primitive_desc_query_md(description, what, 0);
  return found ? dnnl_memory_desc_clone(out, found) : dnnl_runtime_error;
}
typedef struct {
  dnnl_dims_t strides, sizes, dimensions;
  int count;
} api_blocks;
static inline int api_query_blocks(api_blocks *out, const api_layout *layout) {
  dnnl_dims_t *strides, *sizes, *dimensions;
  if (dnnl_memory_desc_query(*layout, dnnl_query_inner_nblks_s32, &out->count) != dnnl_success ||
      dnnl_memory_desc_query(*layout, dnnl_query_strides, &strides) != dnnl_success ||
      dnnl_memory_desc_query(*layout, dnnl_query_inner_blks, &sizes) != dnnl_success ||
      dnnl_memory_desc_query(*layout, dnnl_query_inner_idxs, &dimensions) != dnnl_success)
    return 0;
  memcpy(out->strides, *strides, sizeof out->strides);
  memcpy(out->sizes, *sizes, sizeof out->sizes);
  memcpy(out->dimensions, *dimensions, sizeof out->dimensions);
  return 1;
}
static inline dnnl_status_t api_reorder(dnnl_primitive_desc_t *out, const api_layout *from, const api_layout *to,
                                        dnnl_engine_t engine) {
  return dnnl_reorder_primitive_desc_create(out, *from, engine, *to, engine, NULL);
}
#else
typedef dnnl_memory_desc_t api_layout;  // a plain value
static inline dnnl_status_t api_strided(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type,
                                        const dnnl_dims_t strides) {
  return dnnl_memory_desc_init_by_strides(out, 2, dims, type, strides);
}
static inline dnnl_status_t api_any(api_layout *out, const dnnl_dims_t dims, dnnl_data_type_t type) {
  return dnnl_memory_desc_init_by_tag(out, 2, dims, type, dnnl_format_tag_any);
}
static inline void api_layout_free(api_layout *layout) { (void)layout; }
static inline dnnl_status_t api_copy(api_layout *out, const api_layout *from) {
  *out = *from;
  return dnnl_success;
}
static inline size_t api_layout_size(const api_layout *layout) { return dnnl_memory_desc_get_size(layout); }
static inline dnnl_status_t api_memory(dnnl_memory_t *memory, const api_layout *layout, dnnl_engine_t engine,
                                       void *handle) {
  return dnnl_memory_create(memory, layout, engine, handle);
}
static inline dnnl_status_t api_append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }
static inline dnnl_status_t api_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const api_layout *a,
                                       const api_layout *b, const api_layout *c, dnnl_primitive_attr_t attributes) {
  dnnl_matmul_desc_t product;
  dnnl_status_t status = dnnl_matmul_desc_init(&product, a, b, NULL, c);
  return status != dnnl_success ? status : dnnl_primitive_desc_create(out, &product, attributes, engine, NULL);
}
static inline dnnl_status_t api_queried(api_layout *out, dnnl_primitive_desc_t description, dnnl_query_t what) {
  const dnnl_memory_desc_t *found = dnnl_primitive_desc_query_md(description, what, 0);
  if (!found) return dnnl_runtime_error;
  *out = *found;
  return dnnl_success;
}
typedef struct {
  dnnl_dims_t strides, sizes, dimensions;
  int count;
} api_blocks;
static inline int api_query_blocks(api_blocks *out, const api_layout *layout) {
  if (layout->format_kind != dnnl_blocked) return 0;
  const dnnl_blocking_desc_t *blocking = &layout->format_desc.blocking;
  out->count = blocking->inner_nblks;
  memcpy(out->strides, blocking->strides, sizeof out->strides);
  memcpy(out->sizes, blocking->inner_blks, sizeof out->sizes);
  memcpy(out->dimensions, blocking->inner_idxs, sizeof out->dimensions);
  return 1;
}
static inline dnnl_status_t api_reorder(dnnl_primitive_desc_t *out, const api_layout *from, const api_layout *to,
                                        dnnl_engine_t engine) {
  return dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, NULL);
}
#endif

#define TRY(call)                                \
  do {                                           \
    status = (call);                             \
    if (status != dnnl_success) goto done;       \
  } while (0)

static inline dnnl_data_type_t api_type(sl_dtype dtype) { return dtype == SL_BF16 ? dnnl_bf16 : dnnl_f32; }

/// A plain matrix [rows, columns] at row stride ld, or at column stride ld where transposed.
static inline dnnl_status_t api_matrix(api_layout *out, int64_t rows, int64_t columns, int64_t ld, int transposed,
                                       dnnl_data_type_t type) {
  dnnl_dims_t dims = {rows, columns};
  dnnl_dims_t strides = {transposed ? 1 : ld, transposed ? ld : 1};
  return api_strided(out, dims, type, strides);
}
