// Attention row by row in plain C: what runs when there is no memory for anything faster.
#include "attention_internal.h"
#include "include/threads.h"
#include <math.h>
#include <string.h>

static inline float get(const void *p, int64_t i, sl_dtype dtype) {
  if (dtype == SL_F32) return ((const float *)p)[i];
  uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline void put(void *p, int64_t i, sl_dtype dtype, float value) {
  if (dtype == SL_F32) {
    ((float *)p)[i] = value;
    return;
  }
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = value != value ? bits | 0x400000 : bits + 0x7fff + ((bits >> 16) & 1);
  ((uint16_t *)p)[i] = (uint16_t)(bits >> 16);
}

struct call {
  const sl_attention_shape *shape;
  const sl_span *spans;
  const void *q, *k, *v;
  void *out;
  float *lse;
  int64_t ldq, ldk, ldv, ldo, lse_stride;
};

static void forward_task(void *context, int64_t task, int thread) {
  (void)thread;
  const struct call *c = context;
  const sl_attention_shape *s = c->shape;
  int64_t h = task % s->heads, d = s->head_dim, hk = h / (s->heads / s->kv_heads);
  const sl_span *span = &c->spans[task / s->heads];
  float acc[d], qrow[d];
  for (int64_t i = 0; i < span->q_count; i++) {
    int64_t row = span->q_begin + i, last = i + span->kv_count - span->q_count;
    int64_t first = s->window > 0 && last - s->window + 1 > 0 ? last - s->window + 1 : 0;
    float m = -INFINITY, l = 0;
    for (int64_t x = 0; x < d; x++) acc[x] = 0, qrow[x] = get(c->q, row * c->ldq + h * d + x, s->dtype) * s->scale;
    for (int64_t j = first; j <= last; j++) {
      int64_t kb = (span->kv_begin + j) * c->ldk + hk * d, vb = (span->kv_begin + j) * c->ldv + hk * d;
      float t = 0;
      for (int64_t x = 0; x < d; x++) t += qrow[x] * get(c->k, kb + x, s->dtype);
      if (t > m) {
        float f = expf(m - t);
        l *= f;
        for (int64_t x = 0; x < d; x++) acc[x] *= f;
        m = t;
      }
      float p = expf(t - m);
      l += p;
      for (int64_t x = 0; x < d; x++) acc[x] += p * get(c->v, vb + x, s->dtype);
    }
    for (int64_t x = 0; x < d; x++) put(c->out, row * c->ldo + h * d + x, s->dtype, acc[x] / l);
    if (c->lse) c->lse[h * c->lse_stride + row] = m + logf(l);
  }
}

void sl_attention_forward_simple(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count,
                                 const void *q, int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv,
                                 void *o, int64_t ldo, float *lse, int64_t lse_stride) {
  struct call c = {.shape = shape, .spans = spans, .q = q, .k = k, .v = v, .out = o, .lse = lse,
                   .ldq = ldq, .ldk = ldk, .ldv = ldv, .ldo = ldo, .lse_stride = lse_stride};
  sl_parallel(span_count * shape->heads, forward_task, &c);
}
