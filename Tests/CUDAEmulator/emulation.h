// What kernels find instead of CUDA's own words when they are built for the processor.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define SL_EMULATED
#define DEVICE static inline
#define KERNEL(threads, blocks) static void
#define DYNAMIC_SHARED(name) u8 *name = emulated_shared_memory
#define INFINITE INFINITY
#define __shared__ static

struct Index {
  unsigned x, y, z;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;
extern u8 *emulated_shared_memory;

struct uint2 { u32 x, y; };
struct uint4 { u32 x, y, z, w; };
struct int4 { int x, y, z, w; };
struct float4 { float x, y, z, w; };
static inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/// Waits for the block's other threads.
void __syncthreads();
/// Gathers `lane` of all lanes of the warp; the last to arrive calls `operate` on the array.
void emulated_collective(void *lane, void (*operate)(void **lanes));

static inline u16 narrow(float x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  bits = x != x ? bits | 0x400000 : bits + 0x7fff + ((bits >> 16) & 1);
  return (u16)(bits >> 16);
}
static inline float widen(u16 x) {
  u32 bits = (u32)x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
static inline float __uint_as_float(u32 bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline u32 narrow2(float low, float high) { return narrow(low) | (u32)narrow(high) << 16; }
static inline float power2(float x) { return exp2f(x); }

static inline float __shfl_xor_sync(u32, float value, int mask) {
  struct Lane {
    float value, result;
    int mask;
  } lane = {value, 0, mask};
  emulated_collective(&lane, [](void **lanes) {
    for (int i = 0; i < 32; i++) ((Lane *)lanes[i])->result = ((Lane *)lanes[i ^ ((Lane *)lanes[i])->mask])->value;
  });
  return lane.result;
}

struct MatrixLane {
  const u16 *row;
  u32 r[4];
};
static inline void load_matrices(u32 (&r)[4], const void *row) {
  MatrixLane lane = {(const u16 *)row, {}};
  emulated_collective(&lane, [](void **lanes) {
    for (int i = 0; i < 32; i++)
      for (int m = 0; m < 4; m++) {
        const u16 *from = ((MatrixLane *)lanes[m * 8 + i / 4])->row + i % 4 * 2;
        ((MatrixLane *)lanes[i])->r[m] = from[0] | (u32)from[1] << 16;
      }
  });
  memcpy(r, lane.r, sizeof lane.r);
}
static inline void load_transposed(u32 (&r)[4], const void *row) {
  MatrixLane lane = {(const u16 *)row, {}};
  emulated_collective(&lane, [](void **lanes) {
    for (int i = 0; i < 32; i++)
      for (int m = 0; m < 4; m++) {
        u16 first = ((MatrixLane *)lanes[m * 8 + i % 4 * 2])->row[i / 4];
        u16 second = ((MatrixLane *)lanes[m * 8 + i % 4 * 2 + 1])->row[i / 4];
        ((MatrixLane *)lanes[i])->r[m] = first | (u32)second << 16;
      }
  });
  memcpy(r, lane.r, sizeof lane.r);
}
static inline void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  struct Lane {
    float *c;
    const u32 *a;
    u32 b[2];
  } lane = {c, a, {b0, b1}};
  emulated_collective(&lane, [](void **lanes) {
    float a[16][16], b[16][8];
    for (int i = 0; i < 32; i++) {
      const Lane *l = (Lane *)lanes[i];
      int g = i / 4, t = i % 4;
      for (int half = 0; half < 2; half++) {
        for (int j = 0; j < 4; j++) a[g + j % 2 * 8][t * 2 + j / 2 * 8 + half] = widen((u16)(l->a[j] >> (16 * half)));
        for (int j = 0; j < 2; j++) b[t * 2 + j * 8 + half][g] = widen((u16)(l->b[j] >> (16 * half)));
      }
    }
    for (int i = 0; i < 32; i++) {
      const Lane *l = (Lane *)lanes[i];
      for (int j = 0; j < 4; j++) {
        int row = i / 4 + j / 2 * 8, column = i % 4 * 2 + j % 2;
        float sum = l->c[j];
        for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][column];
        l->c[j] = sum;
      }
    }
  });
}

static inline void copy_async(void *shared, const void *global, int bytes) {
  memset(shared, 0, 16);
  memcpy(shared, global, (size_t)bytes);
}
static inline void commit_copies() {}
template <int pending> void wait_copies() {}

// MARK: Registration

/// A kernel's name and a function that takes its arguments from a launch's array of pointers.
struct EmulatedKernel {
  const char *name;
  void (*run)(void (*function)(), void **parameters);
  void (*function)();
  EmulatedKernel *next;
};
void emulated_register(EmulatedKernel *kernel);

template <class... A> struct EmulatedCaller {
  template <size_t N, size_t... I> struct Count : Count<N - 1, N - 1, I...> {};
  template <size_t... I> struct Count<0, I...> {
    static void call(void (*f)(A...), void **p) { f(*(A *)p[I]...); }
  };
  static void run(void (*f)(), void **p) { Count<sizeof...(A)>::call((void (*)(A...))f, p); }
};

struct EmulatedRegistration {
  EmulatedKernel kernel;
  template <class... A> EmulatedRegistration(const char *name, void (*f)(A...))
      : kernel{name, EmulatedCaller<A...>::run, (void (*)())f, nullptr} {
    emulated_register(&kernel);
  }
};
#define EMULATED(name) static EmulatedRegistration registration_##name(#name, name);
