// One block of working memory is kept for the next call; concurrent calls allocate their own.
#include "scratch.h"
#include <stdatomic.h>
#include <stdlib.h>

enum { header = 64 };  // holds the block's size

static _Atomic(void *) kept;

void *sl_take_scratch(size_t size) {
  char *block = atomic_exchange(&kept, NULL);
  if (block != NULL && *(size_t *)block < size) {
    free(block);
    block = NULL;
  }
  if (block == NULL) {
    if (size > SIZE_MAX - 2 * header) return NULL;
    block = aligned_alloc(64, (size + header + 63) / 64 * 64);
    if (block == NULL) return NULL;
    *(size_t *)block = size;
  }
  return block + header;
}

void sl_return_scratch(void *scratch) {
  if (scratch != NULL) free(atomic_exchange(&kept, (char *)scratch - header));
}
