// What every kernel begins with: types, conversions, vector loads, reductions and the tensor cores' instructions.
//
// Kernels include no header of the toolkit: NVRTC compiles them with nothing but itself. `SL_EMULATED` builds the same
// sources for the processor (Tests/CUDAEmulator), which has its own versions of what is PTX here.
#pragma once

#ifndef SL_EMULATED

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define DEVICE __device__ __forceinline__
#define MEMBER __device__ __forceinline__
/// A kernel of blocks of at most `threads` threads, `blocks` of them at home on one multiprocessor.
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
/// The block's dynamic shared memory, in bytes.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) u8 name[]
#define INFINITE __int_as_float(0x7f800000)
/// A table that all threads read.
#define CONSTANT static __device__ const
/// A structure of arguments that stays where the launch put it.
#define GRID_CONSTANT __grid_constant__

/// Waits until the kernels before in the stream have written what they write; at once where this one was launched after them.
DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Lets the next kernel's blocks begin, up to where they wait.
///
/// A kernel with one block for each multiprocessor says so at once. Any other says it when it has waited: the next one's
/// blocks would else come to where there is room first, two to some multiprocessors and none to others.
DEVICE void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
/// What is read once: it takes no place in the nearest cache.
DEVICE uint4 load_once(const uint4 *p) {
  uint4 r;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p));
  return r;
}
/// Two f16 side by side, the first in the low half: made of fp32, multiplied, added, and apart again.
DEVICE u32 pair_of_halves(float low, float high) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE u32 multiply_halves(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
DEVICE u32 multiply_add_halves(u32 a, u32 b, u32 c) {
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
DEVICE u32 add_halves(u32 a, u32 b) {
  u32 r;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
DEVICE float low_half(u32 a) {
  float r;
  asm("{\n.reg .f16 l, h;\nmov.b32 {l, h}, %1;\ncvt.f32.f16 %0, l;\n}" : "=f"(r) : "r"(a));
  return r;
}
DEVICE float high_half(u32 a) {
  float r;
  asm("{\n.reg .f16 l, h;\nmov.b32 {l, h}, %1;\ncvt.f32.f16 %0, h;\n}" : "=f"(r) : "r"(a));
  return r;
}
/// A value that the compiler will not work out again from what it was made of, of each lane, and of a warp whose lanes all have
/// the same.
DEVICE u32 kept(u32 x) { return __shfl_xor_sync(0xffffffffu, x, 0); }
DEVICE u64 kept(u64 x) { return (u64)kept((u32)(x >> 32)) << 32 | kept((u32)x); }
DEVICE u32 kept_of_warp(u32 x) { return __shfl_sync(0xffffffffu, x, 0); }
DEVICE u64 kept_of_warp(u64 x) { return (u64)kept_of_warp((u32)(x >> 32)) << 32 | kept_of_warp((u32)x); }
/// A place in shared memory, counted in bytes.
typedef u32 shared_place;
DEVICE shared_place place_of(const void *p) { return (u32)__cvta_generic_to_shared(p); }
/// Sixteen bytes of shared memory where they are wanted, else anything.
DEVICE void load_shared_if(uint4 &r, shared_place p, bool wanted) {
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %5, 0;\n@q ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
               : "r"(p), "r"((u32)wanted));
}
/// What another block may have written since this one began.
DEVICE float load_fresh(const float *p) {
  float r;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(r) : "l"(p) : "memory");
  return r;
}

/// Round to nearest, ties to even.
DEVICE u16 narrow(float x) {
  u16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
/// Two floats as bf16 in one register, the first in the low half.
DEVICE u32 narrow2(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE float widen(u16 x) { return __uint_as_float((u32)x << 16); }
/// 2ˣ to about 2 ulp.
DEVICE float power2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// MARK: Tensor cores (sm_80)
//
// Fragments of m16n8k16, g = lane / 4 and t = lane % 4 of the warp: A (16 × 16) holds rows g and g + 8, columns 2t, 2t + 1
// and 2t + 8, 2t + 9; B (16 × 8) holds rows 2t, 2t + 1 (first register), 2t + 8, 2t + 9 (second) of column g; C (16 × 8)
// holds columns 2t, 2t + 1 of row g (c[0], c[1]) and of row g + 8 (c[2], c[3]).

DEVICE u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

/// Four 8 × 8 matrices of 16-bit elements from shared memory: lane l says where row l % 8 of matrix l / 8 begins, and
/// receives elements 2t, 2t + 1 of row g of each.
DEVICE void load_matrices(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
/// The same of the transposed matrices: elements (2t, g), (2t + 1, g).
DEVICE void load_transposed(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
/// c += a · b.
DEVICE void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// c = a · b.
DEVICE void multiply_first(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%10, %10, %10, %10};"
               : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}

/// Starts copying 16 bytes from global to shared memory, of which only the first `bytes` are read; the rest is zero.
DEVICE void copy_async(void *shared, const void *global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}
/// Eight bytes, or zeros.
DEVICE void copy_async(uint2 *shared, const void *global, bool wanted) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(wanted ? 8 : 0)
               : "memory");
}
/// Four bytes, or zeros.
DEVICE void copy_async(u32 *shared, const void *global, bool wanted) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(wanted ? 4 : 0)
               : "memory");
}
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `pending` of the last committed groups are still under way.
template <int pending> DEVICE void wait_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory"); }

#endif  // SL_EMULATED

/// Two bf16 of one register, the first in the low half.
DEVICE void widen_pair(float *to, u32 pair) {
  to[0] = __uint_as_float(pair << 16), to[1] = __uint_as_float(pair & 0xffff0000u);
}

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

// MARK: Eight elements
//
// Elementwise kernels give each thread eight neighbours: 16 bytes of bf16, 32 of fp32. `aligned` says that every row
// begins at 16 bytes; the last elements of a row, and all where it is false, go one at a time.

struct Eight {
  float v[8];
};

DEVICE Eight load_vector(const float *p) {
  float4 a = *(const float4 *)p, b = *(const float4 *)(p + 4);
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
DEVICE Eight load_vector(const u16 *p) {
  uint4 a = *(const uint4 *)p;
  return {{widen((u16)a.x), widen((u16)(a.x >> 16)), widen((u16)a.y), widen((u16)(a.y >> 16)), widen((u16)a.z),
           widen((u16)(a.z >> 16)), widen((u16)a.w), widen((u16)(a.w >> 16))}};
}
DEVICE void store_vector(float *p, const Eight &x) {
  *(float4 *)p = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
  *(float4 *)(p + 4) = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
}
DEVICE void store_vector(u16 *p, const Eight &x) {
  *(uint4 *)p = make_uint4(narrow2(x.v[0], x.v[1]), narrow2(x.v[2], x.v[3]), narrow2(x.v[4], x.v[5]),
                           narrow2(x.v[6], x.v[7]));
}
DEVICE float load_one(const float *p) { return *p; }
DEVICE float load_one(const u16 *p) { return widen(*p); }
DEVICE void store_one(float *p, float x) { *p = x; }
DEVICE void store_one(u16 *p, float x) { *p = narrow(x); }

/// The first `n` of eight elements at p; the others are zero.
template <class T> DEVICE Eight load8(const T *p, i64 n, int aligned) {
  if (aligned && n >= 8) return load_vector(p);
  Eight x;
#pragma unroll
  for (int i = 0; i < 8; i++) x.v[i] = i < n ? load_one(p + i) : 0.0f;
  return x;
}
template <class T> DEVICE void store8(T *p, const Eight &x, i64 n, int aligned) {
  if (aligned && n >= 8) {
    store_vector(p, x);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
    if (i < n) store_one(p + i, x.v[i]);
}

// MARK: Reductions

/// The largest magnitude of a block of 64 of which eight neighbouring threads have eight each; whole warps ask.
DEVICE float block_highest(const Eight &value) {
  float highest = 0;
#pragma unroll
  for (int i = 0; i < 8; i++) highest = fmaxf(highest, fabsf(value.v[i]));
#pragma unroll
  for (int step = 4; step > 0; step /= 2) highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, step));
  return highest;
}

DEVICE float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
DEVICE float warp_max(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
/// The sum over a block of up to 1024 threads, the same bits in every thread; `room`: 32 floats of shared memory.
DEVICE float block_sum(float x, float *room) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  float total = threadIdx.x % 32 < (blockDim.x + 31) / 32 ? room[threadIdx.x % 32] : 0.0f;
  return warp_sum(total);
}
DEVICE float block_max(float x, float *room) {
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  float highest = threadIdx.x % 32 < (blockDim.x + 31) / 32 ? room[threadIdx.x % 32] : -INFINITE;
  return warp_max(highest);
}
