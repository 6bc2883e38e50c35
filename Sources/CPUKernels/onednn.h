// oneDNN's products, which run single-threaded inside the tasks of our own pool. Internal.
#pragma once
#include "matvec.h"
#include "onednn_api.h"

/// The shape and the types of a product C[m, n] = op(A) · op(B) (+ C); unused bytes are zero, for they are compared.
typedef struct {
  int64_t m, n, k, lda, ldb, ldc;
  uint8_t transpose_a, transpose_b, packed, operand_type, c_type, accumulate, unused[2];
} sl_product_key;

/// A product that oneDNN compiled.
typedef struct sl_product sl_product;

/// Products take turns, each on all threads: what follows is called between these, but for sl_onednn_execute, which tasks
/// call. The first returns oneDNN's status, and the turn must be ended whatever it is.
dnnl_status_t sl_onednn_begin(void);
void sl_onednn_end(void);

/// The product of a key; `packed`: B's layout, where it is no plain one. It lives until the turn ends.
dnnl_status_t sl_onednn_product(const sl_product_key *key, const api_layout *packed, const sl_product **out);

/// One product on the calling thread.
dnnl_status_t sl_onednn_execute(const sl_product *product, const void *a, const void *b, void *c);

/// A primitive on the calling thread.
dnnl_status_t sl_onednn_run(dnnl_primitive_t primitive, int count, const dnnl_exec_arg_t *arguments);
/// The engine, once a turn has begun.
dnnl_engine_t sl_onednn_engine(void);
/// The description of a product of these layouts; the caller destroys it.
dnnl_status_t sl_onednn_describe(dnnl_primitive_desc_t *out, const api_layout *a, const api_layout *b,
                                 const api_layout *c, int accumulate);

/// The layout that is fastest for a right-hand side [k, n]; the caller frees it.
dnnl_status_t sl_onednn_layout(sl_dtype dtype, int64_t k, int64_t n, api_layout *out);

/// Writes B, given as `sl_pack_matrix` takes it, to `values` in `layout`.
dnnl_status_t sl_onednn_pack(sl_dtype dtype, int64_t k, int64_t n, const void *source, int64_t ld, int transposed,
                             const api_layout *layout, void *values);

/// The layout as `sl_matvec` knows it; n_block is 0 for one that it does not read.
sl_block_layout sl_onednn_blocks(const api_layout *layout, sl_dtype dtype, int64_t k, int64_t n);
