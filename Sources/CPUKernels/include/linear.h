// Linear layers with their low-rank pairs (LoRA), fused: for processors on which `sl_linear_is_fused` of every matrix.
#pragma once
#include "dropout.h"
#include "matmul.h"

/// One matrix of a group, and what lies beside it. All bf16 but y and the gradients.
typedef struct {
  const sl_packed_matrix *w;  // [k, n] as a right-hand side: Wᵀ forward, W backward; NULL: only s is wanted
  int64_t rank;               // 0: no pair
  const void *a, *b;          // [rank, inputs], [outputs, rank], dense
  void *s;                    // [rows, rank] at lds; forward: receives x · aᵀ; backward: receives dy · b
  int64_t lds;
  void *y;                    // [rows, outputs] at ldy in y_type; backward: dy, bf16
  int64_t ldy;
  sl_dtype y_type;
  sl_drop drop;               // of what a reads; forward and backward
} sl_linear_part;

enum { sl_linear_most_parts = 4 };

/// Whether products with this matrix go through the functions below.
int sl_linear_is_fused(const sl_packed_matrix *w);
/// The inputs of a layer whose backward matrix is `w`.
int64_t sl_linear_inputs(const sl_packed_matrix *w);

/// y_j = x · w_j + (drop_j(x) · a_jᵀ) · b_jᵀ (+ y_j) for each part. x: [rows, inputs] at ldx. With `act`, the parts are gate and
/// up, and act [rows, outputs] at ld_act receives silu(gate) · up. Returns 0, or -1 without memory.
int sl_linear_forward(int64_t rows, const void *x, int64_t ldx, int64_t inputs, int count, const sl_linear_part *parts,
                      int accumulate, void *act, int64_t ld_act);

/// dx = Σ_j dy_j · w_j + drop_j((dy_j · b_j) · a_j). dx: [rows, inputs] at lddx in dx_type, or NULL: only s is wanted. With `gate`
/// and `up` ([rows, inputs] at ld_gate; dx is bf16), dx is the gradient of silu(gate) · up: they become their own
/// gradients, and dx becomes silu(gate) · up. Returns 0, or -1 without memory.
int sl_linear_backward(int64_t rows, int count, const sl_linear_part *parts, void *dx, sl_dtype dx_type, int64_t lddx,
                       int64_t inputs, void *gate, void *up, int64_t ld_gate);

/// One gradient of a pair: sums[r, c] += Σ over tokens t of s[t, r] · drop(x)[t, c].
typedef struct {
  const void *s, *x;  // [tokens, rank] at lds, [tokens, columns] at ldx, bf16
  int64_t rank, lds, columns, ldx;
  float *sums;      // [rank, columns], or [columns, rank] where transposed; dense
  int transposed;
  sl_drop drop;
} sl_token_sum;

/// Parts that read the same x follow one another. Same bits whatever the thread count. Returns 0, or -1 without memory.
int sl_token_sums(int64_t tokens, int count, const sl_token_sum *parts);
