// AdamW whose moments are 8-bit codes in blocks of 256 elements, each block with a scale.
#pragma once
#include "types.h"

/// What `sl_adamw8bit` reads and writes beside the parameters: codes [count], scales [blocks], and what the 256 codes
/// stand for, rising.
typedef struct {
  uint8_t *first_codes, *second_codes;
  float *first_scales, *second_scales;
  const float *first_map, *second_map;
} sl_quantized_moments;

/// As `sl_adamw`. A block's scale is the largest magnitude of its values, and a value's code the nearest in the map.
void sl_adamw8bit(int64_t count, float *parameters, const float *gradients, const sl_quantized_moments *moments,
                  float learning_rate, double beta1, double beta2, float epsilon, float weight_decay,
                  float gradient_scale, double correction1, double correction2);
