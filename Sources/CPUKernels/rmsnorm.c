// RMSNorm, forward, again from what was saved, and backward.
#ifndef SL_SOURCE
#include "include/rmsnorm.h"

struct rmsnorm {
  int64_t rows, rows_per_task, width, ldx, ldy, lddx, ld_copy;
  const void *x;
  const float *gamma;
  float epsilon;
  void *y;  // forward: y; backward: dy, only read
  float *rstd, *dx;
  void *copy;
  sl_dtype dtype, dy_dtype;
};

#define SL_SOURCE "rmsnorm.c"
#define SL_PAIRED_TOO
#include "each_path.h"

/// Rows of a task: enough work to be worth taking.
static int64_t rows_per_task(int64_t width) { return width >= 8192 ? 1 : 8192 / (width > 0 ? width : 1); }

void sl_rmsnorm_forward(int64_t rows, int64_t width, const float *x, int64_t ldx, const float *gamma, float epsilon,
                        void *y, int64_t ldy, float *rstd, void *copy, int64_t ld_copy, sl_dtype dtype) {
  struct rmsnorm c = {.rows = rows, .rows_per_task = rows_per_task(width), .width = width, .ldx = ldx, .ldy = ldy,
                      .ld_copy = ld_copy, .x = x, .gamma = gamma, .epsilon = epsilon, .y = y, .rstd = rstd,
                      .copy = copy, .dtype = dtype};
  sl_parallel((rows + c.rows_per_task - 1) / c.rows_per_task, SL_CHOOSE_PAIRED(rmsnorm_forward_task, dtype), &c);
}

void sl_rmsnorm_apply(int64_t rows, int64_t width, const void *x, int64_t ldx, const float *rstd, const float *gamma,
                      void *y, int64_t ldy, sl_dtype dtype) {
  struct rmsnorm c = {.rows = rows, .rows_per_task = rows_per_task(width), .width = width, .ldx = ldx, .ldy = ldy,
                      .x = x, .gamma = gamma, .y = y, .rstd = (float *)rstd, .dtype = dtype};
  sl_parallel((rows + c.rows_per_task - 1) / c.rows_per_task, SL_CHOOSE_PAIRED(rmsnorm_apply_task, dtype), &c);
}

void sl_rmsnorm_backward(int64_t rows, int64_t width, const void *x, int64_t ldx, const float *rstd,
                         const float *gamma, const void *dy, int64_t lddy, sl_dtype dy_dtype, float *dx, int64_t lddx,
                         void *copy, int64_t ld_copy, sl_dtype dtype) {
  struct rmsnorm c = {.rows = rows, .rows_per_task = rows_per_task(width), .width = width, .ldx = ldx, .ldy = lddy,
                      .lddx = lddx, .ld_copy = ld_copy, .x = x, .gamma = gamma, .y = (void *)dy, .rstd = (float *)rstd,
                      .dx = dx, .copy = copy, .dtype = dtype, .dy_dtype = dy_dtype};
  sl_parallel((rows + c.rows_per_task - 1) / c.rows_per_task, SL_CHOOSE_PAIRED(rmsnorm_backward_task, dtype), &c);
}

#else

FN void SL_NAME(rmsnorm_forward_row)(const struct rmsnorm *c, int64_t row, sl_dtype dtype) {
  const float *x = (const float *)c->x + row * c->ldx;
  int64_t n = c->width, i = 0, y = row * c->ldy, copy = row * c->ld_copy;
  VF s0 = {}, s1 = {};
  for (; i + 2 * SL_WIDTH <= n; i += 2 * SL_WIDTH) {
    VF a = v_load(x, i, SL_F32), b = v_load(x, i + SL_WIDTH, SL_F32);
    s0 += a * a;
    s1 += b * b;
  }
  float sum = v_sum(s0 + s1);
  for (; i < n; i++) sum += x[i] * x[i];
  float rstd = 1.0f / sqrtf(sum / (float)n + c->epsilon);
  if (c->rstd != NULL) c->rstd[row] = rstd;
  for (i = 0; i + SL_WIDTH <= n; i += SL_WIDTH) {
    VF a = v_load(x, i, SL_F32);
    v_store(c->y, y + i, dtype, a * rstd * v_load(c->gamma, i, SL_F32));
    if (c->copy != NULL) v_store(c->copy, copy + i, dtype, a);
  }
  if (i < n) {
    VF a = v_load_part(x, i, n - i, SL_F32);
    v_store_part(c->y, y + i, n - i, dtype, a * rstd * v_load_part(c->gamma, i, n - i, SL_F32));
    if (c->copy != NULL) v_store_part(c->copy, copy + i, n - i, dtype, a);
  }
}

static void SL_NAME(rmsnorm_forward_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct rmsnorm *c = context;
  for (int64_t row = task * c->rows_per_task; row < c->rows && row < (task + 1) * c->rows_per_task; row++)
    c->dtype == SL_F32 ? SL_NAME(rmsnorm_forward_row)(c, row, SL_F32) : SL_NAME(rmsnorm_forward_row)(c, row, SL_BF16);
}

FN void SL_NAME(rmsnorm_apply_row)(const struct rmsnorm *c, int64_t row, sl_dtype dtype) {
  int64_t n = c->width, i = 0, x = row * c->ldx, y = row * c->ldy;
  float rstd = c->rstd[row];
  for (; i + SL_WIDTH <= n; i += SL_WIDTH)
    v_store(c->y, y + i, dtype, v_load(c->x, x + i, dtype) * rstd * v_load(c->gamma, i, SL_F32));
  if (i < n) {
    VF a = v_load_part(c->x, x + i, n - i, dtype) * rstd;
    v_store_part(c->y, y + i, n - i, dtype, a * v_load_part(c->gamma, i, n - i, SL_F32));
  }
}

static void SL_NAME(rmsnorm_apply_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct rmsnorm *c = context;
  for (int64_t row = task * c->rows_per_task; row < c->rows && row < (task + 1) * c->rows_per_task; row++)
    c->dtype == SL_F32 ? SL_NAME(rmsnorm_apply_row)(c, row, SL_F32) : SL_NAME(rmsnorm_apply_row)(c, row, SL_BF16);
}

FN void SL_NAME(rmsnorm_backward_row)(const struct rmsnorm *c, int64_t row, sl_dtype dtype, sl_dtype dy_dtype) {
  int64_t n = c->width, i = 0, x = row * c->ldx, dy = row * c->ldy, copy = row * c->ld_copy;
  float *dx = c->dx + row * c->lddx, rstd = c->rstd[row];
  VF sums = {};
  for (; i + SL_WIDTH <= n; i += SL_WIDTH)
    sums += v_load(c->y, dy + i, dy_dtype) * v_load(c->gamma, i, SL_F32) * v_load(c->x, x + i, dtype);
  if (i < n)
    sums += v_load_part(c->y, dy + i, n - i, dy_dtype) * v_load_part(c->gamma, i, n - i, SL_F32)
        * v_load_part(c->x, x + i, n - i, dtype);
  float along = v_sum(sums) * rstd * rstd / (float)n;  // mean(gamma · dy · xhat) · rstd
  for (i = 0; i + SL_WIDTH <= n; i += SL_WIDTH) {
    VF g = v_load(c->y, dy + i, dy_dtype) * v_load(c->gamma, i, SL_F32);
    VF d = v_load(dx, i, SL_F32) + rstd * (g - v_load(c->x, x + i, dtype) * along);
    v_store(dx, i, SL_F32, d);
    if (c->copy != NULL) v_store(c->copy, copy + i, dtype, d);
  }
  if (i < n) {
    VF g = v_load_part(c->y, dy + i, n - i, dy_dtype) * v_load_part(c->gamma, i, n - i, SL_F32);
    VF d = v_load_part(dx, i, n - i, SL_F32) + rstd * (g - v_load_part(c->x, x + i, n - i, dtype) * along);
    v_store_part(dx, i, n - i, SL_F32, d);
    if (c->copy != NULL) v_store_part(c->copy, copy + i, n - i, dtype, d);
  }
}

static void SL_NAME(rmsnorm_backward_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct rmsnorm *c = context;
  for (int64_t row = task * c->rows_per_task; row < c->rows && row < (task + 1) * c->rows_per_task; row++) {
    if (c->dtype == SL_F32)
      c->dy_dtype == SL_F32 ? SL_NAME(rmsnorm_backward_row)(c, row, SL_F32, SL_F32)
                            : SL_NAME(rmsnorm_backward_row)(c, row, SL_F32, SL_BF16);
    else
      c->dy_dtype == SL_F32 ? SL_NAME(rmsnorm_backward_row)(c, row, SL_BF16, SL_F32)
                            : SL_NAME(rmsnorm_backward_row)(c, row, SL_BF16, SL_BF16);
  }
}

#endif
