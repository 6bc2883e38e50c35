// The backward pass of linear layers with their low-rank pairs: the gradient of what a group reads, in one sum.
#include "include/linear.h"
#include "include/swiglu.h"
#include "include/threads.h"
#include "kept_bits.h"
#include "linear_tasks.h"
#include "scratch.h"

typedef struct {
  grid grid;
  int64_t inputs, lddx, ld_gate, width;
  int count;
  const sl_linear_part *parts;
  void *dx, *gate, *up;
  sl_dtype dx_type;
  const uint32_t *a[sl_linear_most_parts], *b[sl_linear_most_parts];
} backward;

/// A term from a row and a panel on.
static sl_term part_of(const sl_term *term, int64_t row, int64_t panel) {
  return (sl_term){at(term->a, row, term->lda, 0, SL_BF16), term->lda, term->units,
                   term->panels + panel * panel_columns * term->units};
}

enum { mask_rows = 64, mask_panels = 2 };

/// dx of a cell, of which some terms pass only where dropout kept x: those are summed first, some columns of some rows at a
/// time, and the others onto them.
static void add_masked(const backward *f, const cell *c, int count, const sl_term *terms, int masked_count,
                       const sl_term *masked, const sl_drop *const *drops) {
  enum { width = mask_panels * panel_columns };
  _Alignas(64) float sums[mask_rows * width], through[mask_rows * width];
  const int64_t end = end_panel(c, f->inputs);
  for (int64_t panel = first_panel(c, f->inputs); panel < end; panel += mask_panels) {
    const int64_t panels = min_of(mask_panels, end - panel), column = panel * panel_columns;
    const int64_t columns = min_of(panels * panel_columns, f->inputs - column);
    for (int64_t r = 0; r < c->rows; r += mask_rows) {
      const int64_t rows = min_of(mask_rows, c->rows - r);
      memset(sums, 0, sizeof sums);
      for (int j = 0; j < masked_count; j++) {
        const sl_term term = part_of(&masked[j], r, panel);
        sl_panel_product(rows, 1, &term, columns, 0, panels, through, SL_F32, width, 0);
        sl_drop drop = *drops[j];
        drop.first_row += c->row + r;
        sl_drop_tile_backward(rows, columns, f->inputs, column, through, width, sums, width, &drop);
      }
      sl_term others[2 * sl_linear_most_parts];
      for (int j = 0; j < count; j++) others[j] = part_of(&terms[j], r, panel);
      sl_panel_product_onto(rows, count, others, columns, 0, panels, sums, width,
                            at(f->dx, c->row + r, f->lddx, column, f->dx_type), f->dx_type, f->lddx);
    }
  }
}

static void backward_task(void *context, int64_t task, int thread) {
  const backward *f = context;
  (void)thread;
  cell c = cell_of(&f->grid, task);
  _Alignas(64) uint16_t own[c.rows * f->width + 1];
  sl_term terms[2 * sl_linear_most_parts], masked[sl_linear_most_parts];
  const sl_drop *drops[sl_linear_most_parts];
  int count = 0, masked_count = 0;
  int64_t offset = 0;
  for (int j = 0; j < f->count; j++) {
    const sl_linear_part *p = &f->parts[j];
    int64_t rank = whole_vectors(p->rank), outputs = sl_packed_rows(p->w);
    sl_term dy = {at(p->y, c.row, p->ldy, 0, SL_BF16), p->ldy, outputs / 2, sl_packed_panels(p->w)};
    terms[count++] = dy;
    if (rank == 0) continue;
    dy.panels = f->b[j];
    sl_panel_product(c.rows, 1, &dy, rank, 0, sl_panel_count(rank), own + offset, SL_BF16, f->width, 0);
    if (c.group == 0) keep(p, c.row, c.rows, own + offset, f->width);
    const sl_term through = {own + offset, f->width, (p->rank + 1) / 2, f->a[j]};
    if (p->drop.probability > 0)
      masked[masked_count] = through, drops[masked_count++] = &p->drop;
    else
      terms[count++] = through;
    offset += rank;
  }
  if (f->dx == NULL) return;
  int64_t n = f->inputs, first = first_panel(&c, n), end = end_panel(&c, n);
  if (masked_count > 0)
    add_masked(f, &c, count, terms, masked_count, masked, drops);
  else
    sl_panel_product(c.rows, count, terms, n, first, end, at(f->dx, c.row, f->lddx, 0, f->dx_type), f->dx_type, f->lddx,
                     0);
  if (f->gate == NULL) return;
  first *= panel_columns;
  void *gate = at(f->gate, c.row, f->ld_gate, first, SL_BF16), *up = at(f->up, c.row, f->ld_gate, first, SL_BF16);
  void *dx = at(f->dx, c.row, f->lddx, first, SL_BF16);
  sl_swiglu_backward(c.rows, min_of(n, end * panel_columns) - first, gate, up, f->ld_gate, dx, f->lddx, gate, up,
                     f->ld_gate, dx, f->lddx, SL_BF16);
}

int sl_linear_backward(int64_t rows, int count, const sl_linear_part *parts, void *dx, sl_dtype dx_type, int64_t lddx,
                       int64_t inputs, void *gate, void *up, int64_t ld_gate) {
  backward f = {.inputs = inputs, .lddx = lddx, .ld_gate = ld_gate, .count = count, .parts = parts, .dx = dx,
                .gate = gate, .up = up, .dx_type = dx_type};
  int64_t units = 0;
  size_t b_size = 0;
  for (int j = 0; j < count; j++) {
    int64_t rank = whole_vectors(parts[j].rank);
    f.width += rank;
    b_size += sl_packed_matrix_size(parts[j].w);
    if (rank > 0) units += sl_panel_units(sl_packed_rows(parts[j].w), rank) + sl_panel_units(rank, inputs);
  }
  uint32_t *scratch = units > 0 ? sl_take_scratch((size_t)units * sizeof *scratch) : NULL, *room = scratch;
  if (units > 0 && scratch == NULL) return -1;
  packing packings[2 * sl_linear_most_parts];
  int packed = 0;
  for (int j = 0; j < count; j++) {
    const sl_linear_part *p = &parts[j];
    int64_t rank = whole_vectors(p->rank), outputs = sl_packed_rows(p->w);
    if (rank == 0) continue;
    packings[packed++] = (packing){p->b, outputs, p->rank, p->rank, 0, room};
    f.b[j] = room, room += sl_panel_units(outputs, rank);
    packings[packed++] = (packing){p->a, p->rank, inputs, inputs, 0, room};
    f.a[j] = room, room += sl_panel_units(rank, inputs);
  }
  sl_pack_parts(packed, packings);
  f.grid = sl_grid_of(rows, dx == NULL ? 1 : sl_panel_count(inputs), b_size, f.width);
  sl_parallel(f.grid.tiles * f.grid.groups, backward_task, &f);
  sl_return_scratch(scratch);
  return 0;
}
