// Attention in plain C.
#include "attention_internal.h"
#include "include/threads.h"
#include <math.h>
#include <stdlib.h>
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
  const void *q, *k, *v, *o, *d_o;
  void *out, *dq, *dk, *dv;
  float *lse, *workspace;
  int64_t ldq, ldk, ldv, ldo, lddo, lddq, lddk, lddv, lse_stride;
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

void sl_attention_forward_simple(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                          int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, void *o, int64_t ldo,
                          float *lse, int64_t lse_stride) {
  struct call c = {.shape = shape, .spans = spans, .q = q, .k = k, .v = v, .out = o, .lse = lse,
                   .ldq = ldq, .ldk = ldk, .ldv = ldv, .ldo = ldo, .lse_stride = lse_stride};
  sl_parallel(span_count * shape->heads, forward_task, &c);
}

static void backward_task(void *context, int64_t task, int thread) {
  (void)thread;
  const struct call *c = context;
  const sl_attention_shape *s = c->shape;
  int64_t hk = task % s->kv_heads, d = s->head_dim, group = s->heads / s->kv_heads;
  const sl_span *span = &c->spans[task / s->kv_heads];
  float *dk = c->workspace + (hk * 2) * d * span->kv_count;
  for (const sl_span *p = c->spans; p != span; p++) dk += 2 * s->kv_heads * d * p->kv_count;
  float *dv = dk + d * span->kv_count;
  memset(dk, 0, sizeof(float) * (size_t)(2 * d * span->kv_count));
  float dq[d], qrow[d], dorow[d];
  for (int64_t h = hk * group; h < (hk + 1) * group; h++) {
    for (int64_t i = 0; i < span->q_count; i++) {
      int64_t row = span->q_begin + i, last = i + span->kv_count - span->q_count;
      int64_t first = s->window > 0 && last - s->window + 1 > 0 ? last - s->window + 1 : 0;
      float delta = 0, lse = c->lse[h * c->lse_stride + row];
      for (int64_t x = 0; x < d; x++) {
        dq[x] = 0;
        qrow[x] = get(c->q, row * c->ldq + h * d + x, s->dtype);
        dorow[x] = get(c->d_o, row * c->lddo + h * d + x, s->dtype);
        delta += dorow[x] * get(c->o, row * c->ldo + h * d + x, s->dtype);
      }
      for (int64_t j = first; j <= last; j++) {
        int64_t kb = (span->kv_begin + j) * c->ldk + hk * d, vb = (span->kv_begin + j) * c->ldv + hk * d;
        float t = 0, dp = 0;
        for (int64_t x = 0; x < d; x++) {
          t += qrow[x] * get(c->k, kb + x, s->dtype);
          dp += dorow[x] * get(c->v, vb + x, s->dtype);
        }
        float p = expf(t * s->scale - lse), ds = p * (dp - delta) * s->scale;
        for (int64_t x = 0; x < d; x++) {
          dv[j * d + x] += p * dorow[x];
          dk[j * d + x] += ds * qrow[x];
          dq[x] += ds * get(c->k, kb + x, s->dtype);
        }
      }
      for (int64_t x = 0; x < d; x++) put(c->dq, row * c->lddq + h * d + x, s->dtype, dq[x]);
    }
  }
  for (int64_t j = 0; j < span->kv_count; j++)
    for (int64_t x = 0; x < d; x++) {
      put(c->dk, (span->kv_begin + j) * c->lddk + hk * d + x, s->dtype, dk[j * d + x]);
      put(c->dv, (span->kv_begin + j) * c->lddv + hk * d + x, s->dtype, dv[j * d + x]);
    }
}

void sl_attention_backward(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count, const void *q,
                           int64_t ldq, const void *k, int64_t ldk, const void *v, int64_t ldv, const void *o,
                           int64_t ldo, const float *lse, int64_t lse_stride, const void *d_o, int64_t lddo, void *dq,
                           int64_t lddq, void *dk, int64_t lddk, void *dv, int64_t lddv, void *workspace) {
  struct call c = {.shape = shape, .spans = spans, .q = q, .k = k, .v = v, .o = o, .lse = (float *)lse, .d_o = d_o,
                   .dq = dq, .dk = dk, .dv = dv, .workspace = workspace, .ldq = ldq, .ldk = ldk, .ldv = ldv, .ldo = ldo,
                   .lddo = lddo, .lddq = lddq, .lddk = lddk, .lddv = lddv, .lse_stride = lse_stride};
  sl_parallel(span_count * shape->kv_heads, backward_task, &c);
}

size_t sl_attention_backward_workspace(const sl_attention_shape *shape, const sl_span *spans, int64_t span_count) {
  size_t rows = 0;
  for (int64_t i = 0; i < span_count; i++) rows += (size_t)spans[i].kv_count;
  return 4 * 2 * (size_t)(shape->kv_heads * shape->head_dim) * rows;
}
