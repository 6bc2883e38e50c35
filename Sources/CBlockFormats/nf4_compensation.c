// GPTQ's recursion in NF4's code book, and what errors cost under correlated inputs: tiles of 64 × 64 numbers, each packed
// once for all the rows that are worked on.
#include "CBlockFormats.h"
#include "half.h"
#include <math.h>
#include <stdlib.h>

enum { tile = 64, vectors = 4 };
typedef float vector __attribute__((vector_size(64)));

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS void load(vector *to, const float *from) { memcpy(to, from, vectors * sizeof(vector)); }
ALWAYS void store(float *to, const vector *from) { memcpy(to, from, vectors * sizeof(vector)); }

/// sums += factors · block, of one or two rows.
ALWAYS void add_products(int rows, const float *const *factors, const float *block, float *const *sums) {
  vector sum[2][vectors];
  for (int r = 0; r < rows; r++) load(sum[r], sums[r]);
  for (int i = 0; i < tile; i++) {
    vector line[vectors];
    load(line, block + i * tile);
    for (int r = 0; r < rows; r++) {
      const float factor = factors[r][i];
      for (int v = 0; v < vectors; v++) sum[r][v] += factor * line[v];
    }
  }
  for (int r = 0; r < rows; r++) store(sums[r], sum[r]);
}

/// The same of `count` rows that lie `factor_stride` and `sum_stride` numbers apart.
ALWAYS void add_rows(
  int64_t count, const float *factors, int64_t factor_stride, const float *block, float *sums, int64_t sum_stride
) {
  int64_t r = 0;
  for (; r + 2 <= count; r += 2) {
    const float *const from[2] = {factors + r * factor_stride, factors + (r + 1) * factor_stride};
    float *const to[2] = {sums + r * sum_stride, sums + (r + 1) * sum_stride};
    add_products(2, from, block, to);
  }
  if (r < count) {
    const float *const from[1] = {factors + r * factor_stride};
    float *const to[1] = {sums + r * sum_stride};
    add_products(1, from, block, to);
  }
}

ALWAYS void pack(const float *matrix, int64_t width, float *block) {
  for (int i = 0; i < tile; i++) memcpy(block + i * tile, matrix + i * width, tile * sizeof(float));
}

// MARK: Rounding

/// The code of the value nearest to x.
ALWAYS int code_of(float x) {
  int low = 0, high = 15;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (x > sl_nf4_borders[middle]) low = middle + 1;
    else high = middle;
  }
  return low;
}

/// Takes 64 columns of one row to codes; `errors` receives what later columns are to make up for, with its sign turned.
ALWAYS double round_columns(
  float *work, const float *block, const int32_t *order, const float *scales, uint8_t *chosen, float *errors
) {
  double loss = 0;
  for (int j = 0; j < tile; j++) {
    const float scale = scales[order[j] / SL_NF4_BLOCK], *line = block + j * tile;
    const int code = code_of(work[j] * (1.0f / (scale > 1e-38f ? scale : 1e-38f)));
    const float error = (work[j] - sl_nf4_values[code] * scale) / line[j];
    chosen[order[j]] = (uint8_t)code;
    errors[j] = -error;
    loss += (double)error * (double)error;
    // Left of the diagonal the line holds zeros, and this column is done with.
    for (int k = 0; k < tile; k++) work[k] -= error * line[k];
  }
  return loss;
}

SL_KERNEL double sl_compensate_nf4(
  int64_t count, int64_t width, const float *rows, const int32_t *order, const float *factor, const float *absmax,
  uint8_t *codes
) {
  float *work = malloc((size_t)(count * width) * sizeof(float)), *errors = malloc((size_t)(count * tile) * sizeof(float));
  uint8_t *chosen = malloc((size_t)(count * width));
  double loss = 0;
  if (work == NULL || errors == NULL || chosen == NULL) {
    loss = NAN;
  } else {
    for (int64_t r = 0; r < count; r++)
      for (int64_t j = 0; j < width; j++) work[r * width + j] = rows[r * width + order[j]];
    float block[tile * tile];
    for (int64_t first = 0; first < width; first += tile) {
      pack(factor + first * width + first, width, block);
      for (int64_t r = 0; r < count; r++)
        loss += round_columns(
          work + r * width + first, block, order + first, absmax + r * (width / SL_NF4_BLOCK), chosen + r * width,
          errors + r * tile);
      for (int64_t next = first + tile; next < width; next += tile) {
        pack(factor + first * width + next, width, block);
        add_rows(count, errors, tile, block, work + next, width);
      }
    }
    for (int64_t i = 0; i < count * width / 2; i++) codes[i] = (uint8_t)(chosen[2 * i] << 4 | chosen[2 * i + 1]);
  }
  free(work);
  free(errors);
  free(chosen);
  return loss;
}

// MARK: What errors cost

SL_KERNEL double sl_quadratic_error(int64_t count, int64_t width, const float *errors, const float *h, double damping) {
  float *products = malloc((size_t)(count * tile) * sizeof(float));
  if (products == NULL) return NAN;
  double total = 0;
  float block[tile * tile];
  for (int64_t i = 0; i < count * width; i++) total += damping * (double)errors[i] * (double)errors[i];
  // The matrix equals its transpose: what lies beside the diagonal counts twice.
  for (int64_t row = 0; row < width; row += tile)
    for (int64_t column = row; column < width; column += tile) {
      memset(products, 0, (size_t)(count * tile) * sizeof(float));
      pack(h + row * width + column, width, block);
      add_rows(count, errors + row, width, block, products, tile);
      double sum = 0;
      for (int64_t r = 0; r < count; r++) {
        float sums[16] = {0};
        const float *product = products + r * tile, *error = errors + r * width + column;
        for (int k = 0; k < tile; k++) sums[k % 16] += product[k] * error[k];
        for (int k = 0; k < 16; k++) sum += (double)sums[k];
      }
      total += column == row ? sum : 2 * sum;
    }
  free(products);
  return total;
}
