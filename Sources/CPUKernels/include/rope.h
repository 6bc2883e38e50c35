// Rotary position embedding.
#pragma once
#include "types.h"

/// Rotates, in place, the query and key heads of qkv: rows of [heads + 2 · kv_heads, head_dim] at stride ld (a buffer of q
/// and k alone is fine too when bias is NULL). The first rotary_dim elements of a head turn, in halves as Hugging Face's
/// rotate_half: element i with i + rotary_dim / 2. cosines, sines: fp32 [positions, rotary_dim / 2], the row of token t
/// being positions[t]. bias: fp32 [(heads + 2 · kv_heads) · head_dim], added to q, k and v first, or NULL. inverse: turns
/// the other way (the gradient of the rotation); bias is then not added.
void sl_rope(int64_t rows, void *qkv, int64_t ld, int64_t heads, int64_t kv_heads, int64_t head_dim,
             int64_t rotary_dim, const float *cosines, const float *sines, const int32_t *positions, const float *bias,
             int inverse, sl_dtype dtype);
