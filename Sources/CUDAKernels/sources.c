#include "include/CUDAKernels.h"


static const char prelude[] = {
#embed "Kernels/prelude.cuh"
  , 0};
static const char attention[] = {
#embed "Kernels/attention.cuh"
  , 0};
static const char cached_heads[] = {
#embed "Kernels/cached_heads.cuh"
  , 0};
static const char half[] = {
#embed "Kernels/half.cuh"
  , 0};
static const char nf4_header[] = {
#embed "Kernels/nf4.cuh"
  , 0};
static const char rows[] = {
#embed "Kernels/rows.cuh"
  , 0};
static const char rows_nf4_header[] = {
#embed "Kernels/rows_nf4.cuh"
  , 0};
static const char rows_one[] = {
#embed "Kernels/rows_one.cuh"
  , 0};
static const char adamw[] = {
#embed "Kernels/adamw.cu"
  , 0};
static const char adamw8bit[] = {
#embed "Kernels/adamw8bit.cu"
  , 0};
static const char attention_backward[] = {
#embed "Kernels/attention_backward.cu"
  , 0};
static const char attention_decode[] = {
#embed "Kernels/attention_decode.cu"
  , 0};
static const char attention_forward[] = {
#embed "Kernels/attention_forward.cu"
  , 0};
static const char calibration[] = {
#embed "Kernels/calibration.cu"
  , 0};
static const char columns[] = {
#embed "Kernels/columns.cu"
  , 0};
static const char crossentropy[] = {
#embed "Kernels/crossentropy.cu"
  , 0};
static const char elementwise[] = {
#embed "Kernels/elementwise.cu"
  , 0};
static const char int8[] = {
#embed "Kernels/int8.cu"
  , 0};
static const char matmul[] = {
#embed "Kernels/matmul.cu"
  , 0};
static const char nf4[] = {
#embed "Kernels/nf4.cu"
  , 0};
static const char rmsnorm[] = {
#embed "Kernels/rmsnorm.cu"
  , 0};
static const char rope[] = {
#embed "Kernels/rope.cu"
  , 0};
static const char rows_adapters[] = {
#embed "Kernels/rows_adapters.cu"
  , 0};
static const char rows_bf16[] = {
#embed "Kernels/rows_bf16.cu"
  , 0};
static const char rows_bf16_one[] = {
#embed "Kernels/rows_bf16_one.cu"
  , 0};
static const char rows_nf4[] = {
#embed "Kernels/rows_nf4.cu"
  , 0};
static const char rows_nf4_many[] = {
#embed "Kernels/rows_nf4_many.cu"
  , 0};
static const char rows_nf4_one[] = {
#embed "Kernels/rows_nf4_one.cu"
  , 0};
static const char sample[] = {
#embed "Kernels/sample.cu"
  , 0};
static const char swiglu[] = {
#embed "Kernels/swiglu.cu"
  , 0};

static const sl_kernel_source sources[] = {
  {"prelude.cuh", prelude},
  {"attention.cuh", attention},
  {"cached_heads.cuh", cached_heads},
  {"half.cuh", half},
  {"nf4.cuh", nf4_header},
  {"rows.cuh", rows},
  {"rows_nf4.cuh", rows_nf4_header},
  {"rows_one.cuh", rows_one},
  {"adamw.cu", adamw},
  {"adamw8bit.cu", adamw8bit},
  {"attention_backward.cu", attention_backward},
  {"attention_decode.cu", attention_decode},
  {"attention_forward.cu", attention_forward},
  {"calibration.cu", calibration},
  {"columns.cu", columns},
  {"crossentropy.cu", crossentropy},
  {"elementwise.cu", elementwise},
  {"int8.cu", int8},
  {"matmul.cu", matmul},
  {"nf4.cu", nf4},
  {"rmsnorm.cu", rmsnorm},
  {"rope.cu", rope},
  {"rows_adapters.cu", rows_adapters},
  {"rows_bf16.cu", rows_bf16},
  {"rows_bf16_one.cu", rows_bf16_one},
  {"rows_nf4.cu", rows_nf4},
  {"rows_nf4_many.cu", rows_nf4_many},
  {"rows_nf4_one.cu", rows_nf4_one},
  {"sample.cu", sample},
  {"swiglu.cu", swiglu},
  {nullptr, nullptr},
};

const sl_kernel_source *sl_kernel_sources_begin(void) { return sources; }
