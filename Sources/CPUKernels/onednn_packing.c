// The layout that oneDNN multiplies fastest, and matrices brought into it.
#include <string.h>

#include "onednn.h"

dnnl_status_t sl_onednn_layout(sl_dtype dtype, int64_t k, int64_t n, api_layout *out) {
  // The layout is asked for at a typical number of rows and then used for every number.
  const int64_t typical_rows = 512;
  dnnl_status_t status;
  api_layout a, b, c;
  memset(&a, 0, sizeof a), memset(&b, 0, sizeof b), memset(&c, 0, sizeof c);
  dnnl_primitive_desc_t description = NULL;
  const dnnl_data_type_t type = api_type(dtype);
  dnnl_dims_t b_dims = {k, n};
  TRY(api_matrix(&a, typical_rows, k, k, 0, type));
  TRY(api_any(&b, b_dims, type));
  TRY(api_matrix(&c, typical_rows, n, n, 0, type));
  TRY(sl_onednn_describe(&description, &a, &b, &c, 0));
  TRY(api_queried(out, description, dnnl_query_weights_md));
done:
  if (description) dnnl_primitive_desc_destroy(description);
  api_layout_free(&a), api_layout_free(&b), api_layout_free(&c);
  return status;
}

dnnl_status_t sl_onednn_pack(sl_dtype dtype, int64_t k, int64_t n, const void *source, int64_t ld, int transposed,
                             const api_layout *layout, void *values) {
  dnnl_status_t status;
  api_layout plain;
  memset(&plain, 0, sizeof plain);
  dnnl_primitive_desc_t description = NULL;
  dnnl_primitive_t reorder = NULL;
  dnnl_memory_t from = NULL, to = NULL;
  TRY(api_matrix(&plain, k, n, ld, transposed, api_type(dtype)));
  TRY(api_reorder(&description, &plain, layout, sl_onednn_engine()));
  TRY(dnnl_primitive_create(&reorder, description));
  TRY(api_memory(&from, &plain, sl_onednn_engine(), (void *)source));
  TRY(api_memory(&to, layout, sl_onednn_engine(), values));
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  TRY(sl_onednn_run(reorder, 2, arguments));
done:
  if (from) dnnl_memory_destroy(from);
  if (to) dnnl_memory_destroy(to);
  if (reorder) dnnl_primitive_destroy(reorder);
  if (description) dnnl_primitive_desc_destroy(description);
  api_layout_free(&plain);
  return status;
}

sl_block_layout sl_onednn_blocks(const api_layout *layout, sl_dtype dtype, int64_t k, int64_t n) {
  sl_block_layout none = {0}, l = {.k = k, .n = n, .k_block = 1, .n_block = 1, .pair = 1};
  api_blocks found;
  if (!api_query_blocks(&found, layout)) return none;
  l.k_stride = found.strides[0], l.n_stride = found.strides[1];
  // Outermost first: [k_block / pair] along k, then n_block along n, then perhaps a pair along k.
  if (found.count == 2 || found.count == 3) {
    if (found.dimensions[0] != 0 || found.dimensions[1] != 1) return none;
    if (found.count == 3 && found.dimensions[2] != 0) return none;
    l.pair = found.count == 3 ? found.sizes[2] : 1;
    l.k_block = found.sizes[0] * l.pair, l.n_block = found.sizes[1];
  } else if (found.count == 1 && found.dimensions[0] == 1) {
    l.n_block = found.sizes[0];
  } else if (found.count != 0) {
    return none;
  }
  return sl_matvec_reads(&l, dtype) ? l : none;
}

