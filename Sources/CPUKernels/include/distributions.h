// What rows of logits say: how far two models' distributions are apart, and tokens drawn from them.
#pragma once
#include "types.h"

/// For each row of two models' logits [rows, vocabulary] (fp32 at strides ld_p and ld_q): divergence[i] receives
/// KL(softmax(p) ‖ softmax(q)) in nats, and agrees[i] whether both hold the same token for the likeliest.
void sl_divergence(int64_t rows, int64_t vocabulary, const float *p, int64_t ld_p, const float *q, int64_t ld_q,
                   double *divergence, uint8_t *agrees);

/// Draws a token of each row's distribution, given a number in 0..<1 for each.
void sl_draw_tokens(int64_t rows, int64_t vocabulary, const float *logits, int64_t ld, const double *uniform,
                    int32_t *tokens);
