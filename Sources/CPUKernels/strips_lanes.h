// What each of a vector's lanes has in a strip, as fp32. Included once for each path (see each_path.h), without a guard.

/// f16 numbers that are finite.
FN VF SL_NAME(halves)(const uint8_t *p) {
  const VU bits = __builtin_convertvector(*(const VH *)p, VU);
  const VF magnitude = (VF)((bits & 0x7fff) << 13) * 0x1p112f;
  return (VF)((VU)magnitude | (bits & 0x8000) << 16);
}

typedef uint8_t SL_NAME(vb) __attribute__((ext_vector_type(SL_WIDTH), aligned(1)));
typedef int8_t SL_NAME(vc) __attribute__((ext_vector_type(SL_WIDTH), aligned(1)));
FN VF SL_NAME(bytes)(const uint8_t *p) { return __builtin_convertvector(*(const SL_NAME(vb) *)p, VF); }
FN VF SL_NAME(signed_bytes)(const uint8_t *p) { return __builtin_convertvector(*(const SL_NAME(vc) *)p, VF); }
