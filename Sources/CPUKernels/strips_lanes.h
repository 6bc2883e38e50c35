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

/// The code of one of 32 elements of each lane, less what stands for zero: `codes` are those of the first lane.
FN VI SL_NAME(code)(const sl_block_format f, const uint8_t *codes, const int element) {
  const int bits = strip_high_bits(f), per_vector = bits == 4 ? 4 : 8;
  const int place = 16 * (element & 1) + (bits == 4 ? 8 : 4) * (element % per_vector / 2);
  const VU w = *(const VU *)(codes + 64 * (element / per_vector));
  if (bits == 4) return (VI)(w << (24 - place)) >> 24;
  VU code = w >> place & 15;
  if (bits > 0) {
    const int within = bits == 1 ? element : element % 16, from = 16 * (element & 1) + bits * (within / 2);
    const VU h = *(const VU *)(codes + 256 + 64 * (bits == 1 ? 0 : element / 16));
    code |= (h >> from & (bits == 1 ? 1 : 3)) << 4;
  }
  return (VI)code - strip_offset(f);
}
