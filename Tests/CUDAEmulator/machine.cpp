// Blocks of threads on the processor: every thread a fiber, which runs until it waits for others.
#include "machine.h"

#include <stdlib.h>
#include <ucontext.h>

#include <vector>

Index threadIdx, blockIdx, blockDim, gridDim;
u8 *emulated_shared_memory;

namespace {

constexpr size_t stack_bytes = 96 << 10;

struct Warp {
  int arrived = 0, live = 0;
  unsigned generation = 0;
  void *lanes[32] = {};
};

struct Fiber {
  ucontext_t context;
  Index index;
  int number;
  bool done;
};

struct Block {
  const EmulatedKernel *kernel;
  void **parameters;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<u8> stacks;
  ucontext_t scheduler;
  int current = 0, live = 0, waiting = 0;
  unsigned barrier = 0;
} block;

void yield() {
  Fiber &fiber = block.fibers[(size_t)block.current];
  swapcontext(&fiber.context, &block.scheduler);
  threadIdx = fiber.index;
}

void release_barrier_if_complete() {
  if (block.live > 0 && block.waiting == block.live) block.waiting = 0, block.barrier++;
}

void run_fiber() {
  Fiber &fiber = block.fibers[(size_t)block.current];
  block.kernel->run(block.kernel->function, block.parameters);
  fiber.done = true;
  block.live--;
  block.warps[(size_t)fiber.number / 32].live--;
  release_barrier_if_complete();
  swapcontext(&fiber.context, &block.scheduler);
}

void run_block() {
  size_t count = (size_t)blockDim.x * blockDim.y * blockDim.z;
  block.fibers.resize(count);
  block.warps.assign((count + 31) / 32, Warp());
  if (block.stacks.size() < count * stack_bytes) block.stacks.resize(count * stack_bytes);
  block.live = (int)count;
  block.waiting = 0;
  for (size_t i = 0; i < count; i++) {
    Fiber &fiber = block.fibers[i];
    fiber.number = (int)i;
    fiber.done = false;
    fiber.index = {(unsigned)(i % blockDim.x), (unsigned)(i / blockDim.x % blockDim.y),
                   (unsigned)(i / blockDim.x / blockDim.y)};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = block.stacks.data() + i * stack_bytes;
    fiber.context.uc_stack.ss_size = stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
    block.warps[i / 32].live++;
  }
  while (block.live > 0) {
    for (size_t i = 0; i < count; i++) {
      if (block.fibers[i].done) continue;
      block.current = (int)i;
      threadIdx = block.fibers[i].index;
      swapcontext(&block.scheduler, &block.fibers[i].context);
    }
  }
}

}  // namespace

void __syncthreads() {
  unsigned barrier = block.barrier;
  block.waiting++;
  release_barrier_if_complete();
  while (block.barrier == barrier) yield();
}

void emulated_collective(void *lane, void (*operate)(void **lanes)) {
  Fiber &fiber = block.fibers[(size_t)block.current];
  Warp &warp = block.warps[(size_t)fiber.number / 32];
  warp.lanes[fiber.number % 32] = lane;
  unsigned generation = warp.generation;
  if (++warp.arrived == 32) {
    operate(warp.lanes);
    warp.arrived = 0;
    warp.generation++;
  }
  while (warp.generation == generation) yield();
}

void emulated_launch(const EmulatedKernel *kernel, Index grid, Index threads, size_t shared_bytes, void **parameters) {
  block.kernel = kernel;
  block.parameters = parameters;
  gridDim = grid;
  blockDim = threads;
  emulated_shared_memory = (u8 *)aligned_alloc(128, (shared_bytes + 127) / 128 * 128 + 128);
  for (unsigned y = 0; y < grid.y; y++)
    for (unsigned x = 0; x < grid.x; x++) {
      blockIdx = {x, y, 0};
      memset(emulated_shared_memory, 0xff, shared_bytes);
      run_block();
    }
  free(emulated_shared_memory);
}
