// The triangle of a matrix's inverse that GPTQ's recursion reads, in steps that threads share: Cholesky's factor column by
// column of tiles, each row on its own, then the inverse of that factor, each column of tiles on its own.
#include "CBlockFormats.h"
#include "half.h"
#include <math.h>
#include <stdlib.h>

enum { tile = SL_FACTOR_TILE, lanes = 8 };
typedef double vector __attribute__((vector_size(64)));

#define ALWAYS static inline __attribute__((always_inline))

// By address: as arguments, vectors would be passed in registers that the baseline processor lacks.
ALWAYS void load(vector *to, const double *from) { memcpy(to, from, sizeof *to); }

ALWAYS double total(const vector *v) {
  double sum = 0;
  for (int i = 0; i < lanes; i++) sum += (*v)[i];
  return sum;
}

void sl_reversed_triangle(
  int64_t n, const float *h, const int32_t *order, double damping, int64_t first, int64_t end, double *l
) {
  for (int64_t i = first; i < end; i++)
    for (int64_t j = 0; j <= i; j++) {
      const int64_t row = order[n - 1 - i], column = order[n - 1 - j];
      // The two halves differ by the rounding of sums.
      l[i * n + j] = 0.5 * ((double)h[row * n + column] + (double)h[column * n + row]) + (i == j ? damping : 0);
    }
}

/// Of `rows` rows and two columns: l[i][j] −= Σ l[i][k] · l[j][k] over the k before `done`.
ALWAYS void subtract_dots(int rows, int64_t n, double *l, int64_t i, int64_t j, int64_t done) {
  vector sum[4][2] = {{{0}}};
  for (int64_t k = 0; k < done; k += lanes) {
    vector a, b, x;
    load(&a, l + j * n + k);
    load(&b, l + (j + 1) * n + k);
    for (int r = 0; r < rows; r++) {
      load(&x, l + (i + r) * n + k);
      sum[r][0] += x * a;
      sum[r][1] += x * b;
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < 2; c++) l[(i + r) * n + j + c] -= total(&sum[r][c]);
}

SL_KERNEL void sl_cholesky_subtract(int64_t n, double *l, int64_t column, int64_t first, int64_t end) {
  for (int64_t j = column; j < column + tile; j += 2) {
    int64_t i = first;
    for (; i + 4 <= end; i += 4) subtract_dots(4, n, l, i, j, column);
    for (; i < end; i++) subtract_dots(1, n, l, i, j, column);
  }
}

/// The rest of a row's columns in a tile, those of the rows above being done.
ALWAYS void solve_row(int64_t n, double *l, int64_t column, int64_t i, int64_t end) {
  for (int64_t j = column; j < end; j++) {
    double rest = l[i * n + j];
    for (int64_t k = column; k < j; k++) rest -= l[i * n + k] * l[j * n + k];
    l[i * n + j] = rest / l[j * n + j];
  }
}

SL_KERNEL int sl_cholesky_diagonal(int64_t n, double *l, int64_t column) {
  for (int64_t i = column; i < column + tile; i++) {
    solve_row(n, l, column, i, i);
    double rest = l[i * n + i];
    for (int64_t k = column; k < i; k++) rest -= l[i * n + k] * l[i * n + k];
    if (!(rest > 0)) return -2;
    l[i * n + i] = sqrt(rest);
  }
  return 0;
}

SL_KERNEL void sl_cholesky_solve(int64_t n, double *l, int64_t column, int64_t first, int64_t end) {
  for (int64_t i = first; i < end; i++) solve_row(n, l, column, i, column + tile);
}

/// Four rows and 16 columns of the inverse: x −= Σ l · x over the rows from `column` to before `i`.
ALWAYS void subtract_rows(int64_t n, const double *l, int64_t column, int64_t i, double *x) {
  vector sum[4][2] = {{{0}}};
  for (int64_t k = column; k < i; k++) {
    const double *line = x + (k - column) * tile;
    vector a, b;
    load(&a, line);
    load(&b, line + lanes);
    for (int r = 0; r < 4; r++) {
      const double factor = l[(i + r) * n + k];
      sum[r][0] += factor * a;
      sum[r][1] += factor * b;
    }
  }
  for (int r = 0; r < 4; r++) {
    double *line = x + (i + r - column) * tile;
    for (int c = 0; c < 2; c++) {
      vector rest;
      load(&rest, line + c * lanes);
      rest -= sum[r][c];
      memcpy(line + c * lanes, &rest, sizeof rest);
    }
  }
}

SL_KERNEL int sl_inverse_columns(int64_t n, const double *l, int64_t column, float *factor) {
  double *x = calloc((size_t)((n - column) * tile), sizeof(double));
  if (x == NULL) return -1;
  for (int j = 0; j < tile; j++) x[j * tile + j] = 1;
  for (int64_t i = column; i < n; i += 4) {
    for (int c = 0; c < tile; c += 2 * lanes) subtract_rows(n, l, column, i, x + c);
    for (int64_t r = i; r < i + 4; r++) {
      double *line = x + (r - column) * tile;
      for (int64_t k = i; k < r; k++)
        for (int c = 0; c < tile; c++) line[c] -= l[r * n + k] * x[(k - column) * tile + c];
      for (int c = 0; c < tile; c++) line[c] /= l[r * n + r];
    }
  }
  // Turned back, it is the triangle that is wanted.
  for (int64_t i = 0; i < n; i++)
    for (int j = 0; j < tile; j++)
      factor[(n - 1 - i) * n + n - 1 - column - j] = i < column + j ? 0 : (float)x[(i - column) * tile + j];
  free(x);
  return 0;
}
