// Memory for packed weights, in huge pages. Internal.
#pragma once
#include <stddef.h>

typedef struct slab slab;

/// At least `size` bytes at a multiple of 4096, side by side with earlier ones, so that a whole model lies in few huge
/// pages: the translations of a model in small pages do not fit the processor's tables, and decoding reads all of it for
/// every token. Sets *owner, which `slab_release` wants back; NULL when there is no memory.
void *slab_allocate(size_t size, slab **owner);
/// Gives one allocation of `size` bytes at `values` back: its pages at once, the slab's addresses with the last one.
void slab_release(slab *owner, void *values, size_t size);
