// RMSNorm of each head, forward and backward.
#ifndef SL_SOURCE
#include "include/headnorm.h"

struct headnorm {
  int64_t rows, rows_per_task, heads, head_dim, ldx, ldy;
  const void *x;
  const float *gamma;
  float epsilon;
  void *y;  // forward: y; backward: dy, which becomes dx
  float *rstd;
  sl_dtype dtype;
};

#define SL_SOURCE "headnorm.c"
#define SL_PAIRED_TOO
#include "each_path.h"

/// Rows of a task: enough work to be worth taking.
static int64_t rows_per_task(int64_t width) { return width >= 8192 ? 1 : 8192 / (width > 0 ? width : 1); }

void sl_headnorm_forward(int64_t rows, int64_t heads, int64_t head_dim, const void *x, int64_t ldx, const float *gamma,
                         float epsilon, void *y, int64_t ldy, float *rstd, sl_dtype dtype) {
  struct headnorm c = {.rows = rows, .rows_per_task = rows_per_task(heads * head_dim), .heads = heads,
                       .head_dim = head_dim, .ldx = ldx, .ldy = ldy, .x = x, .gamma = gamma, .epsilon = epsilon,
                       .y = y, .rstd = rstd, .dtype = dtype};
  sl_parallel((rows + c.rows_per_task - 1) / c.rows_per_task, SL_CHOOSE_PAIRED(headnorm_forward_task, dtype), &c);
}

void sl_headnorm_backward(int64_t rows, int64_t heads, int64_t head_dim, const void *x, int64_t ldx, const float *rstd,
                          const float *gamma, void *dy, int64_t lddy, sl_dtype dtype) {
  struct headnorm c = {.rows = rows, .rows_per_task = rows_per_task(heads * head_dim), .heads = heads,
                       .head_dim = head_dim, .ldx = ldx, .ldy = lddy, .x = x, .gamma = gamma, .y = dy,
                       .rstd = (float *)rstd, .dtype = dtype};
  sl_parallel((rows + c.rows_per_task - 1) / c.rows_per_task, SL_CHOOSE_PAIRED(headnorm_backward_task, dtype), &c);
}

#else

FN void SL_NAME(headnorm_forward_row)(const struct headnorm *c, int64_t row, sl_dtype dtype) {
  int64_t n = c->head_dim;
  for (int64_t head = 0; head < c->heads; head++) {
    int64_t x = row * c->ldx + head * n, y = row * c->ldy + head * n, i = 0;
    VF sums = {};
    for (; i + SL_WIDTH <= n; i += SL_WIDTH) {
      VF a = v_load(c->x, x + i, dtype);
      sums += a * a;
    }
    if (i < n) {
      VF a = v_load_part(c->x, x + i, n - i, dtype);
      sums += a * a;
    }
    float rstd = 1.0f / sqrtf(v_sum(sums) / (float)n + c->epsilon);
    if (c->rstd != NULL) c->rstd[row * c->heads + head] = rstd;
    for (i = 0; i + SL_WIDTH <= n; i += SL_WIDTH)
      v_store(c->y, y + i, dtype, v_load(c->x, x + i, dtype) * rstd * v_load(c->gamma, i, SL_F32));
    if (i < n) {
      VF a = v_load_part(c->x, x + i, n - i, dtype) * rstd;
      v_store_part(c->y, y + i, n - i, dtype, a * v_load_part(c->gamma, i, n - i, SL_F32));
    }
  }
}

static void SL_NAME(headnorm_forward_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct headnorm *c = context;
  for (int64_t row = task * c->rows_per_task; row < c->rows && row < (task + 1) * c->rows_per_task; row++)
    c->dtype == SL_F32 ? SL_NAME(headnorm_forward_row)(c, row, SL_F32) : SL_NAME(headnorm_forward_row)(c, row, SL_BF16);
}

FN void SL_NAME(headnorm_backward_row)(const struct headnorm *c, int64_t row, sl_dtype dtype) {
  int64_t n = c->head_dim;
  for (int64_t head = 0; head < c->heads; head++) {
    int64_t x = row * c->ldx + head * n, dy = row * c->ldy + head * n, i = 0;
    float rstd = c->rstd[row * c->heads + head];
    VF sums = {};
    for (; i + SL_WIDTH <= n; i += SL_WIDTH)
      sums += v_load(c->y, dy + i, dtype) * v_load(c->gamma, i, SL_F32) * v_load(c->x, x + i, dtype);
    if (i < n)
      sums += v_load_part(c->y, dy + i, n - i, dtype) * v_load_part(c->gamma, i, n - i, SL_F32)
          * v_load_part(c->x, x + i, n - i, dtype);
    float along = v_sum(sums) * rstd * rstd / (float)n;  // mean(gamma · dy · xhat) · rstd
    for (i = 0; i + SL_WIDTH <= n; i += SL_WIDTH) {
      VF g = v_load(c->y, dy + i, dtype) * v_load(c->gamma, i, SL_F32);
      v_store(c->y, dy + i, dtype, rstd * (g - v_load(c->x, x + i, dtype) * along));
    }
    if (i < n) {
      VF g = v_load_part(c->y, dy + i, n - i, dtype) * v_load_part(c->gamma, i, n - i, SL_F32);
      v_store_part(c->y, dy + i, n - i, dtype, rstd * (g - v_load_part(c->x, x + i, n - i, dtype) * along));
    }
  }
}

static void SL_NAME(headnorm_backward_task)(void *context, int64_t task, int thread) {
  (void)thread;
  const struct headnorm *c = context;
  for (int64_t row = task * c->rows_per_task; row < c->rows && row < (task + 1) * c->rows_per_task; row++)
    c->dtype == SL_F32 ? SL_NAME(headnorm_backward_row)(c, row, SL_F32)
                       : SL_NAME(headnorm_backward_row)(c, row, SL_BF16);
}

#endif
