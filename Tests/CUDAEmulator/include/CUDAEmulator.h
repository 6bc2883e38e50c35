// A GPU that is not there: enough of NVIDIA's driver, NVRTC and cuBLASLt to run the kernels' own sources on the processor.
//
// Slow and exact about what counts: threads of a block interleave at barriers and in warp-wide instructions, memory is
// filled with NaN when it is allocated, tensor-core fragments lie as the hardware lays them.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

/// The stand-in for a function of libcuda, libnvrtc or libcublasLt, or NULL.
void *sl_emulated_symbol(const char *name);

/// How much shared memory a block of the GPUs that are made from now on has, in bytes: 227 KB unless told otherwise.
void sl_emulate_block_memory(int bytes);

/// Bytes that tensors hold now.
long sl_emulated_bytes(void);

#ifdef __cplusplus
}
#endif
