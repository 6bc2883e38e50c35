// Which codes and which absmax a matrix gets in NF4 where more is known than the matrix: what its inputs are like.
#include "CBlockFormats.h"
#include "half.h"
#include <math.h>
#include <stdlib.h>

/// The code of the value nearest to x.
static int code_of(float x) {
  int low = 0, high = 15;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (x > sl_nf4_borders[middle]) low = middle + 1;
    else high = middle;
  }
  return low;
}

static float inverse_of(float absmax) { return 1.0f / (absmax > 1e-38f ? absmax : 1e-38f); }

// MARK: Absmax

SL_KERNEL void sl_search_absmax(
  const float *source, int64_t count, int64_t width, const float *importance, float *absmax
) {
  enum { fewest = 70, most = 110 };  // per cent of the largest magnitude
  for (int64_t block = 0; block < count / SL_NF4_BLOCK; block++) {
    const float *w = source + block * SL_NF4_BLOCK, *weight = importance + block * SL_NF4_BLOCK % width;
    float largest = 0;
    for (int i = 0; i < SL_NF4_BLOCK; i++) largest = fmaxf(largest, fabsf(w[i]));
    float best = largest, smallest_error = INFINITY;
    for (int percent = fewest; percent <= most && largest > 0; percent++) {
      const float candidate = largest * (float)percent / 100, inverse = inverse_of(candidate);
      float x[SL_NF4_BLOCK], value[SL_NF4_BLOCK];
      for (int i = 0; i < SL_NF4_BLOCK; i++) x[i] = w[i] * inverse, value[i] = sl_nf4_values[0];
      for (int border = 0; border < 15; border++) {
        const float limit = sl_nf4_borders[border], step = sl_nf4_values[border + 1] - sl_nf4_values[border];
        for (int i = 0; i < SL_NF4_BLOCK; i++) value[i] += x[i] > limit ? step : 0;
      }
      float errors[16] = {0}, error = 0;
      for (int i = 0; i < SL_NF4_BLOCK; i++) {
        const float difference = value[i] * candidate - w[i];
        errors[i % 16] += weight[i] * difference * difference;
      }
      for (int i = 0; i < 16; i++) error += errors[i];
      if (error < smallest_error) smallest_error = error, best = candidate;
    }
    absmax[block] = best;
  }
}

SL_KERNEL void sl_quantize_nf4_to(const float *source, int64_t count, const float *absmax, uint8_t *codes) {
  for (int64_t block = 0; block < count / SL_NF4_BLOCK; block++) {
    const float *w = source + block * SL_NF4_BLOCK, inverse = inverse_of(absmax[block]);
    float x[SL_NF4_BLOCK];
    int32_t code[SL_NF4_BLOCK] = {0};
    for (int i = 0; i < SL_NF4_BLOCK; i++) x[i] = w[i] * inverse;
    for (int border = 0; border < 15; border++) {
      const float limit = sl_nf4_borders[border];
      for (int i = 0; i < SL_NF4_BLOCK; i++) code[i] += x[i] > limit;
    }
    for (int i = 0; i < SL_NF4_BLOCK / 2; i++)
      codes[block * SL_NF4_BLOCK / 2 + i] = (uint8_t)(code[2 * i] << 4 | code[2 * i + 1]);
  }
}

// MARK: Compensation

enum { panel = 64 };

SL_KERNEL static void subtract_panel(
  float *restrict row, const float *errors, const float *factor, int64_t width, int64_t first, int64_t end
) {
  for (int64_t j = first; j < end; j += 4) {
    const float *r0 = factor + j * width, *r1 = r0 + width, *r2 = r1 + width, *r3 = r2 + width;
    const float e0 = errors[j - first], e1 = errors[j - first + 1], e2 = errors[j - first + 2], e3 = errors[j - first + 3];
    for (int64_t k = end; k < width; k++) row[k] -= e0 * r0[k] + e1 * r1[k] + e2 * r2[k] + e3 * r3[k];
  }
}

double sl_compensate_nf4(
  int64_t count, int64_t width, const float *rows, const int32_t *order, const float *factor, const float *absmax,
  uint8_t *codes
) {
  float *work = malloc((size_t)width * sizeof(float));
  uint8_t *chosen = malloc((size_t)width);
  double loss = 0;
  if (work == NULL || chosen == NULL) loss = NAN;
  for (int64_t r = 0; r < count && work != NULL && chosen != NULL; r++) {
    const float *scales = absmax + r * (width / SL_NF4_BLOCK);
    for (int64_t j = 0; j < width; j++) work[j] = rows[r * width + order[j]];
    for (int64_t first = 0; first < width; first += panel) {
      const int64_t end = first + panel;
      float errors[panel];
      for (int64_t j = first; j < end; j++) {
        const float scale = scales[order[j] / SL_NF4_BLOCK], *r0 = factor + j * width;
        const int code = code_of(work[j] * inverse_of(scale));
        const float error = (work[j] - sl_nf4_values[code] * scale) / r0[j];
        chosen[order[j]] = (uint8_t)code;
        errors[j - first] = error;
        loss += (double)error * (double)error;
        for (int64_t k = j + 1; k < end; k++) work[k] -= error * r0[k];
      }
      subtract_panel(work, errors, factor, width, first, end);
    }
    for (int64_t i = 0; i < width / 2; i++)
      codes[r * (width / 2) + i] = (uint8_t)(chosen[2 * i] << 4 | chosen[2 * i + 1]);
  }
  free(work);
  free(chosen);
  return loss;
}

SL_KERNEL static double dot(const double *a, const double *b, int64_t n) {
  double sums[8] = {0}, total = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; j++) sums[j] += a[i + j] * b[i + j];
  for (; i < n; i++) sums[0] += a[i] * b[i];
  for (int j = 0; j < 8; j++) total += sums[j];
  return total;
}

SL_KERNEL static void add_scaled(double *restrict to, const double *from, double factor, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += factor * from[i];
}

int sl_inverse_factor(int64_t n, const float *h, const int32_t *order, double damping, float *factor) {
  double *l = malloc((size_t)(n * n) * sizeof(double)), *x = calloc((size_t)(n * n), sizeof(double));
  int status = l == NULL || x == NULL ? -1 : 0;
  // From the last column to the first: the inverse of that triangle, turned back, is the one that is wanted.
  for (int64_t i = 0; i < n && status == 0; i++)
    for (int64_t j = 0; j <= i; j++) {
      const int64_t row = order[n - 1 - i], column = order[n - 1 - j];
      // The two halves differ by the rounding of sums.
      l[i * n + j] = 0.5 * ((double)h[row * n + column] + (double)h[column * n + row]) + (i == j ? damping : 0);
    }
  for (int64_t i = 0; i < n && status == 0; i++)
    for (int64_t j = 0; j <= i; j++) {
      const double rest = l[i * n + j] - dot(l + i * n, l + j * n, j);
      if (i == j) {
        if (!(rest > 0)) status = -2;
        l[i * n + i] = sqrt(rest);
      } else {
        l[i * n + j] = rest / l[j * n + j];
      }
    }
  for (int64_t i = 0; i < n && status == 0; i++) {
    const double inverse = 1 / l[i * n + i];
    for (int64_t k = 0; k < i; k++) add_scaled(x + i * n, x + k * n, -l[i * n + k] * inverse, k + 1);
    x[i * n + i] = inverse;
  }
  for (int64_t i = 0; i < n && status == 0; i++)
    for (int64_t j = 0; j < n; j++) factor[i * n + j] = j < i ? 0 : (float)x[(n - 1 - i) * n + n - 1 - j];
  free(l);
  free(x);
  return status;
}

SL_KERNEL double sl_quadratic_error(int64_t count, int64_t width, const float *errors, const float *h, double damping) {
  double total = 0;
  float *product = malloc((size_t)width * sizeof(float));
  if (product == NULL) return NAN;
  for (int64_t r = 0; r < count; r++) {
    const float *e = errors + r * width;
    memset(product, 0, (size_t)width * sizeof(float));
    for (int64_t i = 0; i < width; i++) {
      const float factor = e[i], *row = h + i * width;
      for (int64_t j = 0; j < width; j++) product[j] += factor * row[j];
    }
    for (int64_t i = 0; i < width; i++) total += (double)e[i] * ((double)product[i] + damping * (double)e[i]);
  }
  free(product);
  return total;
}
