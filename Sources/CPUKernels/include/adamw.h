// The optimizer's step.
#pragma once
#include "types.h"

/// AdamW (Loshchilov & Hutter, 2019) over `count` fp32 elements in place: g = gradient · gradient_scale;
/// m = β₁m + (1-β₁)g; v = β₂v + (1-β₂)g²; w -= η · weight_decay · w; w -= η · (m / c₁) / (√(v / c₂) + ε),
/// c = 1 - βᵗ (`correction1`, `correction2`). The decay rates are double: 1 - 0.999f is off by 5e-5.
void sl_adamw(int64_t count, float *parameters, const float *gradients, float *first_moment, float *second_moment,
              float learning_rate, double beta1, double beta2, float epsilon, float weight_decay, float gradient_scale,
              double correction1, double correction2);
