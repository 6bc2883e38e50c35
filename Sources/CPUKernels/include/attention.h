// Grouped-query attention over packed documents, forward and backward, never forming a score matrix of S × S.
#pragma once
#include "types.h"

/// One document: query rows [q_begin, q_begin + q_count) attend to key rows [kv_begin, kv_begin + kv_count), causally:
/// query i sees keys 0...(i + kv_count - q_count). kv_count >= q_count.
typedef struct {
  int64_t q_begin, q_count, kv_begin, kv_count;
} sl_span;

/// Shape of an attention layer. `heads` is a multiple of `kv_heads`; each group of heads / kv_heads query heads in a row
/// shares one key and value head. `window` 0: none, else a query sees only the last `window` keys up to its own.
typedef struct {
  int64_t heads, kv_heads, head_dim, window;
  float scale;
  sl_dtype dtype;
} sl_attention_shape;

/// o = softmax(scale · q kᵀ) v. Strides are in elements.
/// q: rows of [heads, head_dim] at stride ldq; k, v: rows of [kv_heads, head_dim] at ldk, ldv (all three may be slices of
/// one fused buffer); o: rows of [heads, head_dim] at ldo; lse: the natural logarithm of each row's sum of exponentials,
/// fp32 [heads, lse_stride] indexed by query row, or NULL. Same bits whatever the thread count.
void sl_attention_forward(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                          int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, void *o, int64_t ldo,
                          float *lse, int64_t lse_stride);

/// Gradients of `sl_attention_forward` from d_o (rows of [heads, head_dim] at lddo). dq, dk, dv are written, not added to,
/// in the shape's dtype, and may be slices of one fused buffer; no two spans may share query or key rows.
/// `workspace`: `sl_attention_backward_workspace` bytes, 64-byte aligned. Same bits whatever the thread count.
void sl_attention_backward(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                           int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, const void *o,
                           int64_t ldo, const float *lse, int64_t lse_stride, const void *d_o, int64_t lddo, void *dq,
                           int64_t lddq, void *dk, int64_t lddk, void *dv, int64_t lddv, void *workspace);
size_t sl_attention_backward_workspace(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count);
