// Attention through cuDNN's graphs: the operations in the order that its pattern matcher knows (as cuDNN's open frontend
// emits them), for documents of one length, causal, with grouped queries.
#include "include/CUDADriver.h"

#include <math.h>
#include <stdlib.h>

// The header's numbers (cudnn_graph.h, 9.x).
enum {
  type_handle = 0, type_data_type = 1, type_boolean = 2, type_int64 = 3, type_void_pointer = 6, type_heuristic = 8,
  type_pointwise = 14, type_descriptor = 15, type_reduction = 18
};
enum { float32 = 0, int32 = 4, bfloat16 = 9, boolean = 11 };
enum { pointwise_descriptor = 0, engine_configuration = 3, engine_heuristic = 4, execution_plan = 5,
       pointwise_operation = 13, operation_graph = 15, variant_pack = 16, tensor_descriptor = 17, matmul_descriptor = 18,
       matmul_operation = 19, reduction_descriptor = 21, reduction_operation = 22, reshape_operation = 31 };
enum { add = 0, mul = 1, divide = 6, subtract = 9, exponential = 13, logarithm = 15, identity = 21, greater_or_equal = 303,
       generate_index = 501, select_by = 601 };
enum { reduce_sum = 0, reduce_max = 3 };

/// Every tensor with memory of its own.
enum { tensor_q = 1, tensor_k, tensor_v, tensor_o, tensor_stats, tensor_do, tensor_dq, tensor_dk, tensor_dv, tensor_sum,
       tensor_accumulator, tensor_scale, tensor_infinity, tensor_one, tensor_count };

struct sl_attention_plan {
  void *plan;
  sl_attention_problem problem;
  size_t workspace_bytes;  // of cuDNN's own
  float scale, infinity, one;
  void *descriptors[160];
  int descriptor_count;
};

/// A graph under construction; the first error sticks.
typedef struct {
  const sl_cudnn *l;
  sl_attention_plan *plan;
  void *operations[40];
  int operation_count, next_uid, code;
} graph;

typedef struct {
  int64_t d[4];
} four;

static void *create(graph *g, int kind) {
  void *descriptor = nullptr;
  if (g->code == 0 && g->plan->descriptor_count == 160) g->code = -1;
  if (g->code == 0) g->code = g->l->createDescriptor(kind, &descriptor);
  if (descriptor != nullptr) g->plan->descriptors[g->plan->descriptor_count++] = descriptor;
  return descriptor;
}
static void set(graph *g, void *descriptor, int name, int type, int64_t count, const void *value) {
  if (g->code == 0) g->code = g->l->setAttribute(descriptor, name, type, count, value);
}
static void set_descriptor(graph *g, void *descriptor, int name, void *value) {
  set(g, descriptor, name, type_descriptor, 1, &value);
}
static void set_number(graph *g, void *descriptor, int name, int type, int value) {
  int32_t number = value;
  set(g, descriptor, name, type, 1, &number);
}
static void *finish(graph *g, void *descriptor) {
  if (g->code == 0) g->code = g->l->finalize(descriptor);
  return descriptor;
}

/// uid 0: a tensor that exists only inside the graph.
static void *tensor(graph *g, int type, four size, four strides, int uid) {
  void *t = create(g, tensor_descriptor);
  int64_t alignment = 16, number = uid != 0 ? uid : g->next_uid++;
  bool inside = uid == 0, by_value = uid >= tensor_scale && uid < tensor_count;
  set_number(g, t, 901, type_data_type, type);
  set(g, t, 902, type_int64, 4, size.d);
  set(g, t, 903, type_int64, 4, strides.d);
  set(g, t, 906, type_int64, 1, &number);
  set(g, t, 900, type_int64, 1, &alignment);
  set(g, t, 907, type_boolean, 1, &inside);
  if (by_value) set(g, t, 908, type_boolean, 1, &by_value);
  return finish(g, t);
}
static four dense(four size) {
  return (four){{size.d[1] * size.d[2] * size.d[3], size.d[2] * size.d[3], size.d[3], 1}};
}
static void *value(graph *g, int uid) { return tensor(g, float32, (four){{1, 1, 1, 1}}, (four){{1, 1, 1, 1}}, uid); }

static void operation(graph *g, void *op) {
  finish(g, op);
  if (g->code == 0) g->operations[g->operation_count++] = op;
}
/// y = mode(x, b), with the selecting tensor t, each where not NULL.
static void *pointwise(graph *g, int mode, int precision, int axis, void *x, void *b, void *t, void *y) {
  void *d = create(g, pointwise_descriptor), *op;
  int64_t along = axis;
  set_number(g, d, 0, type_pointwise, mode);
  set_number(g, d, 1, type_data_type, precision);
  if (axis >= 0) set(g, d, 9, type_int64, 1, &along);
  finish(g, d);
  op = create(g, pointwise_operation);
  set_descriptor(g, op, 750, d);
  set_descriptor(g, op, 751, x);
  if (b != nullptr) set_descriptor(g, op, 752, b);
  set_descriptor(g, op, 753, y);
  if (t != nullptr) set_descriptor(g, op, 758, t);
  operation(g, op);
  return y;
}
static void *multiply(graph *g, void *a, void *b, void *c) {
  void *d = create(g, matmul_descriptor), *op;
  set_number(g, d, 1500, type_data_type, float32);
  finish(g, d);
  op = create(g, matmul_operation);
  set_descriptor(g, op, 1520, a);
  set_descriptor(g, op, 1521, b);
  set_descriptor(g, op, 1522, c);
  set_descriptor(g, op, 1523, d);
  operation(g, op);
  return c;
}
static void *reduce(graph *g, int how, void *x, void *y) {
  void *d = create(g, reduction_descriptor), *op;
  set_number(g, d, 1600, type_reduction, how);
  set_number(g, d, 1601, type_data_type, float32);
  finish(g, d);
  op = create(g, reduction_operation);
  set_descriptor(g, op, 1610, x);
  set_descriptor(g, op, 1611, y);
  set_descriptor(g, op, 1612, d);
  operation(g, op);
  return y;
}
static void *reshape(graph *g, void *x, void *y) {
  void *op = create(g, reshape_operation);
  set_descriptor(g, op, 2200, x);
  set_descriptor(g, op, 2201, y);
  operation(g, op);
  return y;
}
/// Scores where the key is not after the query, -∞ elsewhere.
static void *causal(graph *g, void *scores, four size) {
  four strides = dense(size);
  void *rows = pointwise(g, generate_index, int32, 2, scores, nullptr, nullptr, tensor(g, int32, size, strides, 0));
  void *columns = pointwise(g, generate_index, int32, 3, scores, nullptr, nullptr, tensor(g, int32, size, strides, 0));
  void *seen = pointwise(g, greater_or_equal, boolean, -1, rows, columns, nullptr, tensor(g, boolean, size, strides, 0));
  return pointwise(g, select_by, float32, -1, scores, value(g, tensor_infinity), seen, tensor(g, float32, size, strides, 0));
}

static void forward(graph *g, const sl_attention_problem *p) {
  int64_t b = p->batch, s = p->length, h = p->heads, hk = p->keyHeads, d = p->width;
  four scores = {{b, h, s, s}}, rows = {{b, h, s, 1}};
  void *q = tensor(g, bfloat16, (four){{b, h, s, d}}, (four){{s * p->ldq, d, p->ldq, 1}}, tensor_q);
  void *kt = tensor(g, bfloat16, (four){{b, hk, d, s}}, (four){{s * p->ldk, d, 1, p->ldk}}, tensor_k);
  void *v = tensor(g, bfloat16, (four){{b, hk, s, d}}, (four){{s * p->ldv, d, p->ldv, 1}}, tensor_v);
  void *o = tensor(g, bfloat16, (four){{b, h, s, d}}, (four){{s * p->ldo, d, p->ldo, 1}}, tensor_o);
  void *stats = tensor(g, float32, rows, (four){{s, p->ldStatistics, 1, 1}}, tensor_stats);
#define SCORES tensor(g, float32, scores, dense(scores), 0)
#define ROWS tensor(g, float32, rows, dense(rows), 0)
  void *x = multiply(g, q, kt, SCORES);
  x = pointwise(g, mul, float32, -1, x, value(g, tensor_scale), nullptr, SCORES);
  x = causal(g, x, scores);
  void *top = reduce(g, reduce_max, x, ROWS);
  x = pointwise(g, subtract, float32, -1, x, top, nullptr, SCORES);
  x = pointwise(g, exponential, float32, -1, x, nullptr, nullptr, SCORES);
  void *sum = reduce(g, reduce_sum, x, ROWS);
  void *log_sum = pointwise(g, logarithm, float32, -1, sum, nullptr, nullptr, ROWS);
  pointwise(g, add, float32, -1, top, log_sum, nullptr, stats);
  x = pointwise(g, divide, float32, -1, x, sum, nullptr, tensor(g, bfloat16, scores, dense(scores), 0));
  multiply(g, x, v, o);
}

static void backward(graph *g, const sl_attention_problem *p) {
  int64_t b = p->batch, s = p->length, h = p->heads, hk = p->keyHeads, d = p->width;
  four scores = {{b, h, s, s}}, rows = {{b, h, s, 1}}, full = {{b, h, s, d}};
  four turned = {{h * s * s, s * s, 1, s}};
  void *q = tensor(g, bfloat16, full, (four){{s * p->ldq, d, p->ldq, 1}}, tensor_q);
  void *kt = tensor(g, bfloat16, (four){{b, hk, d, s}}, (four){{s * p->ldk, d, 1, p->ldk}}, tensor_k);
  void *vt = tensor(g, bfloat16, (four){{b, hk, d, s}}, (four){{s * p->ldv, d, 1, p->ldv}}, tensor_v);
  void *o = tensor(g, bfloat16, full, (four){{s * p->ldo, d, p->ldo, 1}}, tensor_o);
  void *dout = tensor(g, bfloat16, full, (four){{s * p->lddo, d, p->lddo, 1}}, tensor_do);
  void *stats = tensor(g, float32, rows, (four){{s, p->ldStatistics, 1, 1}}, tensor_stats);
  void *dq = tensor(g, bfloat16, full, (four){{s * p->lddq, d, p->lddq, 1}}, tensor_dq);
  void *dk = tensor(g, bfloat16, (four){{b, hk, s, d}}, (four){{s * p->lddk, d, p->lddk, 1}}, tensor_dk);
  void *dv = tensor(g, bfloat16, (four){{b, hk, s, d}}, (four){{s * p->lddv, d, p->lddv, 1}}, tensor_dv);
  void *scale = value(g, tensor_scale);
  // The rows' sums of dO · O.
  void *x = pointwise(g, mul, float32, -1, dout, o, nullptr,
                      tensor(g, float32, full, (four){{h * s * d, s * d, h * d, 1}}, 0));
  x = reduce(g, reduce_sum, x, ROWS);
  void *sum = pointwise(g, mul, float32, -1, x, value(g, tensor_one), nullptr,
                        tensor(g, float32, rows, dense(rows), tensor_sum));
  // Probabilities again, and dV from them.
  x = multiply(g, q, kt, SCORES);
  x = pointwise(g, mul, float32, -1, x, scale, nullptr, SCORES);
  x = pointwise(g, subtract, float32, -1, x, stats, nullptr, SCORES);
  x = causal(g, x, scores);
  void *probabilities = pointwise(g, exponential, float32, -1, x, nullptr, nullptr, SCORES);
  x = reshape(g, probabilities, tensor(g, bfloat16, scores, turned, 0));
  if (h == hk) {
    multiply(g, x, dout, dv);
  } else {
    reduce(g, reduce_sum, multiply(g, x, dout, tensor(g, bfloat16, full, dense(full), 0)), dv);
  }
  // The scores' gradient, dK and dQ from it.
  x = multiply(g, dout, vt, SCORES);
  x = pointwise(g, subtract, float32, -1, x, sum, nullptr, SCORES);
  x = pointwise(g, mul, float32, -1, x, probabilities, nullptr, SCORES);
  void *ds = pointwise(g, mul, float32, -1, x, scale, nullptr, SCORES);
  x = reshape(g, ds, tensor(g, bfloat16, scores, turned, 0));
  if (h == hk) {
    multiply(g, x, q, dk);
  } else {
    reduce(g, reduce_sum, multiply(g, x, q, tensor(g, bfloat16, full, dense(full), 0)), dk);
  }
  void *k = reshape(g, kt, tensor(g, bfloat16, (four){{b, hk, s, d}}, (four){{s * p->ldk, d, p->ldk, 1}}, 0));
  if (p->deterministic) {
    multiply(g, ds, k, dq);
  } else {
    x = multiply(g, ds, k, tensor(g, float32, full, dense(full), tensor_accumulator));
    pointwise(g, identity, float32, -1, x, nullptr, nullptr, dq);
  }
}

/// The first engine that takes the graph.
static void plan_graph(graph *g, void *handle) {
  void *operations = create(g, operation_graph), *heuristic, *candidates[8] = {};
  int64_t count = 0, bytes = 0;
  set(g, operations, 800, type_handle, 1, &handle);
  set(g, operations, 801, type_descriptor, g->operation_count, g->operations);
  finish(g, operations);
  heuristic = create(g, engine_heuristic);
  set_descriptor(g, heuristic, 201, operations);
  set_number(g, heuristic, 200, type_heuristic, 3);
  finish(g, heuristic);
  for (int i = 0; i < 8; i++) candidates[i] = create(g, engine_configuration);
  if (g->code == 0) g->code = g->l->getAttribute(heuristic, 202, type_descriptor, 8, &count, candidates);
  if (g->code != 0) return;
  g->code = -2;
  for (int i = 0; i < count && i < 8 && g->code != 0; i++) {
    g->code = 0;
    void *plan = create(g, execution_plan);
    set(g, plan, 400, type_handle, 1, &handle);
    set_descriptor(g, plan, 401, candidates[i]);
    finish(g, plan);
    int64_t one = 1;
    if (g->code == 0) g->code = g->l->getAttribute(plan, 402, type_int64, 1, &one, &bytes);
    if (g->code == 0) g->plan->plan = plan, g->plan->workspace_bytes = (size_t)bytes;
  }
}

int sl_plan_attention(const sl_cudnn *l, void *handle, const sl_attention_problem *problem, sl_attention_plan **plan) {
  sl_attention_plan *made = calloc(1, sizeof *made);
  *plan = nullptr;
  if (made == nullptr) return -1;
  made->problem = *problem;
  made->scale = problem->scale;
  made->infinity = -INFINITY;
  made->one = 1;
  graph g = {.l = l, .plan = made, .next_uid = 100};
  problem->backward ? backward(&g, problem) : forward(&g, problem);
  plan_graph(&g, handle);
  if (g.code != 0) {
    sl_destroy_attention_plan(l, made);
    return g.code;
  }
  *plan = made;
  return 0;
}

static size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }
static size_t sum_bytes(const sl_attention_problem *p) { return rounded((size_t)(p->batch * p->heads * p->length) * 4); }
static size_t accumulator_bytes(const sl_attention_problem *p) {
  return p->deterministic ? 0 : rounded((size_t)(p->batch * p->heads * p->length * p->width) * 4);
}

size_t sl_attention_plan_workspace(const sl_attention_plan *plan) {
  const sl_attention_problem *p = &plan->problem;
  return rounded(plan->workspace_bytes) + (p->backward ? sum_bytes(p) + accumulator_bytes(p) : 0);
}

int sl_run_attention_plan(const sl_cudnn *l, void *handle, sl_attention_plan *plan, const sl_attention_addresses *a,
                          uint64_t workspace) {
  const sl_attention_problem *p = &plan->problem;
  uint64_t sums = workspace + rounded(plan->workspace_bytes), accumulator = sums + sum_bytes(p);
  int64_t ids[tensor_count];
  void *pointers[tensor_count];
  int count = 0;
  uint64_t addresses[] = {[tensor_q] = a->q, [tensor_k] = a->k, [tensor_v] = a->v, [tensor_o] = a->o,
                          [tensor_stats] = a->statistics, [tensor_do] = a->dout, [tensor_dq] = a->dq,
                          [tensor_dk] = a->dk, [tensor_dv] = a->dv, [tensor_sum] = sums,
                          [tensor_accumulator] = accumulator, [tensor_scale] = (uint64_t)&plan->scale,
                          [tensor_infinity] = (uint64_t)&plan->infinity, [tensor_one] = (uint64_t)&plan->one};
  for (int id = tensor_q; id < tensor_count; id++) {
    bool only_backward = (id >= tensor_do && id <= tensor_accumulator) || id == tensor_one;
    if ((only_backward && !p->backward) || (id == tensor_accumulator && p->deterministic)) continue;
    ids[count] = id;
    pointers[count++] = (void *)addresses[id];
  }
  void *pack = nullptr, *room = (void *)workspace;
  int code = l->createDescriptor(variant_pack, &pack);
  if (code != 0) return code;
  code = l->setAttribute(pack, 1000, type_int64, count, ids);
  if (code == 0) code = l->setAttribute(pack, 1001, type_void_pointer, count, pointers);
  if (code == 0) code = l->setAttribute(pack, 1003, type_void_pointer, 1, &room);
  if (code == 0) code = l->finalize(pack);
  if (code == 0) code = l->execute(handle, plan->plan, pack);
  l->destroyDescriptor(pack);
  return code;
}

void sl_destroy_attention_plan(const sl_cudnn *l, sl_attention_plan *plan) {
  for (int i = plan->descriptor_count - 1; i >= 0; i--) l->destroyDescriptor(plan->descriptors[i]);
  free(plan);
}
