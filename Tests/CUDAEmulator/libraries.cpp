// The functions of NVIDIA's libraries that Swiftlet calls, as the processor can do them.
#include "include/CUDAEmulator.h"

#include <utility>
#include <set>
#include <functional>
#include <deque>
#include <stdlib.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "machine.h"

namespace {

EmulatedKernel *kernels;
std::map<uint64_t, size_t> allocations;

// MARK: libcuda

int succeed() { return 0; }
int driver_version(int *version) { return *version = 13000, 0; }
int device_count(int *count) { return *count = 1, 0; }
int device_get(int *device, int) { return *device = 0, 0; }
int device_name(char *name, int capacity, int) { return strncpy(name, "Emulated GPU", (size_t)capacity), 0; }
int block_memory = 227 << 10;
int device_attribute(int *value, int attribute, int) {
  switch (attribute) {
    case 75: *value = 8; break;
    case 76: *value = 0; break;
    case 16: *value = 4; break;
    case 81: *value = block_memory + 1024; break;
    default: *value = block_memory;
  }
  return 0;
}
int device_memory(size_t *bytes, int) { return *bytes = (size_t)1 << 40, 0; }
int make_handle(void **handle, ...) { return *handle = malloc(1), 0; }
int memory_info(size_t *free_bytes, size_t *total) { return *free_bytes = *total = (size_t)1 << 40, 0; }

int allocate(uint64_t *address, size_t bytes) {
  // More than any test asks for: what a card that is full would say.
  if (bytes >= (size_t)1 << 40) return 2;
  void *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
  memset(memory, 0xff, bytes);
  *address = (uint64_t)memory;
  allocations[*address] = bytes;
  return 0;
}
int release(uint64_t address) {
  if (allocations.erase(address) == 0) return 1;
  free((void *)address);
  return 0;
}
int allocate_host(void **address, size_t bytes, unsigned) { return *address = malloc(bytes), 0; }
int release_host(void *address) { return free(address), 0; }

// A stream that waits for another before it ever launched a kernel only copies, beside the one that computes. Its copies
// are put off for as long as the real ones could be: until something waits for them.
std::set<void *> computing;
std::map<void *, std::deque<std::function<void()>>> put_off;
/// By event: the stream that it was recorded in, and how many of the stream's copies come before it.
std::map<void *, std::pair<void *, size_t>> recorded;
std::map<void *, size_t> asked, done;

void run_until(void *stream, size_t count) {
  auto &queue = put_off[stream];
  for (; done[stream] < count && !queue.empty(); done[stream]++) {
    queue.front()();
    queue.pop_front();
  }
}
/// What is captured of a stream runs when its graph is launched.
using Work = std::vector<std::function<void()>>;
std::map<void *, Work> capturing;
bool is_captured(void *stream, const std::function<void()> &work) {
  auto found = capturing.find(stream);
  if (found == capturing.end()) return false;
  found->second.push_back(work);
  return true;
}
int begin_capture(void *stream, int) { return capturing[stream] = {}, 0; }
int end_capture(void *stream, void **graph) {
  *graph = new Work(std::move(capturing[stream]));
  capturing.erase(stream);
  return 0;
}
int instantiate_graph(void **executable, void *graph, uint64_t) { return *executable = new Work(*(Work *)graph), 0; }
int launch_graph(void *executable, void *) {
  for (auto &work : *(Work *)executable) work();
  return 0;
}
int destroy_graph(void *graph) { return delete (Work *)graph, 0; }

int copy(void *stream, std::function<void()> work) {
  if (is_captured(stream, work)) return 0;
  if (put_off.count(stream) == 0) return work(), 0;
  put_off[stream].push_back(std::move(work));
  asked[stream]++;
  return 0;
}
int record(void *event, void *stream) {
  if (capturing.count(stream)) return 901;
  recorded.erase(event);
  if (put_off.count(stream)) recorded[event] = {stream, asked[stream]};
  return 0;
}
int wait_event(void *event) {
  auto found = recorded.find(event);
  if (found != recorded.end()) run_until(found->second.first, found->second.second);
  return 0;
}
int wait_in_stream(void *stream, void *event, unsigned) {
  if (computing.count(stream) == 0) put_off[stream];
  return wait_event(event);
}
int synchronize(void *stream) {
  // What a real driver refuses too.
  if (capturing.count(stream)) return 900;
  if (put_off.count(stream)) run_until(stream, asked[stream]);
  return 0;
}
int destroy_stream(void *stream) {
  synchronize(stream);
  put_off.erase(stream), asked.erase(stream), done.erase(stream), computing.erase(stream);
  return 0;
}

int copy_in(uint64_t to, const void *from, size_t bytes, void *stream) {
  return copy(stream, [=] { memcpy((void *)to, from, bytes); });
}
int copy_out(void *to, uint64_t from, size_t bytes, void *stream) {
  return copy(stream, [=] { memcpy(to, (void *)from, bytes); });
}
int copy_within(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  return copy(stream, [=] { memmove((void *)to, (void *)from, bytes); });
}

struct RowCopy {
  size_t source_x, source_y;
  unsigned source_kind;
  const void *source_host;
  uint64_t source_device;
  void *source_array;
  size_t source_pitch, target_x, target_y;
  unsigned target_kind;
  void *target_host;
  uint64_t target_device;
  void *target_array;
  size_t target_pitch, width, height;
};
void copy_rows_now(const RowCopy *c) {
  const char *from = c->source_kind == 1 ? (const char *)c->source_host : (const char *)c->source_device;
  char *to = c->target_kind == 1 ? (char *)c->target_host : (char *)c->target_device;
  for (size_t row = 0; row < c->height; row++)
    memcpy(to + (c->target_y + row) * c->target_pitch + c->target_x,
           from + (c->source_y + row) * c->source_pitch + c->source_x, c->width);
}
int copy_rows(const RowCopy *c, void *stream) {
  RowCopy rows = *c;
  return copy(stream, [=] { copy_rows_now(&rows); });
}
int fill(uint64_t address, uint8_t value, size_t bytes, void *stream) {
  return copy(stream, [=] { memset((void *)address, value, bytes); });
}
int fill_rows(uint64_t address, size_t pitch, uint8_t value, size_t width, size_t rows, void *stream) {
  return copy(stream, [=] {
    for (size_t row = 0; row < rows; row++) memset((char *)address + row * pitch, value, width);
  });
}
int elapsed(float *milliseconds, void *, void *) { return *milliseconds = 0.001f, 0; }
int load_module(void **module, const void *image) { return *module = strdup((const char *)image), 0; }
int get_function(void **function, void *, const char *name) {
  for (EmulatedKernel *kernel = kernels; kernel != nullptr; kernel = kernel->next)
    if (strcmp(kernel->name, name) == 0) return *function = kernel, 0;
  return 500;
}
int launch(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
           void *stream, void **parameters, void **) {
  computing.insert(stream);
  if (gx == 0 || gy == 0 || gz != 1 || bx * by * bz == 0 || bx * by * bz > 1024 || gy > 65535) return 1;
  const EmulatedKernel *kernel = (EmulatedKernel *)function;
  if (capturing.count(stream)) {
    // Arguments are those of the call, not of the launch.
    auto values = std::make_shared<std::vector<std::vector<u8>>>();
    for (size_t i = 0; i < kernel->count; i++)
      values->emplace_back((u8 *)parameters[i], (u8 *)parameters[i] + kernel->sizes[i]);
    is_captured(stream, [=] {
      std::vector<void *> pointers;
      for (auto &value : *values) pointers.push_back(value.data());
      emulated_launch(kernel, {gx, gy, gz}, {bx, by, bz}, shared, pointers.data());
    });
    return 0;
  }
  emulated_launch(kernel, {gx, gy, gz}, {bx, by, bz}, shared, parameters);
  return 0;
}
struct Launch {
  unsigned grid[3], block[3], shared;
  void *stream;
};
int launch_extended(const Launch *l, void *function, void **parameters, void **extra) {
  return launch(function, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2], l->shared, l->stream,
                parameters, extra);
}
int error_name(int, const char **name) { return *name = "EMULATED_ERROR", 0; }
int error_text(int, const char **text) { return *text = "the emulated GPU refused", 0; }

// MARK: libnvrtc

int nvrtc_version(int *major, int *minor) { return *major = 0, *minor = 0, 0; }
int create_program(void **program, const char *, const char *name, int, const char **, const char **) {
  return *program = strdup(name), 0;
}
int destroy_program(void **program) { return free(*program), *program = nullptr, 0; }
int log_size(void *, size_t *bytes) { return *bytes = 1, 0; }
int get_log(void *, char *log) { return *log = 0, 0; }
int cubin_size(void *program, size_t *bytes) { return *bytes = strlen((char *)program) + 1, 0; }
int get_cubin(void *program, char *cubin) { return strcpy(cubin, (char *)program), 0; }

// MARK: libcublasLt: column-major, as the library counts

struct Description {
  int transpose[2];
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t ld;
};
size_t lt_version() { return 130000; }
int create_description(void **d, int compute, int scale) {
  if (compute != 68 || scale != 0) return 7;
  return *d = new Description{}, 0;
}
int destroy_description(void *d) { return delete (Description *)d, 0; }
int set_description(void *d, int attribute, const void *value, size_t bytes) {
  if ((attribute != 3 && attribute != 4) || bytes != 4) return 7;
  return memcpy(&((Description *)d)->transpose[attribute - 3], value, 4), 0;
}
int create_layout(void **layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  if (ld < (int64_t)rows) return 7;
  return *layout = new Layout{type, rows, columns, ld}, 0;
}
int destroy_layout(void *layout) { return delete (Layout *)layout, 0; }
int set_preference(void *, int attribute, const void *, size_t bytes) {
  return attribute == 1 ? (bytes == 8 ? 0 : 7) : (attribute >= 5 && attribute <= 8 && bytes == 4 ? 0 : 7);
}
int heuristic(void *, void *, void *, void *, void *, void *, void *, int, void *results, int *count) {
  memset(results, 0, 96);
  return *count = 1, 0;
}
float element(uint64_t base, const Layout *l, int64_t row, int64_t column) {
  return widen(((const u16 *)base)[row + column * l->ld]);
}
int multiply_now(const Description &d_op, const Layout &l_a, const Layout &l_b, const Layout &l_d, float alpha, float beta,
                 uint64_t a, uint64_t b, uint64_t d) {
  const Description *op = &d_op;
  const Layout *la = &l_a, *lb = &l_b, *ld = &l_d;
  int ta = op->transpose[0], tb = op->transpose[1];
  uint64_t m = ld->rows, n = ld->columns, k = ta ? la->rows : la->columns;
  if ((ta ? la->columns : la->rows) != m || (tb ? lb->columns : lb->rows) != k || (tb ? lb->rows : lb->columns) != n) return 7;
  for (uint64_t j = 0; j < n; j++)
    for (uint64_t i = 0; i < m; i++) {
      float sum = 0;
      for (uint64_t p = 0; p < k; p++)
        sum += (ta ? element(a, la, (int64_t)p, (int64_t)i) : element(a, la, (int64_t)i, (int64_t)p)) *
               (tb ? element(b, lb, (int64_t)j, (int64_t)p) : element(b, lb, (int64_t)p, (int64_t)j));
      int64_t at = (int64_t)i + (int64_t)j * ld->ld;
      float factor = beta, result = alpha * sum;
      if (ld->type == 0) {
        float *to = (float *)d + at;
        *to = factor != 0 ? factor * *to + result : result;
      } else {
        u16 *to = (u16 *)d + at;
        *to = narrow(factor != 0 ? factor * widen(*to) + result : result);
      }
    }
  return 0;
}
int multiply(void *, void *description, const void *alpha, uint64_t a, void *a_layout, uint64_t b, void *b_layout,
             const void *beta, uint64_t, void *, uint64_t d, void *d_layout, const void *, uint64_t, size_t, void *stream) {
  auto work = [=, op = *(Description *)description, la = *(Layout *)a_layout, lb = *(Layout *)b_layout,
               ld = *(Layout *)d_layout, alpha = *(const float *)alpha, beta = *(const float *)beta] {
    return multiply_now(op, la, lb, ld, alpha, beta, a, b, d);
  };
  return is_captured(stream, [=] { work(); }) ? 0 : work();
}

const std::map<std::string, void *> &symbols() {
  static const std::map<std::string, void *> table = {
      {"cuInit", (void *)succeed}, {"cuDriverGetVersion", (void *)driver_version},
      {"cuDeviceGetCount", (void *)device_count}, {"cuDeviceGet", (void *)device_get},
      {"cuDeviceGetName", (void *)device_name}, {"cuDeviceGetAttribute", (void *)device_attribute},
      {"cuDeviceTotalMem_v2", (void *)device_memory}, {"cuDevicePrimaryCtxRetain", (void *)make_handle},
      {"cuDevicePrimaryCtxRelease_v2", (void *)succeed}, {"cuCtxSetCurrent", (void *)succeed},
      {"cuMemGetInfo_v2", (void *)memory_info}, {"cuMemAlloc_v2", (void *)allocate}, {"cuMemFree_v2", (void *)release},
      {"cuMemHostAlloc", (void *)allocate_host}, {"cuMemFreeHost", (void *)release_host},
      {"cuMemcpyHtoDAsync_v2", (void *)copy_in}, {"cuMemcpyDtoHAsync_v2", (void *)copy_out},
      {"cuMemcpyDtoDAsync_v2", (void *)copy_within}, {"cuMemcpy2DAsync_v2", (void *)copy_rows},
      {"cuMemsetD8Async", (void *)fill}, {"cuMemsetD2D8Async", (void *)fill_rows},
      {"cuStreamCreate", (void *)make_handle}, {"cuStreamDestroy_v2", (void *)destroy_stream},
      {"cuStreamSynchronize", (void *)synchronize}, {"cuEventCreate", (void *)make_handle},
      {"cuEventDestroy_v2", (void *)succeed}, {"cuEventRecord", (void *)record}, {"cuEventSynchronize", (void *)wait_event},
      {"cuStreamWaitEvent", (void *)wait_in_stream},
      {"cuEventElapsedTime", (void *)elapsed}, {"cuModuleLoadData", (void *)load_module},
      {"cuModuleUnload", (void *)release_host}, {"cuModuleGetFunction", (void *)get_function},
      {"cuFuncSetAttribute", (void *)succeed}, {"cuLaunchKernel", (void *)launch},
      {"cuLaunchKernelEx", (void *)launch_extended}, {"cuStreamBeginCapture_v2", (void *)begin_capture},
      {"cuStreamEndCapture", (void *)end_capture}, {"cuGraphInstantiateWithFlags", (void *)instantiate_graph},
      {"cuGraphLaunch", (void *)launch_graph}, {"cuGraphDestroy", (void *)destroy_graph},
      {"cuGraphExecDestroy", (void *)destroy_graph}, {"cuGetErrorName", (void *)error_name},
      {"cuGetErrorString", (void *)error_text}, {"nvrtcVersion", (void *)nvrtc_version},
      {"nvrtcCreateProgram", (void *)create_program}, {"nvrtcDestroyProgram", (void *)destroy_program},
      {"nvrtcCompileProgram", (void *)succeed}, {"nvrtcGetProgramLogSize", (void *)log_size},
      {"nvrtcGetProgramLog", (void *)get_log}, {"nvrtcGetCUBINSize", (void *)cubin_size},
      {"nvrtcGetCUBIN", (void *)get_cubin}, {"cublasLtGetVersion", (void *)lt_version},
      {"cublasLtCreate", (void *)make_handle}, {"cublasLtDestroy", (void *)release_host},
      {"cublasLtMatmulDescCreate", (void *)create_description}, {"cublasLtMatmulDescDestroy", (void *)destroy_description},
      {"cublasLtMatmulDescSetAttribute", (void *)set_description}, {"cublasLtMatrixLayoutCreate", (void *)create_layout},
      {"cublasLtMatrixLayoutDestroy", (void *)destroy_layout}, {"cublasLtMatmulPreferenceCreate", (void *)make_handle},
      {"cublasLtMatmulPreferenceDestroy", (void *)release_host},
      {"cublasLtMatmulPreferenceSetAttribute", (void *)set_preference},
      {"cublasLtMatmulAlgoGetHeuristic", (void *)heuristic}, {"cublasLtMatmul", (void *)multiply},
  };
  return table;
}

}  // namespace

void emulated_register(EmulatedKernel *kernel) {
  kernel->next = kernels;
  kernels = kernel;
}

extern "C" void *sl_emulated_symbol(const char *name) {
  auto found = symbols().find(name);
  return found == symbols().end() ? nullptr : found->second;
}

extern "C" void sl_emulate_block_memory(int bytes) { block_memory = bytes; }
extern "C" long sl_emulated_bytes(void) {
  long total = 0;
  for (const auto &allocation : allocations) total += (long)allocation.second;
  return total;
}
