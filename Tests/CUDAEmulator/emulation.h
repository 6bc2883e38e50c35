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
#define MEMBER inline
#define KERNEL(threads, blocks) static void
#define DYNAMIC_SHARED(name) u8 *name = emulated_shared_memory
#define INFINITE INFINITY
#define __shared__ static
#define CONSTANT static const
#define GRID_CONSTANT
static inline void wait_for_previous() {}
static inline void let_next_begin() {}

struct Index {
  unsigned x, y, z;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;
extern u8 *emulated_shared_memory;

struct uint2 { u32 x, y; };
struct float2 { float x, y; };
static inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
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
static inline u32 __float_as_uint(float value) {
  u32 bits;
  memcpy(&bits, &value, 4);
  return bits;
}
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline u32 narrow2(float low, float high) { return narrow(low) | (u32)narrow(high) << 16; }
static inline float power2(float x) { return exp2f(x); }

/// Every lane gets the value of the lane that it names.
template <class T> static inline T emulated_shuffle(T value, int from) {
  struct Lane {
    T value, result;
    int from;
  } lane = {value, T(), from};
  emulated_collective(&lane, [](void **lanes) {
    for (int i = 0; i < 32; i++) ((Lane *)lanes[i])->result = ((Lane *)lanes[((Lane *)lanes[i])->from & 31])->value;
  });
  return lane.result;
}
static inline int emulated_lane() {
  return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}
template <class T> static inline T __shfl_sync(u32, T value, int from) { return emulated_shuffle(value, from); }
template <class T> static inline T __shfl_xor_sync(u32, T value, int mask) {
  return emulated_shuffle(value, emulated_lane() ^ mask);
}
static inline void __syncwarp() { emulated_shuffle(0, 0); }
static inline void __threadfence() {}
static inline u32 kept(u32 x) { return x; }
static inline u64 kept(u64 x) { return x; }
static inline u32 kept_of_warp(u32 x) { return x; }
static inline u64 kept_of_warp(u64 x) { return x; }
static inline int atomicAdd(int *p, int value) {
  int old = *p;
  *p += value;
  return old;
}
static inline uint4 load_once(const uint4 *p) { return *p; }
union Halves {
  _Float16 half[2];
  u32 bits;
};
static inline u32 pair_of_halves(float low, float high) { return Halves{{(_Float16)low, (_Float16)high}}.bits; }
static inline u32 multiply_add_halves(u32 a, u32 b, u32 c) {
  Halves x = {.bits = a}, y = {.bits = b}, z = {.bits = c};
  for (int i = 0; i < 2; i++) z.half[i] = (_Float16)((float)x.half[i] * (float)y.half[i] + (float)z.half[i]);
  return z.bits;
}
static inline u32 multiply_halves(u32 a, u32 b) { return multiply_add_halves(a, b, 0); }
static inline u32 add_halves(u32 a, u32 b) { return multiply_add_halves(a, pair_of_halves(1, 1), b); }
static inline float low_half(u32 a) { return (float)Halves{.bits = a}.half[0]; }
static inline float high_half(u32 a) { return (float)Halves{.bits = a}.half[1]; }
static inline float load_fresh(const float *p) { return *p; }

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

static inline void multiply_first(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  c[0] = c[1] = c[2] = c[3] = 0;
  multiply_add(c, a, b0, b1);
}
typedef const u8 *shared_place;
static inline shared_place place_of(const void *p) { return (const u8 *)p; }
static inline void load_shared_if(uint4 &r, shared_place p, bool wanted) {
  // What is not wanted must not matter.
  memset(&r, 0x7f, sizeof r);
  if (wanted) memcpy(&r, p, sizeof r);
}
static inline u32 __byte_perm(u32 x, u32 y, u32 selector) {
  u64 bytes = (u64)y << 32 | x;
  u32 result = 0;
  for (int i = 0; i < 4; i++) result |= (u32)(bytes >> (selector >> 4 * i & 7u) * 8 & 255u) << 8 * i;
  return result;
}

static inline void copy_async(void *shared, const void *global, int bytes) {
  memset(shared, 0, 16);
  memcpy(shared, global, (size_t)bytes);
}
static inline void copy_async(u32 *shared, const void *global, bool wanted) {
  *shared = 0;
  if (wanted) memcpy(shared, global, 4);
}
static inline void copy_async(uint2 *shared, const void *global, bool wanted) {
  memset(shared, 0, 8);
  if (wanted) memcpy(shared, global, 8);
}
static inline void commit_copies() {}
template <int pending> void wait_copies() {}

// MARK: Registration

/// A kernel's name and a function that takes its arguments from a launch's array of pointers.
struct EmulatedKernel {
  const char *name;
  void (*run)(void (*function)(), void **parameters);
  void (*function)();
  /// Bytes of each argument, for who keeps them until later.
  const size_t *sizes;
  size_t count;
  EmulatedKernel *next;
};
void emulated_register(EmulatedKernel *kernel);

template <class... A> struct EmulatedCaller {
  template <size_t N, size_t... I> struct Count : Count<N - 1, N - 1, I...> {};
  template <size_t... I> struct Count<0, I...> {
    static void call(void (*f)(A...), void **p) { f(*(A *)p[I]...); }
  };
  static constexpr size_t sizes[] = {sizeof(A)...};
  static void run(void (*f)(), void **p) { Count<sizeof...(A)>::call((void (*)(A...))f, p); }
};

struct EmulatedRegistration {
  EmulatedKernel kernel;
  template <class... A> EmulatedRegistration(const char *name, void (*f)(A...))
      : kernel{name, EmulatedCaller<A...>::run, (void (*)())f, EmulatedCaller<A...>::sizes, sizeof...(A), nullptr} {
    emulated_register(&kernel);
  }
};
#define EMULATED(name) static EmulatedRegistration registration_##name(#name, name);
