// Cross entropy of rows of logits, with its gradient in the same pass.
#pragma once
#include "types.h"

/// logits: fp32 [rows, vocabulary] at stride ld; targets [rows] in 0..<vocabulary, negative where nothing is trained.
/// Adds the sum of the trained rows' losses to *loss_sum (row by row in double: the same bits whatever the thread count).
/// grad: (softmax - onehot) · grad_scale at stride ldg in grad_dtype, zeros for untrained rows, or NULL; in fp32 it may be
/// `logits` itself with ldg = ld. row_loss: [rows], 0 for untrained rows, or NULL. A target beyond the vocabulary makes
/// its row's loss NaN.
void sl_cross_entropy(int64_t rows, int64_t vocabulary, const float *logits, int64_t ld, const int32_t *targets,
                      float grad_scale, double *loss_sum, void *grad, sl_dtype grad_dtype, int64_t ldg,
                      float *row_loss);
