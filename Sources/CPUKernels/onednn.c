// oneDNN's C API: the engine, a stream for each thread, and compiled products, one per shape.
#include "onednn.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "include/matmul.h"

static dnnl_engine_t engine;

// The table of primitives and the room for partial sums are shared.
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

// Where oneDNN was built on OpenMP this makes the calling thread a team of one; other builds have no such symbol.
extern void omp_set_num_threads(int count) __attribute__((weak));

static void run_alone(void) {
  static _Thread_local int done;
  if (done) return;
  done = 1;
  if (omp_set_num_threads) omp_set_num_threads(1);
}

// MARK: Products, one per shape

struct sl_product {
  sl_product_key key;
  dnnl_primitive_t primitive;
  api_layout a, b, c, scratchpad;
};

// Bounds the memory that compiled primitives take when a run meets many lengths: a full table is emptied.
enum { table_size = 2048, table_limit = 1024 };
static sl_product *table[table_size];
static int table_count;

static void product_destroy(sl_product *p) {
  if (!p) return;
  if (p->primitive) dnnl_primitive_destroy(p->primitive);
  api_layout_free(&p->a), api_layout_free(&p->b), api_layout_free(&p->c), api_layout_free(&p->scratchpad);
  free(p);
}

static uint64_t hash_key(const sl_product_key *key) {
  const unsigned char *bytes = (const unsigned char *)key;
  uint64_t h = 1469598103934665603ull;  // FNV-1a
  for (size_t i = 0; i < sizeof *key; i++) h = (h ^ bytes[i]) * 1099511628211ull;
  return h ^ (h >> 29);
}

dnnl_status_t sl_onednn_describe(dnnl_primitive_desc_t *out, const api_layout *a, const api_layout *b,
                                 const api_layout *c, int accumulate) {
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t ops = NULL;
  dnnl_status_t status = dnnl_success;
  TRY(dnnl_primitive_attr_create(&attributes));
  // The library's own scratchpad belongs to the thread that makes a primitive; ours run on every thread.
  TRY(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
  if (accumulate) {
    TRY(dnnl_post_ops_create(&ops));
    TRY(api_append_sum(ops));
    TRY(dnnl_primitive_attr_set_post_ops(attributes, ops));
  }
  TRY(api_matmul(out, engine, a, b, c, attributes));
done:
  if (ops) dnnl_post_ops_destroy(ops);
  if (attributes) dnnl_primitive_attr_destroy(attributes);
  return status;
}

static dnnl_status_t product_create(const sl_product_key *key, const api_layout *packed, sl_product **out) {
  dnnl_status_t status = dnnl_success;
  dnnl_primitive_desc_t description = NULL;
  sl_product *p = calloc(1, sizeof *p);
  if (!p) return dnnl_out_of_memory;
  p->key = *key;
  dnnl_data_type_t operand = api_type(key->operand_type);
  TRY(api_matrix(&p->a, key->m, key->k, key->lda, key->transpose_a, operand));
  TRY(api_matrix(&p->c, key->m, key->n, key->ldc, 0, api_type(key->c_type)));
  TRY(packed ? api_copy(&p->b, packed) : api_matrix(&p->b, key->k, key->n, key->ldb, key->transpose_b, operand));
  TRY(sl_onednn_describe(&description, &p->a, &p->b, &p->c, key->accumulate));
  TRY(api_queried(&p->scratchpad, description, dnnl_query_scratchpad_md));
  TRY(dnnl_primitive_create(&p->primitive, description));
  *out = p;
  p = NULL;
done:
  if (description) dnnl_primitive_desc_destroy(description);
  product_destroy(p);
  return status;
}

/// Empties a full table; between products only, whose tiles hold what they use of it.
static void keep_table_small(void) {
  if (table_count < table_limit) return;
  for (int i = 0; i < table_size; i++) product_destroy(table[i]), table[i] = NULL;
  table_count = 0;
}

dnnl_status_t sl_onednn_product(const sl_product_key *key, const api_layout *packed, const sl_product **out) {
  uint64_t slot = hash_key(key) % table_size;
  while (table[slot]) {
    if (memcmp(&table[slot]->key, key, sizeof *key) == 0) {
      *out = table[slot];
      return dnnl_success;
    }
    slot = (slot + 1) % table_size;
  }
  sl_product *made = NULL;
  dnnl_status_t status = product_create(key, packed, &made);
  if (status == dnnl_success) *out = table[slot] = made, table_count++;
  return status;
}

// MARK: Turns

static dnnl_status_t start(void) {
  run_alone();
  keep_table_small();
  if (engine) return dnnl_success;
  // Our own table keeps the primitives; a second copy in oneDNN's cache would only hold memory.
  dnnl_set_primitive_cache_capacity(0);
  return dnnl_engine_create(&engine, dnnl_cpu, 0);
}

dnnl_status_t sl_onednn_begin(void) {
  pthread_mutex_lock(&turn);
  return start();
}

void sl_onednn_end(void) { pthread_mutex_unlock(&turn); }

// MARK: Running

/// The calling thread's stream; made once per thread.
static dnnl_stream_t own_stream(void) {
  static _Thread_local dnnl_stream_t stream;
  run_alone();
  if (!stream && dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success) stream = NULL;
  return stream;
}

dnnl_engine_t sl_onednn_engine(void) { return engine; }

dnnl_status_t sl_onednn_run(dnnl_primitive_t primitive, int count, const dnnl_exec_arg_t *arguments) {
  dnnl_stream_t stream = own_stream();
  if (!stream) return dnnl_runtime_error;
  dnnl_status_t status = dnnl_primitive_execute(primitive, stream, count, arguments);
  return status == dnnl_success ? dnnl_stream_wait(stream) : status;
}

/// Memory of the calling thread's own, at least `size` bytes; NULL when there is none.
static void *own_scratchpad(size_t size) {
  static _Thread_local void *room;
  static _Thread_local size_t room_size;
  if (size > room_size) {
    free(room);
    room = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    room_size = room ? size : 0;
  }
  return room;
}

dnnl_status_t sl_onednn_execute(const sl_product *p, const void *a, const void *b, void *c) {
  dnnl_status_t status = dnnl_success;
  dnnl_memory_t memory_a = NULL, memory_b = NULL, memory_c = NULL, scratchpad = NULL;
  TRY(api_memory(&memory_a, &p->a, engine, (void *)a));
  TRY(api_memory(&memory_b, &p->b, engine, (void *)b));
  TRY(api_memory(&memory_c, &p->c, engine, c));
  size_t size = api_layout_size(&p->scratchpad);
  if (size > 0) {
    void *room = own_scratchpad(size);
    if (!room) {
      status = dnnl_out_of_memory;
      goto done;
    }
    TRY(api_memory(&scratchpad, &p->scratchpad, engine, room));
  }
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, memory_a},
                                 {DNNL_ARG_WEIGHTS, memory_b},
                                 {DNNL_ARG_DST, memory_c},
                                 {DNNL_ARG_SCRATCHPAD, scratchpad}};
  TRY(sl_onednn_run(p->primitive, scratchpad ? 4 : 3, arguments));
done:
  if (memory_a) dnnl_memory_destroy(memory_a);
  if (memory_b) dnnl_memory_destroy(memory_b);
  if (memory_c) dnnl_memory_destroy(memory_c);
  if (scratchpad) dnnl_memory_destroy(scratchpad);
  return status;
}

// MARK: Names

const char *sl_matmul_error(int status) {
  switch (status) {
    case dnnl_success: return "success";
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "not offered by this oneDNN on this CPU";
    case dnnl_runtime_error: return "run-time error";
    default: return "unknown error";
  }
}

const char *sl_matmul_library(void) {
  static char name[128];
  if (!name[0]) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
  }
  return name;
}
