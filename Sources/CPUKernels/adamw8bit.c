// AdamW with 8-bit moments: a block's moments are decoded, updated and encoded again while they lie in the cache.
#include "include/adamw8bit.h"

#include <math.h>

#include "include/threads.h"

#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
enum { block = 256, blocks_per_task = 32 };

typedef struct {
  int64_t count;
  float *w;
  const float *g;
  sl_quantized_moments moments;
  /// Halfway between two codes' values.
  float first_middles[255], second_middles[255];
  float beta1, beta2, rest1, rest2, rate, root, keep, epsilon, gradient_scale;
} job;

CLONES static void decode(int64_t n, const uint8_t *restrict codes, const float *restrict map, float scale,
                          float *restrict x) {
  for (int64_t i = 0; i < n; i++) x[i] = map[codes[i]] * scale;
}

CLONES static void update(int64_t n, const job *j, float *restrict w, const float *restrict g, float *restrict m,
                          float *restrict v) {
  float b1 = j->beta1, b2 = j->beta2, rest1 = j->rest1, rest2 = j->rest2, scale = j->gradient_scale, keep = j->keep;
  float rate = j->rate, root = j->root, epsilon = j->epsilon;
  for (int64_t i = 0; i < n; i++) {
    float gradient = g[i] * scale;
    m[i] = b1 * m[i] + rest1 * gradient;
    v[i] = b2 * v[i] + rest2 * gradient * gradient;
    w[i] = w[i] * keep - rate * m[i] / (sqrtf(v[i]) * root + epsilon);
  }
}

/// Codes of the nearest values: a search of eight halvings that all elements do side by side.
CLONES static float encode(int64_t n, const float *restrict x, const float *restrict middles, uint8_t *restrict codes) {
  float largest = 0;
  for (int64_t i = 0; i < n; i++) {
    float magnitude = fabsf(x[i]);
    largest = magnitude > largest ? magnitude : largest;
  }
  float inverse = largest > 0 ? 1 / largest : 0;
  int32_t found[block];
  for (int64_t i = 0; i < n; i++) found[i] = 0;
  for (int32_t half = 128; half > 0; half /= 2) {
    for (int64_t i = 0; i < n; i++) found[i] += x[i] * inverse > middles[found[i] + half - 1] ? half : 0;
  }
  for (int64_t i = 0; i < n; i++) codes[i] = (uint8_t)found[i];
  return largest;
}

static void task_body(void *context, int64_t task, int thread) {
  const job *j = context;
  (void)thread;
  float m[block], v[block];
  int64_t blocks = (j->count + block - 1) / block;
  int64_t end = (task + 1) * blocks_per_task < blocks ? (task + 1) * blocks_per_task : blocks;
  for (int64_t b = task * blocks_per_task; b < end; b++) {
    int64_t at = b * block, n = j->count - at < block ? j->count - at : block;
    const sl_quantized_moments *q = &j->moments;
    decode(n, q->first_codes + at, q->first_map, q->first_scales[b], m);
    decode(n, q->second_codes + at, q->second_map, q->second_scales[b], v);
    update(n, j, j->w + at, j->g + at, m, v);
    q->first_scales[b] = encode(n, m, j->first_middles, q->first_codes + at);
    q->second_scales[b] = encode(n, v, j->second_middles, q->second_codes + at);
  }
}

void sl_adamw8bit(int64_t count, float *parameters, const float *gradients, const sl_quantized_moments *moments,
                  float learning_rate, double beta1, double beta2, float epsilon, float weight_decay,
                  float gradient_scale, double correction1, double correction2) {
  job j = {.count = count, .w = parameters, .g = gradients, .moments = *moments, .beta1 = (float)beta1,
           .beta2 = (float)beta2, .rest1 = (float)(1 - beta1), .rest2 = (float)(1 - beta2),
           .rate = (float)(learning_rate / correction1), .root = (float)(1 / sqrt(correction2)),
           .keep = (float)(1 - (double)learning_rate * weight_decay), .epsilon = epsilon,
           .gradient_scale = gradient_scale};
  for (int i = 0; i < 255; i++) {
    j.first_middles[i] = 0.5f * (moments->first_map[i] + moments->first_map[i + 1]);
    j.second_middles[i] = 0.5f * (moments->second_map[i] + moments->second_map[i + 1]);
  }
  int64_t blocks = (count + block - 1) / block;
  sl_parallel((blocks + blocks_per_task - 1) / blocks_per_task, task_body, &j);
}
