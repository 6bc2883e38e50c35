// Finds numbers that are none.
#include "CBlockFormats.h"
#include "half.h"

// An exponent of all ones says infinity or NaN.
SL_KERNEL int sl_is_finite_f32(const void *source, int64_t count) {
  const uint8_t *in = source;
  uint32_t found = 0;
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, in + 4 * i, 4);
    found |= (bits & 0x7F800000u) == 0x7F800000u;
  }
  return found == 0;
}

SL_KERNEL int sl_is_finite_16(const void *source, int64_t count, uint16_t exponent) {
  const uint8_t *in = source;
  uint16_t found = 0;
  for (int64_t i = 0; i < count; i++) {
    uint16_t bits;
    memcpy(&bits, in + 2 * i, 2);
    found |= (bits & exponent) == exponent;
  }
  return found == 0;
}
