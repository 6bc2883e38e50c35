// The optimizer's step: one pass over four arrays.
#include "include/adamw.h"

#include <math.h>

#include "include/threads.h"

enum { block = 1 << 14 };

typedef struct {
  int64_t count;
  float *w, *m, *v;
  const float *g;
  float learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, correction1, correction2;
} job;

__attribute__((target_clones("avx512f", "avx2", "default"))) static void update(const job *restrict j, int64_t begin,
                                                                               int64_t end) {
  float *restrict w = j->w, *restrict m = j->m, *restrict v = j->v;
  const float *restrict g = j->g;
  float b1 = j->beta1, b2 = j->beta2, scale = j->gradient_scale, keep = 1.0f - j->learning_rate * j->weight_decay;
  float rate = j->learning_rate / j->correction1, root = 1.0f / sqrtf(j->correction2), epsilon = j->epsilon;
  for (int64_t i = begin; i < end; i++) {
    float gradient = g[i] * scale;
    m[i] = b1 * m[i] + (1.0f - b1) * gradient;
    v[i] = b2 * v[i] + (1.0f - b2) * gradient * gradient;
    w[i] = w[i] * keep - rate * m[i] / (sqrtf(v[i]) * root + epsilon);
  }
}

static void task_body(void *context, int64_t task, int thread) {
  const job *j = context;
  (void)thread;
  int64_t begin = task * block, end = begin + block < j->count ? begin + block : j->count;
  update(j, begin, end);
}

void sl_adamw(int64_t count, float *parameters, const float *gradients, float *first_moment, float *second_moment,
              float learning_rate, float beta1, float beta2, float epsilon, float weight_decay, float gradient_scale,
              float correction1, float correction2) {
  job j = {count,        parameters, first_moment, second_moment, gradients,      learning_rate, beta1,
           beta2,        epsilon,    weight_decay, gradient_scale, correction1,    correction2};
  sl_parallel((count + block - 1) / block, task_body, &j);
}
