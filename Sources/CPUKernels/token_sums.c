// Gradients of the low-rank pairs: sums over tokens.
#include "include/linear.h"
#include "include/threads.h"
#include "kept_bits.h"
#include "linear_tasks.h"
#include "scratch.h"

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
  uint16_t *dropped;  // a task's columns of x, as dropout leaves them, for each thread; where a part drops
  sum_group groups[most_sums];
} sum_job;

static void sum_task(void *context, int64_t task, int thread) {
  const sum_job *job = context;
  const sum_group *g = job->groups;
  for (; task >= g->strips * g->chunks; g++) task -= g->strips * g->chunks;
  const sl_token_sum *parts = job->parts + g->first;
  const int64_t width = job->panels * panel_columns, column = task / g->chunks * width;
  const int64_t rank = task % g->chunks * chunk_ranks;
  const int64_t columns = min_of(width, parts->columns - column), ranks = min_of(chunk_ranks, g->width - rank);
  _Alignas(64) float sums[most_panels * chunk_ranks * panel_columns];
  const uint16_t *x = (const uint16_t *)parts->x + column;
  int64_t ldx = parts->ldx;
  if (parts->drop.probability > 0) {
    uint16_t *dropped = job->dropped + thread * job->tokens * width;
    sl_drop_tile(job->tokens, columns, parts->columns, column, x, ldx, dropped, width, SL_BF16, &parts->drop);
    x = dropped, ldx = width;
  }
  sl_panel_token_sums(job->tokens, ranks, g->pairs + rank, g->width, x, ldx, columns, sums);
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
  bool drops = false;
  for (int i = 0; i < count; i++) {
    // Where x is dropped, each part reads an x of its own.
    const bool is_apart = parts[i].drop.probability > 0 || (i > 0 && parts[i - 1].drop.probability > 0);
    drops |= parts[i].drop.probability > 0;
    if (i == 0 || is_apart || parts[i].x != parts[i - 1].x) job.groups[job.count++] = (sum_group){.first = i};
    sum_group *g = &job.groups[job.count - 1];
    g->count++;
    g->width += whole_vectors(parts[i].rank);
    units += rows * whole_vectors(parts[i].rank);
  }
  for (int i = 0; i < job.count; i++) {
    sum_group *g = &job.groups[i];
    g->chunks = (g->width + chunk_ranks - 1) / chunk_ranks;
    panels += sl_panel_count(parts[g->first].columns) * g->chunks;
  }
  job.panels = max_of(1, min_of(most_panels, panels / (4 * sl_thread_count())));
  const int64_t pair_units = units;
  if (drops) units += (sl_thread_count() * tokens * job.panels * panel_columns + 1) / 2;
  uint32_t *scratch = sl_take_scratch((size_t)units * sizeof *scratch), *room = scratch;
  if (scratch == NULL) return -1;
  job.dropped = (uint16_t *)(scratch + pair_units);
  for (int i = 0; i < job.count; i++) {
    sum_group *g = &job.groups[i];
    g->pairs = room, room += rows * g->width;
    g->strips = (sl_panel_count(parts[g->first].columns) + job.panels - 1) / job.panels;
    tasks += g->strips * g->chunks;
    int64_t offset = 0;
    for (int j = g->first; j < g->first + g->count; offset += whole_vectors(parts[j++].rank))
      sl_pair_tokens(tokens, parts[j].rank, parts[j].s, parts[j].lds, g->pairs + offset, g->width);
  }
  sl_parallel(tasks, sum_task, &job);
  sl_return_scratch(scratch);
  return 0;
}
