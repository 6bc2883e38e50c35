#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <fcntl.h>

int sl_reserve(int descriptor, int64_t size) {
  if (size <= 0) return 0;
  int result;
  do result = fallocate(descriptor, 0, 0, size) == 0 ? 0 : errno;
  while (result == EINTR);
  return result;
}
