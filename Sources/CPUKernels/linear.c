// Linear layers with their low-rank pairs: a task makes some rows of all that a group of matrices yields, while the rows
// are in its cache. The pair is part of the same sum: [x | x·Aᵀ] · [W | B]ᵀ, so that results are written once.
#include "include/linear.h"

#include "include/strips.h"
#include "include/swiglu.h"
#include "include/threads.h"
#include "linear_forward.h"
#include "scratch.h"

int sl_linear_is_fused(const sl_packed_matrix *w) {
  return sl_packed_panels(w) != NULL || (sl_is_in_blocks(w) && sl_packed_type(w) == SL_BF16 && sl_uses_panels());
}
int64_t sl_linear_inputs(const sl_packed_matrix *w) { return sl_packed_columns(w); }

// MARK: Tasks

enum { fine_rows = 16 };

static grid grid_of(int64_t rows, int64_t panels, size_t b_size, int64_t width) {
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

/// A task's rows, and its share of the panels.
typedef struct {
  int64_t row, rows, group, groups;
} cell;

static cell cell_of(const grid *g, int64_t task) {
  int64_t index = task % g->tiles, fine = max_of(0, index - g->whole_tiles);
  int64_t row = (index - fine) * g->tile + fine * fine_rows, tile = index < g->whole_tiles ? g->tile : fine_rows;
  return (cell){row, min_of(tile, g->rows - row), task / g->tiles, g->groups};
}
static int64_t first_panel(const cell *c, int64_t n) { return sl_panel_count(n) * c->group / c->groups; }
static int64_t end_panel(const cell *c, int64_t n) { return sl_panel_count(n) * (c->group + 1) / c->groups; }

typedef struct {
  const void *source;
  int64_t k, n, ld;
  int transposed;
  uint32_t *panels;
} packing;

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

static void pack(int count, const packing *parts) {
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
  _Alignas(64) uint16_t own[c.rows * f->width + 1];
  const void *x = at(f->x, c.row, f->ldx, 0, SL_BF16);
  int64_t offset = 0;
  for (int j = 0; j < f->count; j++) {
    const sl_linear_part *p = &f->parts[j];
    int64_t rank = whole_vectors(p->rank);
    sl_term terms[2] = {{x, f->ldx, f->inputs / 2, sl_packed_panels(p->w)},
                        {own + offset, f->width, (p->rank + 1) / 2, f->b[j]}};
    if (rank > 0) {
      sl_term low = {x, f->ldx, f->inputs / 2, f->a[j]};
      sl_panel_product(c.rows, 1, &low, rank, 0, sl_panel_count(rank), own + offset, SL_BF16, f->width, 0);
      if (c.group == 0) keep(p, c.row, c.rows, own + offset, f->width);
      offset += rank;
    }
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
  bool from_strips = false;
  for (int j = 0; j < count; j++) {
    const sl_linear_part *p = &parts[j];
    int64_t rank = whole_vectors(p->rank), n = p->w == NULL ? 0 : sl_packed_columns(p->w);
    from_strips |= sl_is_in_blocks(p->w);
    f.width += rank;
    panels = max_of(panels, sl_panel_count(n));
    if (p->w != NULL) b_size += sl_packed_matrix_size(p->w);
    if (rank > 0) units += sl_panel_units(inputs, rank) + (p->w == NULL ? 0 : sl_panel_units(rank, n));
  }
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
  pack(packed, packings);
  int status = 0;
  if (from_strips) {
    status = sl_forward_from_strips(&f, rows);
  } else {
    f.grid = grid_of(rows, panels, b_size, f.width);
    sl_parallel(f.grid.tiles * f.grid.groups, forward_task, &f);
  }
  sl_return_scratch(scratch);
  return status;
}

// MARK: Backward

typedef struct {
  grid grid;
  int64_t inputs, lddx, ld_gate, width;
  int count;
  const sl_linear_part *parts;
  void *dx, *gate, *up;
  sl_dtype dx_type;
  const uint32_t *a[sl_linear_most_parts], *b[sl_linear_most_parts];
} backward;

static void backward_task(void *context, int64_t task, int thread) {
  const backward *f = context;
  (void)thread;
  cell c = cell_of(&f->grid, task);
  _Alignas(64) uint16_t own[c.rows * f->width + 1];
  sl_term terms[2 * sl_linear_most_parts];
  int count = 0;
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
    terms[count++] = (sl_term){own + offset, f->width, (p->rank + 1) / 2, f->a[j]};
    offset += rank;
  }
  if (f->dx == NULL) return;
  int64_t n = f->inputs, first = first_panel(&c, n), end = end_panel(&c, n);
  sl_panel_product(c.rows, count, terms, n, first, end, at(f->dx, c.row, f->lddx, 0, f->dx_type), f->dx_type, f->lddx, 0);
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
  pack(packed, packings);
  f.grid = grid_of(rows, dx == NULL ? 1 : sl_panel_count(inputs), b_size, f.width);
  sl_parallel(f.grid.tiles * f.grid.groups, backward_task, &f);
  sl_return_scratch(scratch);
  return 0;
}

// MARK: Gradients of the pairs

// A run of parts that read the same x: their ranks lie side by side.
typedef struct {
  int first, count;
  int64_t width, strips, chunks;  // ranks, in whole vectors; tasks along the columns; tasks along the ranks
  uint32_t *pairs;                // [(tokens + 1) / 2, width]
} sum_group;

enum {
  most_sums = 2 * sl_linear_most_parts,
  chunk_ranks = 48,
  most_panels = 4,  // of a task: rows are then read by several lines at a time
};

typedef struct {
  int64_t tokens, panels;  // panels: of a task
  int count;
  const sl_token_sum *parts;
  sum_group groups[most_sums];
} sum_job;

static void sum_task(void *context, int64_t task, int thread) {
  const sum_job *job = context;
  (void)thread;
  const sum_group *g = job->groups;
  for (; task >= g->strips * g->chunks; g++) task -= g->strips * g->chunks;
  const sl_token_sum *parts = job->parts + g->first;
  const int64_t width = job->panels * panel_columns, column = task / g->chunks * width;
  const int64_t rank = task % g->chunks * chunk_ranks;
  const int64_t columns = min_of(width, parts->columns - column), ranks = min_of(chunk_ranks, g->width - rank);
  _Alignas(64) float sums[most_panels * chunk_ranks * panel_columns];
  sl_panel_token_sums(job->tokens, ranks, g->pairs + rank, g->width, (const uint16_t *)parts->x + column, parts->ldx,
                      columns, sums);
  int64_t begin = -rank;  // of a part's ranks in `sums`
  for (int i = 0; i < g->count; begin += whole_vectors(parts[i++].rank)) {
    const sl_token_sum *p = &parts[i];
    for (int64_t r = max_of(0, -begin); r < p->rank && begin + r < ranks; r++)
      for (int64_t j = 0; j < columns; j++) {
        int64_t panel = j / panel_columns, to = column + j;
        p->sums[p->transposed ? to * p->rank + r : r * p->columns + to] +=
            sums[(panel * ranks + begin + r) * panel_columns + j % panel_columns];
      }
  }
}

int sl_token_sums(int64_t tokens, int count, const sl_token_sum *parts) {
  if (tokens <= 0 || count <= 0) return 0;
  sum_job job = {.tokens = tokens, .parts = parts};
  int64_t units = 0, panels = 0, tasks = 0, rows = (tokens + 1) / 2;
  for (int i = 0; i < count; i++) {
    if (i == 0 || parts[i].x != parts[i - 1].x) job.groups[job.count++] = (sum_group){.first = i};
    sum_group *g = &job.groups[job.count - 1];
    g->count++;
    g->width += whole_vectors(parts[i].rank);
    units += rows * whole_vectors(parts[i].rank);
  }
  uint32_t *scratch = sl_take_scratch((size_t)units * sizeof *scratch), *room = scratch;
  if (scratch == NULL) return -1;
  for (int i = 0; i < job.count; i++) {
    sum_group *g = &job.groups[i];
    g->pairs = room, room += rows * g->width;
    g->chunks = (g->width + chunk_ranks - 1) / chunk_ranks;
    panels += sl_panel_count(parts[g->first].columns) * g->chunks;
    int64_t offset = 0;
    for (int j = g->first; j < g->first + g->count; offset += whole_vectors(parts[j++].rank))
      sl_pair_tokens(tokens, parts[j].rank, parts[j].s, parts[j].lds, g->pairs + offset, g->width);
  }
  job.panels = max_of(1, min_of(most_panels, panels / (4 * sl_thread_count())));
  for (int i = 0; i < job.count; i++) {
    sum_group *g = &job.groups[i];
    g->strips = (sl_panel_count(parts[g->first].columns) + job.panels - 1) / job.panels;
    tasks += g->strips * g->chunks;
  }
  sl_parallel(tasks, sum_task, &job);
  sl_return_scratch(scratch);
  return 0;
}
