// Cross entropy: per row log-sum-exp and gradient in fp32.
#ifndef SL_SOURCE
#include "include/crossentropy.h"

struct crossentropy {
  int64_t vocabulary, ld, ldg;
  const float *logits;
  const int32_t *targets;
  float grad_scale;
  void *grad;
  sl_dtype grad_dtype;
  float *row_loss;
};

#define SL_SOURCE "crossentropy.c"
#define SL_PAIRED_TOO
#include "each_path.h"

void sl_cross_entropy(int64_t rows, int64_t vocabulary, const float *logits, int64_t ld, const int32_t *targets,
                      float grad_scale, double *loss_sum, void *grad, sl_dtype grad_dtype, int64_t ldg,
                      float *row_loss) {
  enum { block = 1024 };
  float losses[block];
  for (int64_t first = 0; first < rows; first += block) {
    int64_t count = rows - first < block ? rows - first : block;
    struct crossentropy c = {vocabulary, ld, ldg, logits + first * ld, targets + first, grad_scale, NULL, grad_dtype,
                             row_loss != NULL ? row_loss + first : losses};
    if (grad != NULL) c.grad = (char *)grad + (size_t)(first * ldg) * sl_dtype_size(grad_dtype);
    sl_parallel(count, SL_CHOOSE_PAIRED(crossentropy_row, grad_dtype), &c);
    for (int64_t i = 0; i < count; i++) *loss_sum += (double)c.row_loss[i];
  }
}

#else

FN void SL_NAME(crossentropy_gradient)(const float *x, void *grad, int64_t n, float lse, float scale, sl_dtype dtype) {
  VF shift = v_splat(lse);
  int64_t i = 0;
  for (; i + SL_WIDTH <= n; i += SL_WIDTH) v_store(grad, i, dtype, v_exp(v_load(x, i, SL_F32) - shift) * scale);
  if (i < n) v_store_part(grad, i, n - i, dtype, v_exp(v_load_part(x, i, n - i, SL_F32) - shift) * scale);
}

static void SL_NAME(crossentropy_row)(void *context, int64_t row, int thread) {
  (void)thread;
  const struct crossentropy *c = context;
  int64_t n = c->vocabulary;
  const float *x = c->logits + row * c->ld;
  int64_t target = c->targets[row];
  size_t element = sl_dtype_size(c->grad_dtype);
  char *grad = c->grad == NULL ? NULL : (char *)c->grad + (size_t)(row * c->ldg) * element;
  if (target < 0) {
    c->row_loss[row] = 0;
    if (grad != NULL) memset(grad, 0, (size_t)n * element);
    return;
  }
  // Four chains each, so that the latency of max and of the additions hides.
  int64_t i = 0;
  VF m0 = v_splat(-INFINITY), m1 = m0, m2 = m0, m3 = m0;
  for (; i + 4 * SL_WIDTH <= n; i += 4 * SL_WIDTH) {
    m0 = v_max(v_load(x, i, SL_F32), m0);
    m1 = v_max(v_load(x, i + SL_WIDTH, SL_F32), m1);
    m2 = v_max(v_load(x, i + 2 * SL_WIDTH, SL_F32), m2);
    m3 = v_max(v_load(x, i + 3 * SL_WIDTH, SL_F32), m3);
  }
  float highest = v_maximum(v_max(v_max(m0, m1), v_max(m2, m3)));
  for (; i < n; i++) highest = x[i] > highest ? x[i] : highest;
  VF shift = v_splat(highest), s0 = {}, s1 = {};
  for (i = 0; i + 2 * SL_WIDTH <= n; i += 2 * SL_WIDTH) {
    s0 += v_exp(v_load(x, i, SL_F32) - shift);
    s1 += v_exp(v_load(x, i + SL_WIDTH, SL_F32) - shift);
  }
  float sum = v_sum(s0 + s1);
  for (; i < n; i++) sum += expf(x[i] - highest);
  float lse = highest + logf(sum), hit = target < n ? x[target] : NAN;
  c->row_loss[row] = lse - hit;
  if (grad == NULL) return;
  float scale = c->grad_scale;
  if (c->grad_dtype == SL_F32) {
    SL_NAME(crossentropy_gradient)(x, grad, n, lse, scale, SL_F32);
    if (target < n) ((float *)grad)[target] = (expf(hit - lse) - 1.0f) * scale;
  } else {
    SL_NAME(crossentropy_gradient)(x, grad, n, lse, scale, SL_BF16);
    VF value = v_splat((expf(hit - lse) - 1.0f) * scale);
    if (target < n) v_store_part(grad, target, 1, SL_BF16, value);
  }
}

#endif
