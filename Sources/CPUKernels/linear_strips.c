// Linear layers from matrices in strips. Dequantizing a panel costs little beside all rows' products with it, but not
// beside those of one tile of rows: so a task takes a panel, of gate and up the same one of both.
#include <stdlib.h>

#include "include/swiglu.h"
#include "include/threads.h"
#include "linear_tasks.h"
#include "scratch.h"
#include "strips.h"

typedef struct {
  const forward *f;
  int64_t rows, tile, tiles;             // rows of a task
  int64_t panels[sl_linear_most_parts + 1];  // counted over the parts; gate and up count once
  uint32_t *room;                        // a panel for each thread
  int64_t room_units;
} strips_job;

/// One panel of one part, for some rows.
static void multiply_panel(const strips_job *job, int part, int64_t panel, int64_t row, int64_t rows, uint32_t *room) {
  const forward *f = job->f;
  const sl_linear_part *p = &f->parts[part];
  const sl_strips *strips = sl_packed_strips(p->w);
  const int64_t units = f->inputs / 2, column = panel * panel_columns;
  int64_t before = 0;
  for (int j = 0; j < part; j++) before += whole_vectors(f->parts[j].rank);
  if (strips != NULL) sl_strip_panel(strips, panel, room);
  const int64_t low_units = (p->rank + 1) / 2;
  const sl_term terms[2] = {
      {at(f->x, row, f->ldx, 0, SL_BF16), f->ldx, units,
       strips != NULL ? room : sl_packed_panels(p->w) + panel * panel_columns * units},
      {p->rank > 0 ? f->low + row * f->width + before : NULL, f->width, low_units,
       p->rank > 0 ? f->b[part] + panel * panel_columns * low_units : NULL}};
  sl_panel_product(rows, p->rank > 0 ? 2 : 1, terms, min_of(panel_columns, sl_packed_columns(p->w) - column), 0, 1,
                   at(p->y, row, p->ldy, column, p->y_type), p->y_type, p->ldy, f->accumulate);
}

static void panel_task(void *context, int64_t task, int thread) {
  const strips_job *job = context;
  const forward *f = job->f;
  uint32_t *room = job->room + thread * job->room_units;
  const int64_t row = task % job->tiles * job->tile, rows = min_of(job->tile, job->rows - row);
  int64_t panel = task / job->tiles;
  if (f->act == NULL) {
    int part = 0;
    while (panel >= job->panels[part + 1]) part++;
    multiply_panel(job, part, panel - job->panels[part], row, rows, room);
    return;
  }
  multiply_panel(job, 0, panel, row, rows, room);
  multiply_panel(job, 1, panel, row, rows, room);
  const sl_linear_part *gate = &f->parts[0], *up = &f->parts[1];
  const int64_t column = panel * panel_columns;
  sl_swiglu_forward(rows, min_of(panel_columns, sl_packed_columns(gate->w) - column),
                    at(gate->y, row, gate->ldy, column, SL_BF16), at(up->y, row, up->ldy, column, SL_BF16), gate->ldy,
                    at(f->act, row, f->ld_act, column, SL_BF16), f->ld_act, SL_BF16);
}

int sl_forward_from_strips(const forward *f, int64_t rows) {
  strips_job job = {.f = f, .rows = rows};
  for (int j = 0; j < f->count; j++)
    job.panels[j + 1] = job.panels[j] + (f->act != NULL && j > 0 ? 0 : sl_panel_count(sl_packed_columns(f->parts[j].w)));
  const int64_t panels = job.panels[f->count], threads = sl_thread_count();
  // Each further tile of rows dequantizes everything again: only where panels alone are too few for the threads.
  job.tiles = panels > 0 ? max_of(1, min_of((2 * threads + panels - 1) / panels, rows / 64)) : 1;
  job.tile = (rows + job.tiles - 1) / job.tiles;
  job.room_units = whole_vectors(f->inputs / 2 * panel_columns);
  const size_t room = (size_t)(threads * job.room_units) * sizeof(uint32_t);
  job.room = sl_take_scratch(room);
  if (job.room == NULL) return -1;
  sl_parallel(panels * job.tiles, panel_task, &job);
  sl_return_scratch(job.room);
  return 0;
}
