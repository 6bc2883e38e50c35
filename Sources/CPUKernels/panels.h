// Products of bf16 matrices by AVX512-BF16's dot products of pairs; see panels.c. Internal.
#pragma once
#include "include/types.h"

enum { panel_columns = 48 };

/// One term of a sum of products: a [rows, 2 · units] times a right-hand side in panels.
typedef struct {
  const void *a;
  int64_t lda, units;
  const uint32_t *panels;
} sl_term;

/// Whether this processor multiplies by panels: it has AVX512-BF16, and no AMX, which oneDNN knows how to use.
int sl_uses_panels(void);

static inline int64_t sl_panel_count(int64_t n) { return (n + panel_columns - 1) / panel_columns; }
/// Pairs that panels hold of a right-hand side [k, n].
static inline int64_t sl_panel_units(int64_t k, int64_t n) {
  return sl_panel_count(n) * panel_columns * ((k + 1) / 2);
}

/// Packs one panel of a right-hand side [k, n], which is `source` ([k, n] at stride ld), or with `transposed` the
/// transpose of `source` ([n, k]). `panels` is where panel 0 begins. Zeros beyond k and n.
void sl_pack_panel(int64_t k, int64_t n, const uint16_t *source, int64_t ld, int transposed, int64_t panel,
                   uint32_t *panels);

/// C = Σ terms (+ C), over panels first..<end of the n columns, on the calling thread. C's summation order depends on the
/// terms' shapes only.
void sl_panel_product(int64_t rows, int count, const sl_term *terms, int64_t n, int64_t first, int64_t end, void *c,
                      sl_dtype c_type, int64_t ldc, int accumulate);

/// C = onto + Σ terms, as `sl_panel_product` does; onto: fp32 [rows, n] at ld_onto.
void sl_panel_product_onto(int64_t rows, int count, const sl_term *terms, int64_t n, int64_t first, int64_t end,
                           const float *onto, int64_t ld_onto, void *c, sl_dtype c_type, int64_t ldc);

/// sums[p][r][j] = Σ over tokens t of s[t][r] · x[t][p · panel_columns + j], for the panels p of `columns`; `ranks` is a
/// multiple of 8. s: pairs of tokens, [(tokens + 1) / 2][lds] units.
void sl_panel_token_sums(int64_t tokens, int64_t ranks, const uint32_t *s, int64_t lds, const uint16_t *x, int64_t ldx,
                         int64_t columns, float *sums);

/// Rows [tokens, ranks] at stride ld -> pairs of tokens, at stride ld_pairs (whole vectors, zeros beyond `ranks`).
void sl_pair_tokens(int64_t tokens, int64_t ranks, const uint16_t *rows, int64_t ld, uint32_t *pairs, int64_t ld_pairs);
