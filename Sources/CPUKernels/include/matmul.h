#pragma once
#include <stdint.h>
#include <stddef.h>
#include "types.h"

// Matrix products, through oneDNN or kernels of our own. oneDNN's primitives are built once per shape and kept; all calls
// come from one thread at a time.
// Every function returns 0, or oneDNN's status code (sl_matmul_error names it).

/// A frozen matrix in the layout that is fastest for the right-hand side of a product: B in C = A · B.
typedef struct sl_packed_matrix sl_packed_matrix;

/// Packs B, given as plain rows. `transposed` = 0: B is [k, n] with row stride ld. 1: `source` is [n, k] with row stride
/// ld and B is its transpose. The source's type is the product's operand type.
int sl_pack_matrix(sl_dtype dtype, int64_t k, int64_t n, const void *source, int64_t ld, int transposed,
                   sl_packed_matrix **packed);
void sl_packed_matrix_destroy(sl_packed_matrix *packed);
/// Bytes that the packed values take.
size_t sl_packed_matrix_size(const sl_packed_matrix *packed);

/// C[m, n] = A[m, k] · B  (+ C when accumulate != 0). A has the packed type; C is fp32 or the packed type.
int sl_matmul_packed(int64_t m, const void *a, int64_t lda, const sl_packed_matrix *b, void *c, sl_dtype c_type,
                     int64_t ldc, int accumulate);

/// C[m, n] = op(A) · op(B)  (+ C). A is [m, k] (or [k, m] when transpose_a), B is [k, n] (or [n, k] when transpose_b).
int sl_matmul(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, int transpose_a, const void *b, int64_t ldb,
              int transpose_b, sl_dtype operand_type, void *c, sl_dtype c_type, int64_t ldc, int accumulate);

/// The name of a status code.
const char *sl_matmul_error(int status);
/// "oneDNN 2.6.3 avx512_core_bf16" or the like; valid for ever.
const char *sl_matmul_library(void);
