// Conversions between fp32 and the smaller floats.
#include "CBlockFormats.h"
#include "half.h"

SL_KERNEL void sl_decode_f16(const void *source, int64_t blocks, float *out) {
  const uint8_t *in = source;
  for (int64_t i = 0; i < blocks; i++) out[i] = sl_float_of_half(sl_load16(in + 2 * i));
}

SL_KERNEL void sl_decode_bf16(const void *source, int64_t blocks, float *out) {
  const uint8_t *in = source;
  for (int64_t i = 0; i < blocks; i++) out[i] = sl_float_of_bits((uint32_t)sl_load16(in + 2 * i) << 16);
}

SL_KERNEL void sl_decode_f64(const void *source, int64_t blocks, float *out) {
  const uint8_t *in = source;
  for (int64_t i = 0; i < blocks; i++) {
    double value;
    memcpy(&value, in + 8 * i, 8);
    out[i] = (float)value;
  }
}

SL_KERNEL void sl_encode_bf16(const float *source, int64_t count, void *out) {
  uint8_t *to = out;
  for (int64_t i = 0; i < count; i++) {
    uint16_t value = sl_bfloat_of_float(source[i]);
    memcpy(to + 2 * i, &value, 2);
  }
}

SL_KERNEL void sl_encode_f16(const float *source, int64_t count, void *out) {
  uint8_t *to = out;
  for (int64_t i = 0; i < count; i++) {
    uint16_t value = sl_half_of_float(source[i]);
    memcpy(to + 2 * i, &value, 2);
  }
}
