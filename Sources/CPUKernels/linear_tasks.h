// What the tasks of a group of linear layers share: grids of rows and panels, packing, the forward group. Internal.
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

grid sl_grid_of(int64_t rows, int64_t panels, size_t b_size, int64_t width);

/// A task's rows, and its share of the panels.
typedef struct {
  int64_t row, rows, group, groups;
} cell;

enum { fine_rows = 16 };

static inline cell cell_of(const grid *g, int64_t task) {
  int64_t index = task % g->tiles, fine = max_of(0, index - g->whole_tiles);
  int64_t row = (index - fine) * g->tile + fine * fine_rows, tile = index < g->whole_tiles ? g->tile : fine_rows;
  return (cell){row, min_of(tile, g->rows - row), task / g->tiles, g->groups};
}
static inline int64_t first_panel(const cell *c, int64_t n) { return sl_panel_count(n) * c->group / c->groups; }
static inline int64_t end_panel(const cell *c, int64_t n) { return sl_panel_count(n) * (c->group + 1) / c->groups; }

/// A right-hand side on its way into panels, as `sl_pack_panel` takes it.
typedef struct {
  const void *source;
  int64_t k, n, ld;
  int transposed;
  uint32_t *panels;
} packing;

void sl_pack_parts(int count, const packing *parts);

typedef struct {
  grid grid;
  const void *x;
  int64_t ldx, inputs, width;  // width: columns of a task's own s
  int count, accumulate;
  const sl_linear_part *parts;
  void *act;
  int64_t ld_act;
  /// s of all parts, [rows, width], where it is made before the group's tasks; else each makes its own.
  uint16_t *low;
  const uint32_t *a[sl_linear_most_parts], *b[sl_linear_most_parts];
} forward;

/// Makes `low` of all rows, from what dropout leaves of x where a part drops; `room` is needed then alone.
void sl_low_products(const forward *f, int64_t rows, uint16_t *room);
/// The uint32 of its room.
int64_t sl_low_room_units(int64_t inputs);

/// The group over `rows`, of whose matrices some lie in strips, after its `low`: a task dequantizes a panel and multiplies
/// all rows with it. Returns 0, or -1 without memory.
int sl_forward_from_strips(const forward *f, int64_t rows);
