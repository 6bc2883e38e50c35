// Slabs of huge pages, filled from the front.
#define _GNU_SOURCE
#include "slab.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

struct slab {
  char *mapping, *begin;
  size_t mapped, size, used;
  int live;
};

static const size_t huge = (size_t)2 << 20, slab_size = (size_t)64 << 20;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static slab *current;  // the one that small allocations go to

static slab *slab_create(size_t size) {
  slab *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->size = (size + huge - 1) / huge * huge;
  s->mapped = s->size + huge;  // room to begin at a huge page's boundary; untouched pages cost nothing
  void *mapping = mmap(NULL, s->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    free(s);
    return NULL;
  }
  s->mapping = mapping;
  s->begin = (char *)(((uintptr_t)mapping + huge - 1) / huge * huge);
  madvise(s->begin, s->size, MADV_HUGEPAGE);
  return s;
}

static void slab_destroy(slab *s) {
  if (current == s) current = NULL;
  munmap(s->mapping, s->mapped);
  free(s);
}

void *slab_allocate(size_t size, slab **owner) {
  size = (size + 4095) / 4096 * 4096;
  pthread_mutex_lock(&turn);
  slab *s = current;
  if (size > slab_size / 2) {
    s = slab_create(size);
  } else if (!s || s->size - s->used < size) {
    s = slab_create(slab_size);
    if (s) current = s;  // an older one lives on with what it holds
  }
  void *result = NULL;
  if (s) {
    result = s->begin + s->used;
    s->used += size;
    s->live++;
  }
  pthread_mutex_unlock(&turn);
  *owner = s;
  return result;
}

void slab_release(slab *owner, void *values, size_t size) {
  if (!owner) return;
  // What shares a slab with others would else hold its pages as long as they live.
  madvise(values, (size + 4095) / 4096 * 4096, MADV_DONTNEED);
  pthread_mutex_lock(&turn);
  if (--owner->live == 0) slab_destroy(owner);
  pthread_mutex_unlock(&turn);
}
