// Vectors of SL_WIDTH fp32 lanes for one instruction set; included by each_path.h once for each (hence no `pragma once`).
// Written in clang's vector extension: the enclosing target attribute decides the instructions.

#undef VF
#undef VI
#undef VH
#undef VU
#undef FN
#define VF SL_NAME(vf)  // SL_WIDTH × float
#define VI SL_NAME(vi)  // SL_WIDTH × int32
#define VU SL_NAME(vu)  // SL_WIDTH × uint32
#define VH SL_NAME(vh)  // SL_WIDTH × uint16
#define FN static inline __attribute__((always_inline, unused))

typedef float VF __attribute__((ext_vector_type(SL_WIDTH), aligned(4)));
typedef int32_t VI __attribute__((ext_vector_type(SL_WIDTH), aligned(4)));
typedef uint32_t VU __attribute__((ext_vector_type(SL_WIDTH), aligned(4)));
typedef uint16_t VH __attribute__((ext_vector_type(SL_WIDTH), aligned(2)));

#undef v_splat
#undef v_from_bf16
#undef v_to_bf16
#undef v_load
#undef v_store
#undef v_load_part
#undef v_store_part
#undef v_max
#undef v_sum
#undef v_maximum
#undef v_exp
#undef v_sigmoid
#define v_splat SL_NAME(v_splat)
#define v_from_bf16 SL_NAME(v_from_bf16)
#define v_to_bf16 SL_NAME(v_to_bf16)
#define v_load SL_NAME(v_load)
#define v_store SL_NAME(v_store)
#define v_load_part SL_NAME(v_load_part)
#define v_store_part SL_NAME(v_store_part)
#define v_max SL_NAME(v_max)
#define v_sum SL_NAME(v_sum)
#define v_maximum SL_NAME(v_maximum)
#define v_exp SL_NAME(v_exp)
#define v_sigmoid SL_NAME(v_sigmoid)

FN VF v_splat(float x) { return (VF){} + x; }

FN VF v_from_bf16(VH x) { return (VF)(__builtin_convertvector(x, VU) << 16); }

/// Rounds to nearest even; NaN stays NaN.
FN VH v_to_bf16(VF x) {
#if SL_PAIR == 2
  return (VH)_mm512_cvtneps_pbh((__m512)x);
#else
  VU bits = (VU)x;
  VU rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  VU quiet = (bits >> 16) | 0x40;
  VU is_nan = (VU)(x != x);
  return __builtin_convertvector((rounded & ~is_nan) | (quiet & is_nan), VH);
#endif
}

/// Elements i..<i + SL_WIDTH of `p`.
FN VF v_load(const void *p, int64_t i, sl_dtype dtype) {
  if (dtype == SL_F32) return *(const VF *)((const float *)p + i);
  return v_from_bf16(*(const VH *)((const uint16_t *)p + i));
}

FN void v_store(void *p, int64_t i, sl_dtype dtype, VF x) {
  if (dtype == SL_F32)
    *(VF *)((float *)p + i) = x;
  else
    *(VH *)((uint16_t *)p + i) = v_to_bf16(x);
}

/// The first `count` < SL_WIDTH elements from i on; the other lanes are 0.
FN VF v_load_part(const void *p, int64_t i, int64_t count, sl_dtype dtype) {
  if (dtype == SL_F32) {
    VF x = {};
    memcpy(&x, (const float *)p + i, (size_t)count * 4);
    return x;
  }
  VH x = {};
  memcpy(&x, (const uint16_t *)p + i, (size_t)count * 2);
  return v_from_bf16(x);
}

FN void v_store_part(void *p, int64_t i, int64_t count, sl_dtype dtype, VF x) {
  if (dtype == SL_F32) {
    memcpy((float *)p + i, &x, (size_t)count * 4);
  } else {
    VH h = v_to_bf16(x);
    memcpy((uint16_t *)p + i, &h, (size_t)count * 2);
  }
}

/// The larger of each pair; b where a is NaN.
FN VF v_max(VF a, VF b) { return a > b ? a : b; }

FN float v_sum(VF x) {
  float lanes[SL_WIDTH];
  memcpy(lanes, &x, sizeof lanes);
  for (int half = SL_WIDTH / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

FN float v_maximum(VF x) {
  float lanes[SL_WIDTH];
  memcpy(lanes, &x, sizeof lanes);
  for (int half = SL_WIDTH / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  return lanes[0];
}

/// eˣ within about 1e-7 relative; 0 below -87.3, 2.4e38 above 88.3, NaN for NaN.
FN VF v_exp(VF x) {
  VI tiny = x < -87.3f;
  VF y = v_splat(88.37f) < x ? v_splat(88.37f) : x;
  y = v_splat(-87.3f) > y ? v_splat(-87.3f) : y;
  const float magic = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer, kept in the low bits
  VF shifted = y * 1.44269504088896341f + magic;
  VF n = shifted - magic;
  VF r = y - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  VF p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  VF power = (VF)(((VU)shifted - (0x4b400000u - 127u)) << 23);
  return tiny ? v_splat(0) : p * power;
}

FN VF v_sigmoid(VF x) {
#if SL_WIDTH == 16
  // An estimate of the reciprocal and a Newton step: far cheaper than a division, within 2e-7.
  VF y = 1.0f + v_exp(-x), r = (VF)_mm512_rcp14_ps((__m512)y);
  return r * (2.0f - y * r);
#else
  return 1.0f / (1.0f + v_exp(-x));
#endif
}
