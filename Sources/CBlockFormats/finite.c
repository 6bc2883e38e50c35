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

// Without their signs, floats are ordered as their bits are; NaN lies beyond infinity.
SL_KERNEL int sl_is_within_f32(const float *source, int64_t count, float greatest) {
  const uint32_t limit = sl_bits_of_float(greatest);
  uint32_t found = 0;
  for (int64_t i = 0; i < count; i++) found |= (sl_bits_of_float(source[i]) & 0x7FFFFFFFu) > limit;
  return found == 0;
}
