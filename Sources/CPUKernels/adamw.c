// The optimizer's step: one pass over four arrays.
#include "include/adamw.h"

#include <math.h>

#include "include/threads.h"

enum { block = 1 << 14 };

typedef struct {
  int64_t count;
  float *w, *m, *v;
  const float *g;
  float beta1, beta2, rest1, rest2;  // β and 1 - β
  float rate, root, keep, epsilon, gradient_scale;
} job;

__attribute__((target_clones("avx512f", "avx2", "default"))) static void update(const job *restrict j, int64_t begin,
                                                                               int64_t end) {
  float *restrict w = j->w, *restrict m = j->m, *restrict v = j->v;
  const float *restrict g = j->g;
  float b1 = j->beta1, b2 = j->beta2, rest1 = j->rest1, rest2 = j->rest2, scale = j->gradient_scale, keep = j->keep;
  float rate = j->rate, root = j->root, epsilon = j->epsilon;
  for (int64_t i = begin; i < end; i++) {
    float gradient = g[i] * scale;
    m[i] = b1 * m[i] + rest1 * gradient;
    v[i] = b2 * v[i] + rest2 * gradient * gradient;
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
              float learning_rate, double beta1, double beta2, float epsilon, float weight_decay, float gradient_scale,
              double correction1, double correction2) {
  job j = {.count = count, .w = parameters, .m = first_moment, .v = second_moment, .g = gradients,
           .beta1 = (float)beta1, .beta2 = (float)beta2, .rest1 = (float)(1 - beta1), .rest2 = (float)(1 - beta2),
           .rate = (float)(learning_rate / correction1), .root = (float)(1 / sqrt(correction2)),
           .keep = (float)(1 - (double)learning_rate * weight_decay), .epsilon = epsilon,
           .gradient_scale = gradient_scale};
  sl_parallel((count + block - 1) / block, task_body, &j);
}
