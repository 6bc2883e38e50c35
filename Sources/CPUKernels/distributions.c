// Rows of logits as distributions: a row's sums are taken in fp32 within pieces and in fp64 over them.
#ifndef SL_SOURCE
#include "include/distributions.h"

enum { piece = 1024 };

struct distributions {
  int64_t vocabulary, ld_p, ld_q;
  const float *p, *q;
  double *divergence;
  uint8_t *agrees;
  const double *uniform;
  int32_t *tokens;
};

#define SL_SOURCE "distributions.c"
#include "each_path.h"

void sl_divergence(int64_t rows, int64_t vocabulary, const float *p, int64_t ld_p, const float *q, int64_t ld_q,
                   double *divergence, uint8_t *agrees) {
  struct distributions d = {vocabulary, ld_p, ld_q, p, q, divergence, agrees, NULL, NULL};
  sl_parallel(rows, SL_CHOOSE(divergence_row), &d);
}

void sl_draw_tokens(int64_t rows, int64_t vocabulary, const float *logits, int64_t ld, const double *uniform,
                    int32_t *tokens) {
  struct distributions d = {vocabulary, ld, 0, logits, NULL, NULL, NULL, uniform, tokens};
  sl_parallel(rows, SL_CHOOSE(draw_row), &d);
}

#else

/// The place of the largest logit, the first of several.
static int64_t SL_NAME(largest)(const float *x, int64_t n) {
  VF best = v_splat(-INFINITY);
  int64_t i = 0;
  for (; i + SL_WIDTH <= n; i += SL_WIDTH) best = v_max(v_load(x, i, SL_F32), best);
  float highest = v_maximum(best);
  for (; i < n; i++) highest = x[i] > highest ? x[i] : highest;
  for (i = 0; i < n; i++)
    if (x[i] == highest) return i;
  return 0;
}

/// Σ exp(x - shift) over one piece.
static double SL_NAME(piece_sum)(const float *x, int64_t n, float shift) {
  VF sum = {}, by = v_splat(shift);
  int64_t i = 0;
  for (; i + SL_WIDTH <= n; i += SL_WIDTH) sum += v_exp(v_load(x, i, SL_F32) - by);
  double total = (double)v_sum(sum);
  for (; i < n; i++) total += (double)expf(x[i] - shift);
  return total;
}

static double SL_NAME(log_sum)(const float *x, int64_t n, float shift) {
  double total = 0;
  for (int64_t i = 0; i < n; i += piece) total += SL_NAME(piece_sum)(x + i, n - i < piece ? n - i : piece, shift);
  return (double)shift + log(total);
}

static void SL_NAME(divergence_row)(void *context, int64_t row, int thread) {
  (void)thread;
  const struct distributions *d = context;
  const float *p = d->p + row * d->ld_p, *q = d->q + row * d->ld_q;
  int64_t n = d->vocabulary, top = SL_NAME(largest)(p, n), other = SL_NAME(largest)(q, n);
  double p_log_sum = SL_NAME(log_sum)(p, n, p[top]), q_log_sum = SL_NAME(log_sum)(q, n, q[other]);
  // Σ p · (log p - log q), with what is the same for all tokens taken out of the differences first.
  float shift = (float)(p_log_sum - q_log_sum);
  double rest = (p_log_sum - q_log_sum) - (double)shift, total = 0;
  VF by = v_splat((float)p_log_sum), both = v_splat(shift);
  for (int64_t start = 0; start < n; start += piece) {
    int64_t end = n - start < piece ? n : start + piece, i = start;
    VF sum = {};
    for (; i + SL_WIDTH <= end; i += SL_WIDTH) {
      VF a = v_load(p, i, SL_F32);
      sum += v_exp(a - by) * ((a - v_load(q, i, SL_F32)) - both);
    }
    total += (double)v_sum(sum);
    for (; i < end; i++) total += (double)(expf(p[i] - (float)p_log_sum) * ((p[i] - q[i]) - shift));
  }
  d->divergence[row] = total - rest;
  d->agrees[row] = top == other;
}

static void SL_NAME(draw_row)(void *context, int64_t row, int thread) {
  (void)thread;
  const struct distributions *d = context;
  const float *x = d->p + row * d->ld_p;
  int64_t n = d->vocabulary, start = 0;
  float shift = x[SL_NAME(largest)(x, n)];
  double total = 0;
  for (int64_t i = 0; i < n; i += piece) total += SL_NAME(piece_sum)(x + i, n - i < piece ? n - i : piece, shift);
  double wanted = d->uniform[row] * total;
  for (; start + piece < n; start += piece) {
    double sum = SL_NAME(piece_sum)(x + start, piece, shift);
    if (wanted < sum) break;
    wanted -= sum;
  }
  int64_t end = n - start < piece ? n : start + piece, token = start;
  for (int64_t i = start; i < end; i++) {
    double weight = (double)expf(x[i] - shift);
    if (weight > 0) token = i;
    if (wanted < weight) break;
    wanted -= weight;
  }
  d->tokens[row] = (int32_t)token;
}

#endif
