// What a group's low-rank pairs read of x, s = x · Aᵀ, ahead of the products that use it: where these begin with panels and
// not with rows, or where dropout leaves each pair an x of its own.
#include "include/threads.h"
#include "kept_bits.h"
#include "linear_tasks.h"

typedef struct {
  const forward *f;
  int64_t rows;
  uint16_t *room;  // a task's rows of x, as dropout leaves them, for each thread
} low_job;

enum { low_rows = 64 };  // of a task

static void low_task(void *context, int64_t task, int thread) {
  const low_job *job = context;
  const forward *f = job->f;
  const int64_t row = task * low_rows, rows = min_of(low_rows, job->rows - row);
  uint16_t *own = f->low + row * f->width;
  const void *x = at(f->x, row, f->ldx, 0, SL_BF16);
  for (int j = 0; j < f->count; j++) {
    const sl_linear_part *p = &f->parts[j];
    const int64_t rank = whole_vectors(p->rank);
    if (rank == 0) continue;
    sl_term low = {x, f->ldx, f->inputs / 2, f->a[j]};
    if (p->drop.probability > 0) {
      uint16_t *dropped = job->room + thread * low_rows * f->inputs;
      sl_drop drop = p->drop;
      drop.first_row += row;
      sl_drop_tile(rows, f->inputs, f->inputs, 0, x, f->ldx, dropped, f->inputs, SL_BF16, &drop);
      low.a = dropped, low.lda = f->inputs;
    }
    sl_panel_product(rows, 1, &low, rank, 0, sl_panel_count(rank), own, SL_BF16, f->width, 0);
    keep(p, row, rows, own, f->width);
    own += rank;
  }
}

int64_t sl_low_room_units(int64_t inputs) { return whole_vectors((sl_thread_count() * low_rows * inputs + 1) / 2); }

void sl_low_products(const forward *f, int64_t rows, uint16_t *room) {
  low_job job = {f, rows, room};
  sl_parallel((rows + low_rows - 1) / low_rows, low_task, &job);
}
