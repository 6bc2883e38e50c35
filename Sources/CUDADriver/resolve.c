// Function pointers by name: the one list of a library's functions gives the structure and the symbols.
#include "include/CUDADriver.h"

#define NAME(result, name, symbol, parameters) symbol,
static const char *const driver_symbols[] = {SL_DRIVER_FUNCTIONS(NAME)};
static const char *const nvrtc_symbols[] = {SL_NVRTC_FUNCTIONS(NAME)};
static const char *const cublaslt_symbols[] = {SL_CUBLASLT_FUNCTIONS(NAME)};
static const char *const cudnn_symbols[] = {SL_CUDNN_FUNCTIONS(NAME)};
static const char *const nccl_symbols[] = {SL_NCCL_FUNCTIONS(NAME)};

static_assert(sizeof(sl_launch) == 56 && sizeof(sl_launch_attribute) == 72);
static_assert(sizeof driver_symbols == sizeof(sl_driver));
static_assert(sizeof nvrtc_symbols == sizeof(sl_nvrtc));
static_assert(sizeof cublaslt_symbols == sizeof(sl_cublaslt));
static_assert(sizeof cudnn_symbols == sizeof(sl_cudnn));
static_assert(sizeof nccl_symbols == sizeof(sl_nccl));

static const char *fill(void **fields, const char *const *symbols, size_t count, sl_resolver resolve, void *context) {
  for (size_t i = 0; i < count; i++) {
    fields[i] = resolve(context, symbols[i]);
    if (fields[i] == nullptr) return symbols[i];
  }
  return nullptr;
}

const char *sl_resolve_driver(sl_driver *driver, sl_resolver resolve, void *context) {
  return fill((void **)driver, driver_symbols, sizeof *driver / sizeof(void *), resolve, context);
}

const char *sl_resolve_nvrtc(sl_nvrtc *nvrtc, sl_resolver resolve, void *context) {
  return fill((void **)nvrtc, nvrtc_symbols, sizeof *nvrtc / sizeof(void *), resolve, context);
}

const char *sl_resolve_cublaslt(sl_cublaslt *cublaslt, sl_resolver resolve, void *context) {
  return fill((void **)cublaslt, cublaslt_symbols, sizeof *cublaslt / sizeof(void *), resolve, context);
}

const char *sl_resolve_cudnn(sl_cudnn *cudnn, sl_resolver resolve, void *context) {
  return fill((void **)cudnn, cudnn_symbols, sizeof *cudnn / sizeof(void *), resolve, context);
}

const char *sl_resolve_nccl(sl_nccl *nccl, sl_resolver resolve, void *context) {
  return fill((void **)nccl, nccl_symbols, sizeof *nccl / sizeof(void *), resolve, context);
}
