// What the tasks of a forward group share. Internal.
#pragma once
#include <stdbool.h>
#include <string.h>

#include "include/linear.h"
#include "packed_matrix.h"
#include "panels.h"

enum { vector = 16 };

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t whole_vectors(int64_t n) { return (n + vector - 1) / vector * vector; }

static inline char *at(const void *base, int64_t row, int64_t ld, int64_t column, sl_dtype type) {
  return (char *)base + (size_t)(row * ld + column) * sl_dtype_size(type);
}

/// Copies s of `rows` from a task's own rows to where the caller keeps it.
static inline void keep(const sl_linear_part *p, int64_t row, int64_t rows, const uint16_t *own, int64_t ld) {
  if (p->s == NULL) return;
  for (int64_t r = 0; r < rows; r++)
    memcpy(at(p->s, row + r, p->lds, 0, SL_BF16), own + r * ld, (size_t)p->rank * 2);
}

/// Rows times columns: tiles of rows, the last ones cut finer so that all threads end together, and groups of panels
/// where the rows alone are too few for the threads.
typedef struct {
  int64_t rows, tile, tiles, whole_tiles, groups;
} grid;

typedef struct {
  grid grid;
  const void *x;
  int64_t ldx, inputs, width;  // width: columns of a task's own s
  int count, accumulate;
  const sl_linear_part *parts;
  void *act;
  int64_t ld_act;
  const uint32_t *a[sl_linear_most_parts], *b[sl_linear_most_parts];
} forward;

/// The group over `rows`, of whose matrices some lie in strips: a task dequantizes a panel and multiplies all rows with
/// it. Returns 0, or -1 without memory.
int sl_forward_from_strips(const forward *f, int64_t rows);
