// Builds the including file once per instruction set. The file defines SL_SOURCE as its own name and includes this header;
// it is then included again for each path with SL_WIDTH (fp32 lanes of a vector) and SL_NAME (the names' suffix) set, and
// writes its body once, in vectors of SL_WIDTH lanes. SL_CHOOSE(name) is the variant for this processor.
// A file that defines SL_PAIRED_TOO is built once more for AVX512-BF16, with SL_PAIR 2: there bf16 is rounded in one
// instruction, and matrix products take pairs of bf16 elements; SL_PAIR is 1 elsewhere. SL_CHOOSE_PAIRED(name, dtype) is the variant for operands of that type.
#pragma once
#include "include/threads.h"
#include "include/types.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define SL_TARGET_AVX2 "avx2,fma"
#define SL_TARGET_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#define SL_TARGET_AVX512BF16 SL_TARGET_AVX512 ",avx512bf16"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(SL_PAIRED_TOO)
#define SL_WIDTH 16
#define SL_PAIR 2
#define SL_NAME(name) name##_avx512bf16
#pragma clang attribute push(__attribute__((target(SL_TARGET_AVX512BF16))), apply_to = function)
#include "vector_math.h"
#include SL_SOURCE
#pragma clang attribute pop
#undef SL_WIDTH
#undef SL_PAIR
#undef SL_NAME
#endif
#define SL_PAIR 1
#define SL_WIDTH 16
#define SL_NAME(name) name##_avx512
#pragma clang attribute push(__attribute__((target(SL_TARGET_AVX512))), apply_to = function)
#include "vector_math.h"
#include SL_SOURCE
#pragma clang attribute pop
#undef SL_WIDTH
#undef SL_NAME
#define SL_WIDTH 8
#define SL_NAME(name) name##_avx2
#pragma clang attribute push(__attribute__((target(SL_TARGET_AVX2))), apply_to = function)
#include "vector_math.h"
#include SL_SOURCE
#pragma clang attribute pop
#undef SL_WIDTH
#undef SL_NAME
#undef SL_PAIR
#endif

#define SL_PAIR 1
#define SL_WIDTH 4
#define SL_NAME(name) name##_generic
#include "vector_math.h"
#include SL_SOURCE

#if defined(__x86_64__)
#define SL_CHOOSE(name)                                                                                                \
  (sl_current_path() >= SL_PATH_AVX512 ? name##_avx512                                                                 \
                                       : sl_current_path() == SL_PATH_AVX2 ? name##_avx2 : name##_generic)
#define SL_CHOOSE_PAIRED(name, dtype)                                                                                  \
  ((dtype) == SL_BF16 && sl_current_path() == SL_PATH_AVX512BF16 ? name##_avx512bf16 : SL_CHOOSE(name))
#else
#define SL_CHOOSE(name) name##_generic
#define SL_CHOOSE_PAIRED(name, dtype) name##_generic
#endif
