// Matrix products through cuBLASLt, which counts in columns: a row-major [r, c] is its [c, r] with the same leading
// dimension, so C = op(A) · op(B) is asked for as Cᵀ = op(B)ᵀ · op(A)ᵀ, with B first.
#include "include/CUDADriver.h"

#include <stdlib.h>
#include <string.h>

// The header's numbers (cublasLt.h, CUDA 12 and 13).
enum {
  compute_32f = 68, type_f32 = 0, type_bf16 = 14, transpose_a = 3, transpose_b = 4, max_workspace = 1,
  min_alignment_a = 5, min_alignment_b = 6, min_alignment_c = 7, min_alignment_d = 8, out_of_memory = 3
};

struct sl_plan {
  void *description, *a, *b, *c;
  uint64_t algorithm[8];
  size_t workspace_bytes;
  float beta;
};

#define TRY(call)                      \
  do {                                 \
    int code = (call);                 \
    if (code != 0) return code;        \
  } while (0)

static int describe(const sl_cublaslt *l, const sl_product *p, sl_plan *plan) {
  // Row-major: A [m, k] at lda (or [k, m]), B [k, n] at ldb (or [n, k]). As cuBLASLt sees them: first B, then A.
  int32_t first = p->transposeB != 0, second = p->transposeA != 0;
  plan->beta = p->accumulate ? 1.0f : 0.0f;
  TRY(l->createDescription(&plan->description, compute_32f, type_f32));
  TRY(l->setDescription(plan->description, transpose_a, &first, sizeof first));
  TRY(l->setDescription(plan->description, transpose_b, &second, sizeof second));
  TRY(l->createLayout(&plan->a, type_bf16, (uint64_t)(first ? p->k : p->n), (uint64_t)(first ? p->n : p->k), p->ldb));
  TRY(l->createLayout(&plan->b, type_bf16, (uint64_t)(second ? p->m : p->k), (uint64_t)(second ? p->k : p->m), p->lda));
  TRY(l->createLayout(&plan->c, p->floatC ? type_f32 : type_bf16, (uint64_t)p->n, (uint64_t)p->m, p->ldc));
  return 0;
}

static int choose(const sl_cublaslt *l, void *handle, const sl_product *p, size_t workspace, const sl_plan *plan, int wanted,
                  sl_heuristic_result *results, int *count) {
  void *preference = nullptr;
  TRY(l->createPreference(&preference));
  uint32_t a = (uint32_t)p->alignmentB, b = (uint32_t)p->alignmentA, c = (uint32_t)p->alignmentC;
  uint64_t bytes = workspace;
  int code = l->setPreference(preference, max_workspace, &bytes, sizeof bytes);
  if (code == 0) code = l->setPreference(preference, min_alignment_a, &a, sizeof a);
  if (code == 0) code = l->setPreference(preference, min_alignment_b, &b, sizeof b);
  if (code == 0) code = l->setPreference(preference, min_alignment_c, &c, sizeof c);
  if (code == 0) code = l->setPreference(preference, min_alignment_d, &c, sizeof c);
  if (code == 0)
    code = l->heuristic(handle, plan->description, plan->a, plan->b, plan->c, plan->c, preference, wanted, results, count);
  l->destroyPreference(preference);
  return code;
}

int sl_plan_products(const sl_cublaslt *l, void *handle, const sl_product *product, size_t workspace, int wanted,
                     sl_plan **plans, int *count) {
  sl_plan first = {};
  sl_heuristic_result results[sl_most_algorithms] = {};
  int found = 0, code = describe(l, product, &first);
  if (wanted > sl_most_algorithms) wanted = sl_most_algorithms;
  if (code == 0) code = choose(l, handle, product, workspace, &first, wanted, results, &found);
  *count = 0;
  for (int i = 0; code == 0 && i < found; i++) {
    if (results[i].state != 0) continue;
    sl_plan *plan = calloc(1, sizeof *plan);
    if (plan == nullptr) {
      code = out_of_memory;
      break;
    }
    code = describe(l, product, plan);
    memcpy(plan->algorithm, results[i].algorithm, sizeof plan->algorithm);
    plan->workspace_bytes = results[i].workspaceBytes;
    plans[(*count)++] = plan;
  }
  if (first.description != nullptr) l->destroyDescription(first.description);
  if (first.a != nullptr) l->destroyLayout(first.a);
  if (first.b != nullptr) l->destroyLayout(first.b);
  if (first.c != nullptr) l->destroyLayout(first.c);
  return code;
}

int sl_run_plan(const sl_cublaslt *l, void *handle, const sl_plan *plan, uint64_t a, uint64_t b, uint64_t c,
                uint64_t workspace, size_t workspace_bytes, void *stream) {
  float alpha = 1;
  return l->multiply(handle, plan->description, &alpha, b, plan->a, a, plan->b, &plan->beta, c, plan->c, c, plan->c,
                     plan->algorithm, workspace, workspace_bytes, stream);
}

void sl_destroy_plan(const sl_cublaslt *l, sl_plan *plan) {
  if (plan->description != nullptr) l->destroyDescription(plan->description);
  if (plan->a != nullptr) l->destroyLayout(plan->a);
  if (plan->b != nullptr) l->destroyLayout(plan->b);
  if (plan->c != nullptr) l->destroyLayout(plan->c);
  free(plan);
}
