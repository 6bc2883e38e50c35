// SwiGLU, forward and backward.
#ifndef SL_SOURCE
#include "include/swiglu.h"

enum { swiglu_columns = 4096 };  // of a task

struct swiglu {
  int64_t width, chunks, ld, ld_act, ld_dact, ld_dgu;
  const char *gate, *up, *d_act;
  char *act, *d_gate, *d_up;
  sl_dtype dtype;
};

#define SL_SOURCE "swiglu.c"
#define SL_PAIRED_TOO
#include "each_path.h"

void sl_swiglu_forward(int64_t rows, int64_t width, const void *gate, const void *up, int64_t ld, void *act,
                       int64_t ld_act, sl_dtype dtype) {
  struct swiglu c = {.width = width, .chunks = (width + swiglu_columns - 1) / swiglu_columns, .ld = ld,
                     .ld_act = ld_act, .gate = gate, .up = up, .act = act, .dtype = dtype};
  sl_parallel(rows * c.chunks, SL_CHOOSE_PAIRED(swiglu_forward_task, dtype), &c);
}

void sl_swiglu_backward(int64_t rows, int64_t width, const void *gate, const void *up, int64_t ld, const void *d_act,
                        int64_t ld_dact, void *d_gate, void *d_up, int64_t ld_dgu, void *act, int64_t ld_act,
                        sl_dtype dtype) {
  struct swiglu c = {.width = width, .chunks = (width + swiglu_columns - 1) / swiglu_columns, .ld = ld,
                     .ld_act = ld_act, .ld_dact = ld_dact, .ld_dgu = ld_dgu, .gate = gate, .up = up, .d_act = d_act,
                     .act = act, .d_gate = d_gate, .d_up = d_up, .dtype = dtype};
  sl_parallel(rows * c.chunks, SL_CHOOSE_PAIRED(swiglu_backward_task, dtype), &c);
}

#else

FN void SL_NAME(swiglu_forward_columns)(const void *gate, const void *up, void *act, int64_t n, sl_dtype dtype) {
  int64_t i = 0;
  for (; i + SL_WIDTH <= n; i += SL_WIDTH) {
    VF g = v_load(gate, i, dtype);
    v_store(act, i, dtype, g * v_sigmoid(g) * v_load(up, i, dtype));
  }
  if (i < n) {
    VF g = v_load_part(gate, i, n - i, dtype);
    v_store_part(act, i, n - i, dtype, g * v_sigmoid(g) * v_load_part(up, i, n - i, dtype));
  }
}

static void SL_NAME(swiglu_forward_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct swiglu *c = context;
  int64_t row = task / c->chunks, first = task % c->chunks * swiglu_columns;
  int64_t n = c->width - first < swiglu_columns ? c->width - first : swiglu_columns;
  int64_t size = (int64_t)sl_dtype_size(c->dtype);
  int64_t at = (row * c->ld + first) * size;
  const char *gate = c->gate + at, *up = c->up + at;
  char *act = c->act + (row * c->ld_act + first) * size;
  if (c->dtype == SL_F32)
    SL_NAME(swiglu_forward_columns)(gate, up, act, n, SL_F32);
  else
    SL_NAME(swiglu_forward_columns)(gate, up, act, n, SL_BF16);
}

FN void SL_NAME(swiglu_backward_columns)(const void *gate, const void *up, const void *d_act, void *d_gate, void *d_up,
                                         void *act, int64_t n, sl_dtype dtype) {
  for (int64_t i = 0; i < n; i += SL_WIDTH) {
    bool part = i + SL_WIDTH > n;
    VF g = part ? v_load_part(gate, i, n - i, dtype) : v_load(gate, i, dtype);
    VF u = part ? v_load_part(up, i, n - i, dtype) : v_load(up, i, dtype);
    VF d = part ? v_load_part(d_act, i, n - i, dtype) : v_load(d_act, i, dtype);
    VF s = v_sigmoid(g), silu = g * s;
    VF dg = d * u * s * (1.0f + g * (1.0f - s)), du = d * silu;
    if (part) {
      v_store_part(d_gate, i, n - i, dtype, dg);
      v_store_part(d_up, i, n - i, dtype, du);
      if (act != NULL) v_store_part(act, i, n - i, dtype, silu * u);
    } else {
      v_store(d_gate, i, dtype, dg);
      v_store(d_up, i, dtype, du);
      if (act != NULL) v_store(act, i, dtype, silu * u);
    }
  }
}

static void SL_NAME(swiglu_backward_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct swiglu *c = context;
  int64_t row = task / c->chunks, first = task % c->chunks * swiglu_columns;
  int64_t n = c->width - first < swiglu_columns ? c->width - first : swiglu_columns;
  int64_t size = (int64_t)sl_dtype_size(c->dtype);
  int64_t at = (row * c->ld + first) * size;
  const char *gate = c->gate + at, *up = c->up + at;
  const char *d_act = c->d_act + (row * c->ld_dact + first) * size;
  int64_t to = (row * c->ld_dgu + first) * size;
  char *d_gate = c->d_gate + to, *d_up = c->d_up + to;
  char *act = c->act == NULL ? NULL : c->act + (row * c->ld_act + first) * size;
  if (c->dtype == SL_F32)
    SL_NAME(swiglu_backward_columns)(gate, up, d_act, d_gate, d_up, act, n, SL_F32);
  else
    SL_NAME(swiglu_backward_columns)(gate, up, d_act, d_gate, d_up, act, n, SL_BF16);
}

#endif
