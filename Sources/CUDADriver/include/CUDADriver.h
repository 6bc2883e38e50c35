// NVIDIA's libraries, opened at run time: declarations of our own, so that neither building nor running needs a toolkit.
//
// Each library is a structure of function pointers, filled symbol by symbol through a resolver (dlsym, or a test's stand-in).
// Types: CUdevice int32, CUdeviceptr uint64, every handle a pointer. All functions return 0 or the library's error code.
#pragma once
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// A library's function pointer: result, our name, the symbol, parameters.
#define SL_DRIVER_FUNCTIONS(F)                                                                                           \
  F(int, start, "cuInit", (unsigned flags))                                                                               \
  F(int, driverVersion, "cuDriverGetVersion", (int *version))                                                            \
  F(int, deviceCount, "cuDeviceGetCount", (int *count))                                                                  \
  F(int, device, "cuDeviceGet", (int *device, int ordinal))                                                              \
  F(int, deviceName, "cuDeviceGetName", (char *name, int capacity, int device))                                          \
  F(int, deviceAttribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))                               \
  F(int, deviceMemory, "cuDeviceTotalMem_v2", (size_t * bytes, int device))                                              \
  F(int, retainContext, "cuDevicePrimaryCtxRetain", (void *_Nullable *_Nonnull context, int device))                     \
  F(int, releaseContext, "cuDevicePrimaryCtxRelease_v2", (int device))                                                   \
  F(int, setContext, "cuCtxSetCurrent", (void *context))                                                                 \
  F(int, memory, "cuMemGetInfo_v2", (size_t * free, size_t *total))                                                      \
  F(int, allocate, "cuMemAlloc_v2", (uint64_t *address, size_t bytes))                                                   \
  F(int, release, "cuMemFree_v2", (uint64_t address))                                                                    \
  F(int, allocateHost, "cuMemHostAlloc", (void *_Nullable *_Nonnull address, size_t bytes, unsigned flags))              \
  F(int, releaseHost, "cuMemFreeHost", (void *address))                                                                  \
  F(int, copyIn, "cuMemcpyHtoDAsync_v2", (uint64_t to, const void *from, size_t bytes, void *stream))                    \
  F(int, copyOut, "cuMemcpyDtoHAsync_v2", (void *to, uint64_t from, size_t bytes, void *stream))                         \
  F(int, copyWithin, "cuMemcpyDtoDAsync_v2", (uint64_t to, uint64_t from, size_t bytes, void *stream))                   \
  F(int, copyRows, "cuMemcpy2DAsync_v2", (const sl_row_copy *copy, void *stream))                                        \
  F(int, fill, "cuMemsetD8Async", (uint64_t address, uint8_t value, size_t bytes, void *stream))                         \
  F(int, fillRows, "cuMemsetD2D8Async",                                                                                  \
    (uint64_t address, size_t pitch, uint8_t value, size_t width, size_t rows, void *stream))                            \
  F(int, createStream, "cuStreamCreate", (void *_Nullable *_Nonnull stream, unsigned flags))                             \
  F(int, destroyStream, "cuStreamDestroy_v2", (void *stream))                                                            \
  F(int, synchronize, "cuStreamSynchronize", (void *stream))                                                             \
  F(int, createEvent, "cuEventCreate", (void *_Nullable *_Nonnull event, unsigned flags))                                \
  F(int, destroyEvent, "cuEventDestroy_v2", (void *event))                                                               \
  F(int, record, "cuEventRecord", (void *event, void *stream))                                                           \
  F(int, waitEvent, "cuEventSynchronize", (void *event))                                                                 \
  F(int, elapsed, "cuEventElapsedTime", (float *milliseconds, void *start, void *end))                                   \
  F(int, waitInStream, "cuStreamWaitEvent", (void *stream, void *event, unsigned flags))                                  \
  F(int, loadModule, "cuModuleLoadData", (void *_Nullable *_Nonnull module, const void *image))                          \
  F(int, unloadModule, "cuModuleUnload", (void *module))                                                                 \
  F(int, function, "cuModuleGetFunction", (void *_Nullable *_Nonnull function, void *module, const char *name))          \
  F(int, setFunctionAttribute, "cuFuncSetAttribute", (void *function, int attribute, int value))                         \
  F(int, launch, "cuLaunchKernel",                                                                                       \
    (void *function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY, unsigned blockZ,  \
     unsigned sharedBytes, void *stream, void *_Nullable *_Nonnull parameters, void *_Nullable *_Nullable extra))        \
  F(int, launchExtended, "cuLaunchKernelEx",                                                                             \
    (const sl_launch *launch, void *function, void *_Nullable *_Nonnull parameters, void *_Nullable *_Nullable extra))   \
  F(int, beginCapture, "cuStreamBeginCapture_v2", (void *stream, int mode))                                              \
  F(int, endCapture, "cuStreamEndCapture", (void *stream, void *_Nullable *_Nonnull graph))                              \
  F(int, instantiateGraph, "cuGraphInstantiateWithFlags",                                                                \
    (void *_Nullable *_Nonnull executable, void *graph, uint64_t flags))                                                 \
  F(int, launchGraph, "cuGraphLaunch", (void *executable, void *stream))                                                 \
  F(int, destroyGraph, "cuGraphDestroy", (void *graph))                                                                  \
  F(int, destroyExecutable, "cuGraphExecDestroy", (void *executable))                                                    \
  F(int, errorName, "cuGetErrorName", (int error, const char *_Nullable *_Nonnull name))                                 \
  F(int, errorText, "cuGetErrorString", (int error, const char *_Nullable *_Nonnull text))

#define SL_NVRTC_FUNCTIONS(F)                                                                                            \
  F(int, version, "nvrtcVersion", (int *major, int *minor))                                                              \
  F(int, createProgram, "nvrtcCreateProgram",                                                                            \
    (void *_Nullable *_Nonnull program, const char *source, const char *name, int headerCount,                           \
     const char *_Nullable const *_Nullable headers, const char *_Nullable const *_Nullable headerNames))                \
  F(int, destroyProgram, "nvrtcDestroyProgram", (void *_Nullable *_Nonnull program))                                     \
  F(int, compile, "nvrtcCompileProgram", (void *program, int optionCount, const char *_Nullable const *_Nullable options)) \
  F(int, logSize, "nvrtcGetProgramLogSize", (void *program, size_t *bytes))                                              \
  F(int, log, "nvrtcGetProgramLog", (void *program, char *log))                                                          \
  F(int, cubinSize, "nvrtcGetCUBINSize", (void *program, size_t *bytes))                                                 \
  F(int, cubin, "nvrtcGetCUBIN", (void *program, char *cubin))

#define SL_CUBLASLT_FUNCTIONS(F)                                                                                         \
  F(size_t, version, "cublasLtGetVersion", (void))                                                                       \
  F(int, create, "cublasLtCreate", (void *_Nullable *_Nonnull handle))                                                   \
  F(int, destroy, "cublasLtDestroy", (void *handle))                                                                     \
  F(int, createDescription, "cublasLtMatmulDescCreate",                                                                  \
    (void *_Nullable *_Nonnull description, int compute, int scaleType))                                                 \
  F(int, destroyDescription, "cublasLtMatmulDescDestroy", (void *description))                                           \
  F(int, setDescription, "cublasLtMatmulDescSetAttribute",                                                               \
    (void *description, int attribute, const void *value, size_t bytes))                                                 \
  F(int, createLayout, "cublasLtMatrixLayoutCreate",                                                                     \
    (void *_Nullable *_Nonnull layout, int type, uint64_t rows, uint64_t columns, int64_t ld))                           \
  F(int, destroyLayout, "cublasLtMatrixLayoutDestroy", (void *layout))                                                   \
  F(int, createPreference, "cublasLtMatmulPreferenceCreate", (void *_Nullable *_Nonnull preference))                     \
  F(int, destroyPreference, "cublasLtMatmulPreferenceDestroy", (void *preference))                                       \
  F(int, setPreference, "cublasLtMatmulPreferenceSetAttribute",                                                          \
    (void *preference, int attribute, const void *value, size_t bytes))                                                  \
  F(int, heuristic, "cublasLtMatmulAlgoGetHeuristic",                                                                    \
    (void *handle, void *description, void *a, void *b, void *c, void *d, void *preference, int wanted,                  \
     sl_heuristic_result *results, int *count))                                                                          \
  F(int, multiply, "cublasLtMatmul",                                                                                     \
    (void *handle, void *description, const void *alpha, uint64_t a, void *aLayout, uint64_t b, void *bLayout,           \
     const void *beta, uint64_t c, void *cLayout, uint64_t d, void *dLayout, const void *algorithm, uint64_t workspace,  \
     size_t workspaceBytes, void *stream))

#define SL_CUDNN_FUNCTIONS(F)                                                                                            \
  F(size_t, version, "cudnnGetVersion", (void))                                                                          \
  F(int, create, "cudnnCreate", (void *_Nullable *_Nonnull handle))                                                      \
  F(int, destroy, "cudnnDestroy", (void *handle))                                                                        \
  F(int, setStream, "cudnnSetStream", (void *handle, void *stream))                                                      \
  F(int, createDescriptor, "cudnnBackendCreateDescriptor", (int kind, void *_Nullable *_Nonnull descriptor))             \
  F(int, destroyDescriptor, "cudnnBackendDestroyDescriptor", (void *descriptor))                                         \
  F(int, setAttribute, "cudnnBackendSetAttribute",                                                                       \
    (void *descriptor, int name, int type, int64_t count, const void *value))                                            \
  F(int, getAttribute, "cudnnBackendGetAttribute",                                                                       \
    (void *descriptor, int name, int type, int64_t wanted, int64_t *count, void *value))                                 \
  F(int, finalize, "cudnnBackendFinalize", (void *descriptor))                                                           \
  F(int, execute, "cudnnBackendExecute", (void *handle, void *plan, void *pack))

#define SL_NCCL_FUNCTIONS(F) F(int, version, "ncclGetVersion", (int *version))

/// CUDA_MEMCPY2D.
typedef struct {
  size_t sourceX, sourceY;
  unsigned sourceKind;
  const void *_Nullable sourceHost;
  uint64_t sourceDevice;
  void *_Nullable sourceArray;
  size_t sourcePitch;
  size_t targetX, targetY;
  unsigned targetKind;
  void *_Nullable targetHost;
  uint64_t targetDevice;
  void *_Nullable targetArray;
  size_t targetPitch;
  size_t width, height;
} sl_row_copy;

/// CUlaunchAttribute: 72 bytes.
typedef struct {
  uint32_t kind;
  uint32_t padding;
  int32_t value;
  uint8_t rest[60];
} sl_launch_attribute;

/// CUlaunchConfig: 56 bytes.
typedef struct {
  uint32_t gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes;
  void *_Nullable stream;
  const sl_launch_attribute *_Nullable attributes;
  uint32_t attributeCount;
} sl_launch;

/// cublasLtMatmulHeuristicResult_t: 96 bytes.
typedef struct {
  uint64_t algorithm[8];
  size_t workspaceBytes;
  int32_t state;
  float waves;
  int32_t reserved[4];
} sl_heuristic_result;

#define SL_FIELD(result, name, symbol, parameters) result (*name) parameters;
/// libcuda.
typedef struct { SL_DRIVER_FUNCTIONS(SL_FIELD) } sl_driver;
/// libnvrtc.
typedef struct { SL_NVRTC_FUNCTIONS(SL_FIELD) } sl_nvrtc;
/// libcublasLt.
typedef struct { SL_CUBLASLT_FUNCTIONS(SL_FIELD) } sl_cublaslt;
/// libcudnn.
typedef struct { SL_CUDNN_FUNCTIONS(SL_FIELD) } sl_cudnn;
/// libnccl.
typedef struct { SL_NCCL_FUNCTIONS(SL_FIELD) } sl_nccl;
#undef SL_FIELD

/// The address of `symbol`, or NULL.
typedef void *_Nullable (*sl_resolver)(void *_Nullable context, const char *symbol);

/// Fill a structure; return NULL, or the first symbol that the library lacks.
const char *_Nullable sl_resolve_driver(sl_driver *driver, sl_resolver resolve, void *_Nullable context);
const char *_Nullable sl_resolve_nvrtc(sl_nvrtc *nvrtc, sl_resolver resolve, void *_Nullable context);
const char *_Nullable sl_resolve_cublaslt(sl_cublaslt *cublaslt, sl_resolver resolve, void *_Nullable context);
const char *_Nullable sl_resolve_cudnn(sl_cudnn *cudnn, sl_resolver resolve, void *_Nullable context);
const char *_Nullable sl_resolve_nccl(sl_nccl *nccl, sl_resolver resolve, void *_Nullable context);

/// A product of row-major matrices: C[m, n] = op(A) · op(B), A and B bf16, C bf16 or fp32, added to when accumulate.
/// op transposes where asked: A is then stored [k, m], B [n, k]. Alignments: bytes that the addresses are multiples of.
typedef struct {
  int64_t m, n, k, lda, ldb, ldc;
  int32_t transposeA, transposeB, floatC, accumulate;
  int32_t alignmentA, alignmentB, alignmentC;
} sl_product;

/// A product with the algorithm that runs it.
typedef struct sl_plan sl_plan;

/// How many algorithms the heuristic names at most.
enum { sl_most_algorithms = 8 };

/// Asks for up to `wanted` algorithms for `product` and keeps the plan of each in `plans`; *count: how many there are.
int sl_plan_products(const sl_cublaslt *library, void *handle, const sl_product *product, size_t workspaceBytes, int wanted,
                     sl_plan *_Nullable *_Nonnull plans, int *count);
/// Runs a plan in `stream`.
int sl_run_plan(const sl_cublaslt *library, void *handle, const sl_plan *plan, uint64_t a, uint64_t b, uint64_t c,
                uint64_t workspace, size_t workspaceBytes, void *stream);
void sl_destroy_plan(const sl_cublaslt *library, sl_plan *plan);

/// Causal attention over `batch` documents of `length` tokens that follow one another; tensors bf16, a row per token at
/// its stride, heads of `width` features side by side; statistics: fp32 [heads, ldStatistics].
typedef struct {
  int64_t batch, length, heads, keyHeads, width;
  int64_t ldq, ldk, ldv, ldo, ldStatistics, lddo, lddq, lddk, lddv;
  float scale;
  int32_t backward, deterministic;
} sl_attention_problem;

/// Where the tensors lie; those of gradients are read in a backward plan only.
typedef struct {
  uint64_t q, k, v, o, statistics, dout, dq, dk, dv;
} sl_attention_addresses;

/// A problem with the engine that solves it.
typedef struct sl_attention_plan sl_attention_plan;

/// Finds an engine; an error code where there is none.
int sl_plan_attention(const sl_cudnn *library, void *handle, const sl_attention_problem *problem,
                      sl_attention_plan *_Nullable *_Nonnull plan);
/// Bytes that a plan works in.
size_t sl_attention_plan_workspace(const sl_attention_plan *plan);
int sl_run_attention_plan(const sl_cudnn *library, void *handle, sl_attention_plan *plan,
                          const sl_attention_addresses *addresses, uint64_t workspace);
void sl_destroy_attention_plan(const sl_cudnn *library, sl_attention_plan *plan);

#pragma clang assume_nonnull end
