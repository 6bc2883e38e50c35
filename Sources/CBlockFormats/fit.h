// Scales that make quantized blocks as close to their weights as can be.
//
// Each search tries scales around the obvious one: it rounds the weights, solves the weighted least squares for those
// quants, and keeps what has the smallest error. What counts more than other weights is said by `weights`.
#pragma once
#include "half.h"
#include <stdbool.h>

// Sums may be taken in any order, so that they vectorize; products and sums still round one by one.
#pragma clang fp contract(off)
#pragma clang fp reassociate(on)

#define SL_INLINE static inline __attribute__((always_inline))

// Floats as integers of the same order, and back: integers have a minimum that vectorizes.
SL_INLINE int32_t sl_ordered(int32_t bits) { return bits ^ (bits >> 31 & 0x7fffffff); }

SL_INLINE int32_t sl_ordered_bits(float value) { return sl_ordered((int32_t)sl_bits_of_float(value)); }

SL_INLINE float sl_of_ordered(int32_t ordered) { return sl_float_of_bits((uint32_t)sl_ordered(ordered)); }

SL_INLINE void sl_extremes(const float *x, int count, float *least, float *greatest) {
  int32_t low = INT32_MAX, high = INT32_MIN;
  for (int i = 0; i < count; i++) {
    const int32_t value = sl_ordered_bits(x[i]);
    low = value < low ? value : low;
    high = value > high ? value : high;
  }
  *least = sl_of_ordered(low);
  *greatest = sl_of_ordered(high);
}

// The nearest whole number from 0 to `highest`, as a float.
SL_INLINE float sl_nearest(float value, float highest) {
  value = value < 0 ? 0 : value > highest ? highest : value;
  return (float)(int32_t)(value + 0.5f);
}

// How much a weight counts: by its size, and by that of its block.
SL_INLINE void sl_size_weights(const float *x, int count, float *weights) {
  float squares = 0;
  for (int i = 0; i < count; i++) squares += x[i] * x[i];
  const float average = __builtin_sqrtf(squares / (float)count);
  for (int i = 0; i < count; i++) weights[i] = average + __builtin_fabsf(x[i]);
}

// x ≈ scale · quant + minimum, with quants from 0 to `highest`.
typedef struct {
  float scale, minimum, error;
} sl_affine;

SL_INLINE float sl_affine_error(const float *x, const float *weights, int count, float highest, sl_affine fit) {
  const float inverse = fit.scale > 0 ? 1 / fit.scale : 0;
  float error = 0;
  for (int i = 0; i < count; i++) {
    const float quant = sl_nearest((x[i] - fit.minimum) * inverse, highest);
    const float difference = fit.scale * quant + fit.minimum - x[i];
    error += weights[i] * difference * difference;
  }
  return error;
}

// The least squares for the quants that a scale and a minimum give; false where they determine none.
SL_INLINE bool sl_affine_solve(
    const float *x, const float *weights, int count, float highest, bool isSigned, float inverse, float minimum,
    sl_affine *fit) {
  float w = 0, wx = 0, wl = 0, wll = 0, wxl = 0;
  for (int i = 0; i < count; i++) {
    const float quant = sl_nearest((x[i] - minimum) * inverse, highest);
    const float weighted = weights[i] * quant;
    w += weights[i];
    wx += weights[i] * x[i];
    wl += weighted;
    wll += weighted * quant;
    wxl += weighted * x[i];
  }
  const float determinant = w * wll - wl * wl;
  if (!(determinant > 0)) return false;
  fit->scale = (w * wxl - wx * wl) / determinant;
  fit->minimum = (wll * wx - wl * wxl) / determinant;
  if (!isSigned && fit->minimum > 0) {
    fit->minimum = 0;
    fit->scale = wxl / wll;
  }
  if (!(fit->scale > 0)) return false;
  fit->error = sl_affine_error(x, weights, count, highest, *fit);
  return true;
}

// The best fit found; `isSigned` allows a minimum above 0.
SL_INLINE sl_affine sl_fit_affine(const float *x, const float *weights, int count, float highest, bool isSigned) {
  float least, greatest;
  sl_extremes(x, count, &least, &greatest);
  if (!isSigned && least > 0) least = 0;
  const float span = greatest - least;
  // A span so small would make the reciprocal infinite.
  if (!(span > 1e-30f)) return (sl_affine){0, isSigned || greatest < 0 ? least : 0, 0};
  sl_affine best = {span / highest, least, 0};
  best.error = sl_affine_error(x, weights, count, highest, best);
  for (int step = -10; step <= 12; step++) {
    sl_affine fit;
    const float inverse = (highest + 0.1f * (float)step) / span;
    if (!sl_affine_solve(x, weights, count, highest, isSigned, inverse, least, &fit)) continue;
    if (fit.error < best.error) best = fit;
  }
  // Quants by the solution, the solution by the quants, while that helps.
  for (int round = 0; round < 4; round++) {
    sl_affine fit;
    if (!sl_affine_solve(x, weights, count, highest, isSigned, 1 / best.scale, best.minimum, &fit)) break;
    if (!(fit.error < best.error)) break;
    best = fit;
  }
  return best;
}

// The scale for x ≈ scale · quant with quants from -half to half - 1; negative where the largest weight is positive, for
// the quants reach further below zero.
SL_INLINE float sl_fit_symmetric(const float *x, const float *weights, int count, float half) {
  float least, greatest;
  sl_extremes(x, count, &least, &greatest);
  const float largest = -least > greatest ? least : greatest;
  if (!(__builtin_fabsf(largest) > 1e-30f)) return 0;
  float scale = -largest / half, best = -1, inverse = 0;
  for (int step = -9; step <= 13; step++) {
    // The last steps start from the best scale so far.
    inverse = step <= 9 ? -(half + 0.1f * (float)step) / largest : 1 / scale;
    float wxl = 0, wll = 0;
    for (int i = 0; i < count; i++) {
      const float quant = sl_nearest(x[i] * inverse + half, 2 * half - 1) - half;
      wxl += weights[i] * x[i] * quant;
      wll += weights[i] * quant * quant;
    }
    // The error is what is left of the squares of x after this much.
    if (wll > 0 && wxl != 0 && wxl * wxl > best * wll) {
      best = wxl * wxl / wll;
      scale = wxl / wll;
    } else if (step > 9) {
      break;
    }
  }
  return scale;
}
