// Right-hand sides of products as they lie in memory: in panels of our own, in the blocks that a file has, or as oneDNN wants
// them.
#include <stdlib.h>

#include "include/nf4.h"
#include "include/threads.h"
#include "onednn.h"
#include "packed_layout.h"
#include "panels.h"

const uint32_t *sl_packed_panels(const sl_packed_matrix *packed) {
  return packed != NULL && packed->in_panels ? packed->values : NULL;
}
const sl_strips *sl_packed_strips(const sl_packed_matrix *packed) {
  return packed != NULL && packed->in_strips ? &packed->strips : NULL;
}
int sl_is_in_blocks(const sl_packed_matrix *packed) { return packed != NULL && packed->in_strips; }
sl_dtype sl_packed_type(const sl_packed_matrix *packed) { return packed->dtype; }
int64_t sl_packed_rows(const sl_packed_matrix *packed) { return packed->k; }
int64_t sl_packed_columns(const sl_packed_matrix *packed) { return packed->n; }

typedef struct {
  const sl_packed_matrix *packed;
  const uint16_t *source;
  int64_t ld;
  int transposed;
} panel_job;

static void pack_panel(void *context, int64_t panel, int thread) {
  const panel_job *job = context;
  (void)thread;
  sl_pack_panel(job->packed->k, job->packed->n, job->source, job->ld, job->transposed, panel, job->packed->values);
}

static sl_block_layout panel_blocks(int64_t k, int64_t n) {
  return (sl_block_layout){.k = k, .n = n, .k_block = k, .n_block = panel_columns, .pair = 2,
                           .n_stride = panel_columns * k};
}

static int pack_in_panels(int64_t k, int64_t n, const void *source, int64_t ld, int transposed,
                          sl_packed_matrix **packed) {
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return dnnl_out_of_memory;
  result->in_panels = 1, result->dtype = SL_BF16, result->k = k, result->n = n;
  result->size = (size_t)sl_panel_units(k, n) * sizeof(uint32_t);
  result->blocks = panel_blocks(k, n);
  result->values = slab_allocate(result->size, &result->owner);
  if (!result->values) {
    sl_packed_matrix_destroy(result);
    return dnnl_out_of_memory;
  }
  panel_job job = {result, source, ld, transposed};
  sl_parallel(sl_panel_count(n), pack_panel, &job);
  *packed = result;
  return dnnl_success;
}

typedef struct {
  const sl_packed_matrix *packed;
  const void *const *rows;
  _Atomic int status;
} strips_job;

static void pack_strip(void *context, int64_t strip, int thread) {
  strips_job *job = context;
  (void)thread;
  const sl_strips *s = &job->packed->strips;
  int status = sl_strip_pack(s, job->rows, strip, (uint8_t *)job->packed->values + strip * strip_bytes(s->format, s->k));
  if (status != 0) job->status = status;
}

int sl_pack_blocks(sl_dtype dtype, sl_block_format format, int64_t k, int64_t n, const void *const *rows,
                   sl_packed_matrix **packed) {
  if (k <= 0 || n <= 0 || k % strip_group(format) != 0) return dnnl_invalid_arguments;
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return dnnl_out_of_memory;
  result->in_strips = 1, result->dtype = dtype, result->k = k, result->n = n;
  result->size = (size_t)(strip_count(n) * strip_bytes(format, k));
  result->values = slab_allocate(result->size, &result->owner);
  result->strips = (sl_strips){format, k, n, result->values};
  strips_job job = {result, rows, 0};
  if (result->values) sl_parallel(strip_count(n), pack_strip, &job);
  int status = result->values ? job.status : dnnl_out_of_memory;
  if (status != 0) sl_packed_matrix_destroy(result);
  else *packed = result;
  return status;
}

size_t sl_nf4_packed_size(int64_t k, int64_t n) { return (size_t)sl_panel_units(k, n) * sizeof(uint32_t); }

sl_packed_matrix *sl_nf4_packed(int64_t k, int64_t n, void *values) {
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return NULL;
  result->in_panels = 1, result->dtype = SL_BF16, result->k = k, result->n = n;
  result->size = sl_nf4_packed_size(k, n);
  result->blocks = panel_blocks(k, n);
  result->values = values;
  return result;
}

int sl_pack_matrix(sl_dtype dtype, int64_t k, int64_t n, const void *source, int64_t ld, int transposed,
                   sl_packed_matrix **packed) {
  if (dtype == SL_BF16 && k % 2 == 0 && sl_uses_panels()) return pack_in_panels(k, n, source, ld, transposed, packed);
  dnnl_status_t status = sl_onednn_begin();
  sl_onednn_end();
  if (status != dnnl_success) return status;
  sl_packed_matrix *result = calloc(1, sizeof *result);
  if (!result) return dnnl_out_of_memory;
  result->dtype = dtype, result->k = k, result->n = n;
  TRY(sl_onednn_layout(dtype, k, n, &result->layout));
  result->size = api_layout_size(&result->layout);
  result->values = slab_allocate(result->size, &result->owner);
  if (!result->values) {
    status = dnnl_out_of_memory;
    goto done;
  }
  TRY(sl_onednn_pack(dtype, k, n, source, ld, transposed, &result->layout, result->values));
  result->blocks = sl_onednn_blocks(&result->layout, dtype, k, n);
  *packed = result;
  result = NULL;
done:
  sl_packed_matrix_destroy(result);
  return status;
}

void sl_packed_matrix_destroy(sl_packed_matrix *packed) {
  if (!packed) return;
  if (!packed->in_panels && !packed->in_strips) api_layout_free(&packed->layout);
  slab_release(packed->owner, packed->values, packed->size);
  free(packed);
}

size_t sl_packed_matrix_size(const sl_packed_matrix *packed) { return packed->size; }
