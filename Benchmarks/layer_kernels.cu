// Times the kernels of one answer's step through layers of Phi-4's shape, each kind in a chain of its own and all in their order,
// with matrices in NF4 or (DENSE=1) in bf16, and the product of a head in bf16. Needs the toolkit's compiler and a GPU of compute capability 9.0:
//
//   nvcc -std=c++17 -O3 -arch=sm_90a -I Sources/CUDAKernels/Kernels Benchmarks/layer_kernels.cu -o layer_kernels
//   LENGTH=1000 SPLITS=3 HEADS=1 ./layer_kernels
//
// LENGTH: tokens in the cache; SPLITS, HEADS: attention's parts of the keys and query heads of a block; UNIFORM=0: attention's
// blocks begin when the kernel before has ended. Weights are random bits: only times are meant. Launches are what
// `CUDADevice+FewRows.swift` and `CUDADevice+Decoding.swift` make them.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <vector>

#include "rows_nf4_one.cu"
namespace attention {
#include "attention_decode.cu"
}
#include "rows_bf16_one.cu"

static void check(cudaError_t code, const char *what) {
  if (code == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
  exit(1);
}
#define CHECK(call) check(call, #call)

enum { layer_count = 6, rounds = 4, model = 5120, inner = 17920, heads = 40, key_heads = 10, d = 128, vocabulary = 100352 };
static int multiprocessors, multiprocessor_memory;
static bool dense;
static cudaStream_t stream;

static int setting(const char *name, int standard) {
  const char *value = getenv(name);
  return value ? atoi(value) : standard;
}

/// What random memory is to hold: anything, small floats, bf16 of moderate size.
enum class Kind { bits, floats, bf16 };
static void *filled(size_t bytes, Kind kind) {
  void *memory;
  CHECK(cudaMalloc(&memory, bytes));
  std::vector<u32> words((bytes < (64 << 20) ? bytes : 64 << 20) / 4 + 1);
  u32 state = 12345 + (u32)bytes;
  for (u32 &word : words) {
    state = state * 1664525u + 1013904223u;
    word = state ^ state >> 13;
    float small = 0.01f + (float)(word & 1023) * 1e-5f;
    if (kind == Kind::floats) memcpy(&word, &small, 4);
    if (kind == Kind::bf16) word = (word & 0x807f807fu) | 0x3c003c00u;
  }
  for (size_t at = 0; at < bytes; at += 64 << 20)
    CHECK(cudaMemcpy((u8 *)memory + at, words.data(), bytes - at < (64 << 20) ? bytes - at : 64 << 20, cudaMemcpyHostToDevice));
  return memory;
}
template <class T> static T *uploaded(const std::vector<T> &values) {
  T *memory;
  CHECK(cudaMalloc(&memory, values.size() * sizeof(T)));
  CHECK(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return memory;
}

template <class P> static void launch(void (*kernel)(P), int blocks, int threads, int shared, const P &arguments, bool overlaps) {
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t configuration = {};
  configuration.gridDim = dim3(blocks), configuration.blockDim = dim3(threads);
  configuration.dynamicSmemBytes = shared, configuration.stream = stream;
  configuration.attrs = &attribute, configuration.numAttrs = overlaps;
  CHECK(cudaLaunchKernelEx(&configuration, kernel, arguments));
}

static int over_half() { return multiprocessor_memory / 2 - 1024 + 8; }

static RowPart matrix(i64 rows, i64 columns) {
  RowPart part = {};
  part.rows = part.ldy = rows;
  if (dense) {
    part.weights = filled(rows * columns * 2, Kind::bf16), part.stride = columns;
    return part;
  }
  part.weights = filled(rows * columns / 2, Kind::bits);
  part.absmax = (u8 *)filled(rows * columns / 64, Kind::bits);
  part.nested = (float *)filled(rows * columns / 64 / 256 * 4 + 64, Kind::floats);
  part.offset = (float *)filled(64, Kind::floats);
  return part;
}

/// The most rows that a block has of those of each part.
static i64 share_of(const RowProducts &p, int parts) {
  i64 rows = 0, left = multiprocessors, share = 0;
  for (int i = 0; i < parts; i++) rows += p.part[i].rows;
  for (int i = 0; i < parts; i++) {
    i64 others = parts - 1 - i, own = others == 0 ? left : (p.part[i].rows * left + rows / 2) / rows;
    own = own < 1 ? 1 : own > left - others ? left - others : own;
    i64 most_rows = (p.part[i].rows + own - 1) / own;
    share = most_rows > share ? most_rows : share, left -= own, rows -= p.part[i].rows;
  }
  return share;
}

/// Products of one row, their blocks and shared memory as `FewRows` counts them.
static void product_in_bf16(const RowProducts &p, bool overlaps) {
  bool paired = p.activation != 0;
  int pieces = (int)(p.columns + piece_columns - 1) / piece_columns, least = (pieces + 11) / 12, own = least;
  auto padded = [&](int own) { return (pieces + own - 1) / own * own; };
  for (int other = least; other <= least + least / 2; other++) own = padded(other) < padded(own) ? other : own;
  int team = (pieces + own - 1) / own, teams = 12 / team;
  i64 slots = share_of(p, paired ? 1 : (int)p.parts) * (paired ? 2 : 1);
  slots = slots < round_rows * teams ? slots : round_rows * teams;
  int shared = ring_at + teams * team * items_ahead * item_bytes + padded(own) * piece_bytes + (int)slots * (team + 1) * 4;
  if (paired && shared < over_half()) shared = over_half();
  launch(rows_bf16_one, multiprocessors, teams * team * 32, shared, p, overlaps);
}
static void product_in_nf4(const RowProducts &p, bool overlaps) {
  bool paired = p.activation != 0, wide = p.columns > 10 << 10;
  int chunks = wide ? 2 : 1, most = wide ? 9 : 10, team = (int)(p.columns + chunks * 1024 - 1) / (chunks * 1024);
  i64 share = share_of(p, paired ? 1 : (int)p.parts);
  int absmax = (int)(share * p.columns / 64), scales = (absmax + 46) / 16 * 16 + (absmax / 256 + 6) / 4 * 16;
  int x = team * chunks * 2048, sums = (int)share * (paired ? 2 : 1) * (team + 1) * 4;
  int shared = (65 << 10) + 128 + scales * (paired ? 2 : 1) + (x > sums ? x : sums);
  if (paired && shared < over_half()) shared = over_half();
  launch(wide ? rows_nf4_one_2 : rows_nf4_one_1, multiprocessors, most / team * team * 32, shared, p, overlaps);
}
static void product(const RowProducts &p, bool overlaps) { dense ? product_in_bf16(p, overlaps) : product_in_nf4(p, overlaps); }

/// The shortest of several runs of a recorded chain, for each of its `count` members.
template <class Work> static void report(const char *name, int count, Work work) {
  cudaGraph_t graph;
  cudaGraphExec_t recording;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  work();
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&recording, graph, 0));
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  float best = 1e9f;
  for (int run = 0; run < 5; run++) {
    CHECK(cudaEventRecord(begin, stream));
    for (int i = 0; i < 4; i++) CHECK(cudaGraphLaunch(recording, stream));
    CHECK(cudaEventRecord(end, stream));
    CHECK(cudaEventSynchronize(end));
    float milliseconds;
    CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    best = milliseconds < best ? milliseconds : best;
  }
  printf("%s: %.2f us\n", name, best * 1000 / (4 * (float)count));
}

int main() {
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  multiprocessors = properties.multiProcessorCount, multiprocessor_memory = (int)properties.sharedMemPerMultiprocessor;
  CHECK(cudaStreamCreate(&stream));
  dense = setting("DENSE", 0) != 0;
  printf("%s, %s\n", properties.name, dense ? "bf16" : "NF4");

  struct Layer {
    RowPart q, k, v, o, gate, up, down;
  };
  std::vector<Layer> layers;
  for (int i = 0; i < layer_count; i++)
    layers.push_back({matrix(model, model), matrix(key_heads * d, model), matrix(key_heads * d, model), matrix(model, model),
                      matrix(inner, model), matrix(inner, model), matrix(model, inner)});
  auto bf16 = [](i64 count) { return (u16 *)filled(count * 2, Kind::bf16); };
  auto floats = [](i64 count) { return (float *)filled(count * 4, Kind::floats); };
  float *residual = floats(model), *gamma = floats(model), *map = floats(256), *logits = floats(vocabulary);
  u16 *q = bf16(model), *k = bf16(key_heads * d), *v = bf16(key_heads * d), *attended = bf16(model), *gate = bf16(inner),
      *up = bf16(inner), *activation = bf16(inner), *normed = bf16(model), *head = bf16((i64)vocabulary * model);

  int length = setting("LENGTH", 100), splits = setting("SPLITS", 1), heads_of_block = setting("HEADS", 1);
  bool uniform = setting("UNIFORM", 1) != 0;
  i64 width = key_heads * d, page = (i64)layer_count * 2 * 64 * width, pages = length / 64 + 1;
  u16 *cache = bf16(pages * page);
  std::vector<u64> list;
  for (i64 i = 0; i < pages; i++) list.push_back((u64)(cache + i * page));
  u64 *lists = uploaded(std::vector<u64>{(u64)uploaded(list)});
  int *positions = uploaded(std::vector<int>{length}), *done = uploaded(std::vector<int>(1 << 14));
  float *cosines = floats((length + 1) * d / 2), *sines = floats((length + 1) * d / 2), *partial = floats(64 * heads * (d + 2));

  auto products = [&](int parts, i64 columns) {
    RowProducts p = {};
    p.parts = parts, p.columns = columns, p.ldx = columns, p.batch = 1, p.map = map, p.slice = columns / 64, p.slices = 1;
    p.epsilon = 1e-5;
    return p;
  };
  auto to = [](RowPart part, void *y) { return part.y = y, part; };
  auto add_to_residual = [&](const RowPart &part, const u16 *x, i64 columns, bool overlaps) {
    RowProducts p = products(1, columns);
    p.part[0] = to(part, residual), p.x = x, p.is_float = 1, p.accumulates = 1;
    product(p, overlaps);
  };
  auto project = [&](Layer &l, bool overlaps) {
    RowProducts p = products(3, model);
    p.part[0] = to(l.q, q), p.part[1] = to(l.k, k), p.part[2] = to(l.v, v), p.stream = residual, p.gamma = gamma;
    product(p, overlaps);
  };
  auto gate_up = [&](Layer &l, bool overlaps) {
    RowProducts p = products(2, model);
    p.part[0] = to(l.gate, gate), p.part[1] = to(l.up, up), p.stream = residual, p.gamma = gamma;
    p.activation = activation, p.ld_activation = inner;
    product(p, overlaps);
  };
  auto attend = [&](int layer, bool overlaps) {
    attention::CachedAttention a = {};
    a.q = q, a.k = k, a.v = v, a.ldq = model, a.ldk = a.ldv = width, a.output = attended, a.ldo = model;
    a.cosines = cosines, a.sines = sines, a.half = d / 2, a.positions = positions, a.pages = (const u64 *const *)lists;
    a.key_offset = (i64)layer * 2 * 64 * width, a.value_offset = a.key_offset + 64 * width, a.width = width;
    a.heads = heads, a.key_heads = key_heads, a.d = d, a.splits = splits, a.partial = partial, a.done = done;
    a.scale = 0.088, a.epsilon = 1e-5;
    int group = heads / key_heads, blocks = key_heads * ((group + heads_of_block - 1) / heads_of_block) * splits;
    int shared = (heads_of_block > 2 ? 4 : 5) * 32 * d * 4;
    a.uniform = uniform && heads_of_block <= 2 && blocks <= multiprocessors;
    if (a.uniform) blocks = multiprocessors, shared = shared > over_half() ? shared : over_half();
    auto kernel = heads_of_block == 1   ? attention::attention_decode_128_1
                  : heads_of_block == 2 ? attention::attention_decode_128_2
                                        : attention::attention_decode_128_4;
    launch(kernel, blocks, 256, shared, a, overlaps && a.uniform != 0);
  };
  auto each = [&](auto work) {
    for (int round = 0; round < rounds; round++)
      for (int i = 0; i < layer_count; i++) work(layers[i], i);
  };
  int count = rounds * layer_count;
  auto all = [&](Layer &l, int i, bool overlaps, bool attends) {
    project(l, overlaps);
    if (attends) attend(i, overlaps);
    add_to_residual(l.o, attended, model, overlaps), gate_up(l, overlaps), add_to_residual(l.down, activation, inner, overlaps);
  };
  report("q, k, v", count, [&] { each([&](Layer &l, int) { project(l, true); }); });
  report("o", count, [&] { each([&](Layer &l, int) { add_to_residual(l.o, attended, model, true); }); });
  report("gate, up", count, [&] { each([&](Layer &l, int) { gate_up(l, true); }); });
  report("down", count, [&] { each([&](Layer &l, int) { add_to_residual(l.down, activation, inner, true); }); });
  report("attention", count, [&] { each([&](Layer &, int i) { attend(i, true); }); });
  report("products", count, [&] { each([&](Layer &l, int i) { all(l, i, true, false); }); });
  report("layer", count, [&] { each([&](Layer &l, int i) { all(l, i, true, true); }); });
  report("layer, nothing overlapping", count, [&] { each([&](Layer &l, int i) { all(l, i, false, true); }); });
  report("head", 4, [&] {
    RowProducts p = products(1, model);
    p.part[0].rows = vocabulary, p.part[0].weights = head, p.part[0].stride = model, p.part[0].y = logits;
    p.part[0].ldy = vocabulary, p.is_float = 1, p.x = normed;
    for (int i = 0; i < 4; i++) product_in_bf16(p, true);
  });
}
