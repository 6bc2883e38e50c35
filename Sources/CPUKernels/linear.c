// Linear layers with their low-rank pairs: a task makes some rows of all that a group of matrices yields, while the rows
// are in its cache. The pair is part of the same sum: [x | x·Aᵀ] · [W | B]ᵀ, so that results are written once.
#include "include/linear.h"

#include "include/strips.h"
#include "include/swiglu.h"
#include "include/threads.h"
#include "linear_tasks.h"
#include "scratch.h"

int sl_linear_is_fused(const sl_packed_matrix *w) {
  return sl_packed_panels(w) != NULL || (sl_is_in_blocks(w) && sl_packed_type(w) == SL_BF16 && sl_uses_panels());
}
int64_t sl_linear_inputs(const sl_packed_matrix *w) { return sl_packed_columns(w); }

// MARK: Tasks

grid sl_grid_of(int64_t rows, int64_t panels, size_t b_size, int64_t width) {
  // A tile of 64 rows and its results stay in the second cache. A matrix that no cache holds is read once per tile.
  bool large = b_size > (size_t)8 << 20;
  // Each group reads all rows again, which counts where few panels stand against a long sum.
  int64_t most = large && width <= 256 ? 256 : 64, wanted = (large && panels < 64 ? 2 : 4) * sl_thread_count();
  grid g = {.rows = rows, .tiles = (rows + most - 1) / most};
  g.tile = whole_vectors((rows + g.tiles - 1) / g.tiles);
  g.tiles = g.whole_tiles = (rows + g.tile - 1) / g.tile;
  g.groups = g.tiles >= wanted ? 1 : max_of(1, min_of(panels, (wanted + g.tiles - 1) / g.tiles));
  if (g.groups == 1 && !large && g.tile > fine_rows) {
    g.whole_tiles = max_of(0, g.tiles - 2 * sl_thread_count());
    g.tiles = g.whole_tiles + (rows - g.whole_tiles * g.tile + fine_rows - 1) / fine_rows;
  }
  return g;
}

typedef struct {
  const packing *parts;
  int count;
} packing_job;

static void pack_task(void *context, int64_t task, int thread) {
  const packing_job *job = context;
  (void)thread;
  for (int i = 0; i < job->count; i++) {
    const packing *p = &job->parts[i];
    int64_t panels = sl_panel_count(p->n);
    if (task < panels) {
      sl_pack_panel(p->k, p->n, p->source, p->ld, p->transposed, task, p->panels);
      return;
    }
    task -= panels;
  }
}

void sl_pack_parts(int count, const packing *parts) {
  packing_job job = {parts, count};
  int64_t tasks = 0;
  for (int i = 0; i < count; i++) tasks += sl_panel_count(parts[i].n);
  sl_parallel(tasks, pack_task, &job);
}

// MARK: Forward

static void forward_task(void *context, int64_t task, int thread) {
  const forward *f = context;
  (void)thread;
  cell c = cell_of(&f->grid, task);
  _Alignas(64) uint16_t room[f->low != NULL ? 1 : c.rows * f->width + 1];
  uint16_t *own = f->low != NULL ? f->low + c.row * f->width : room;
  const void *x = at(f->x, c.row, f->ldx, 0, SL_BF16);
  int64_t offset = 0;
  for (int j = 0; j < f->count; j++) {
    const sl_linear_part *p = &f->parts[j];
    int64_t rank = whole_vectors(p->rank);
    sl_term terms[2] = {{x, f->ldx, f->inputs / 2, sl_packed_panels(p->w)},
                        {own + offset, f->width, (p->rank + 1) / 2, f->b[j]}};
    if (rank > 0 && f->low == NULL) {
      sl_term low = {x, f->ldx, f->inputs / 2, f->a[j]};
      sl_panel_product(c.rows, 1, &low, rank, 0, sl_panel_count(rank), own + offset, SL_BF16, f->width, 0);
      if (c.group == 0) keep(p, c.row, c.rows, own + offset, f->width);
    }
    offset += rank;
    if (p->w == NULL) continue;
    int64_t n = sl_packed_columns(p->w);
    sl_panel_product(c.rows, rank > 0 ? 2 : 1, terms, n, first_panel(&c, n), end_panel(&c, n),
                     at(p->y, c.row, p->ldy, 0, p->y_type), p->y_type, p->ldy, f->accumulate);
  }
  if (f->act == NULL) return;
  const sl_linear_part *gate = &f->parts[0], *up = &f->parts[1];
  int64_t n = sl_packed_columns(gate->w), first = first_panel(&c, n) * panel_columns;
  int64_t columns = min_of(n, end_panel(&c, n) * panel_columns) - first;
  sl_swiglu_forward(c.rows, columns, at(gate->y, c.row, gate->ldy, first, SL_BF16),
                    at(up->y, c.row, up->ldy, first, SL_BF16), gate->ldy,
                    at(f->act, c.row, f->ld_act, first, SL_BF16), f->ld_act, SL_BF16);
}

int sl_linear_forward(int64_t rows, const void *x, int64_t ldx, int64_t inputs, int count, const sl_linear_part *parts,
                      int accumulate, void *act, int64_t ld_act) {
  forward f = {.x = x, .ldx = ldx, .inputs = inputs, .count = count, .accumulate = accumulate, .parts = parts,
               .act = act, .ld_act = ld_act};
  int64_t panels = 1, units = 0;
  size_t b_size = 0;
  bool from_strips = false, drops = false;
  for (int j = 0; j < count; j++) {
    const sl_linear_part *p = &parts[j];
    int64_t rank = whole_vectors(p->rank), n = p->w == NULL ? 0 : sl_packed_columns(p->w);
    from_strips |= sl_is_in_blocks(p->w);
    drops |= rank > 0 && p->drop.probability > 0;
    f.width += rank;
    panels = max_of(panels, sl_panel_count(n));
    if (p->w != NULL) b_size += sl_packed_matrix_size(p->w);
    if (rank > 0) units += sl_panel_units(inputs, rank) + (p->w == NULL ? 0 : sl_panel_units(rank, n));
  }
  // s made beforehand lies behind the panels, and behind it the room to make it.
  const bool is_ahead = f.width > 0 && (from_strips || drops);
  const int64_t panel_units = units, low_units = is_ahead ? whole_vectors((rows * f.width + 1) / 2) : 0;
  units += low_units + (drops ? sl_low_room_units(inputs) : 0);
  uint32_t *scratch = units > 0 ? sl_take_scratch((size_t)units * sizeof *scratch) : NULL, *room = scratch;
  if (units > 0 && scratch == NULL) return -1;
  packing packings[2 * sl_linear_most_parts];
  int packed = 0;
  for (int j = 0; j < count; j++) {
    const sl_linear_part *p = &parts[j];
    int64_t rank = whole_vectors(p->rank), n = p->w == NULL ? 0 : sl_packed_columns(p->w);
    if (rank == 0) continue;
    packings[packed++] = (packing){p->a, inputs, p->rank, inputs, 1, room};
    f.a[j] = room, room += sl_panel_units(inputs, rank);
    if (p->w == NULL) continue;
    packings[packed++] = (packing){p->b, p->rank, n, p->rank, 1, room};
    f.b[j] = room, room += sl_panel_units(rank, n);
  }
  sl_pack_parts(packed, packings);
  int status = 0;
  if (is_ahead) {
    f.low = (uint16_t *)(scratch + panel_units);
    sl_low_products(&f, rows, (uint16_t *)(scratch + panel_units + low_units));
  }
  if (from_strips) {
    status = sl_forward_from_strips(&f, rows);
  } else {
    f.grid = sl_grid_of(rows, panels, b_size, f.width);
    sl_parallel(f.grid.tiles * f.grid.groups, forward_task, &f);
  }
  sl_return_scratch(scratch);
  return status;
}
