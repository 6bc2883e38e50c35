#include <string.h>

#include "unicode_classes.h"

void sl_fill_unicode_classes(uint8_t *classes) {
  for (size_t i = 0; i < sl_unicode_run_count; i++) {
    size_t start = sl_unicode_runs[i] >> 8;
    size_t end = i + 1 < sl_unicode_run_count ? sl_unicode_runs[i + 1] >> 8 : SL_UNICODE_COUNT;
    memset(classes + start, (int)(sl_unicode_runs[i] & 0xFF), end - start);
  }
}
