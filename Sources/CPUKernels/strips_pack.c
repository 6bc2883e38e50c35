// Blocks as files have them (CBlockFormats) into strips.
#include <string.h>

#include "strips.h"

static uint16_t load16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/// The sixteen-bit pieces that hold four-bit codes of even elements of eight.
static uint32_t even_nibbles(uint64_t x) {
  x &= 0x000f000f000f000full;
  return (uint32_t)((x | x >> 12 | x >> 24 | x >> 36) & 0xffff);
}

/// Puts 32 codes into lane `row`.
static void put_codes(sl_block_format f, const uint8_t *codes, int row, uint8_t *out) {
  if (f == SL_BLOCKS_Q8_0) {
    for (int v = 0; v < 8; v++) {
      const uint8_t *c = codes + 4 * v, lane[4] = {c[0], c[2], c[1], c[3]};
      memcpy(out + 64 * v + 4 * row, lane, 4);
    }
    return;
  }
  for (int v = 0; v < 4; v++) {
    uint64_t eight = 0;
    for (int i = 0; i < 8; i++) eight |= (uint64_t)codes[8 * v + i] << (8 * i);
    uint32_t lane = even_nibbles(eight) | even_nibbles(eight >> 8) << 16;
    memcpy(out + 64 * v + 4 * row, &lane, 4);
  }
  const int bits = strip_high_bits(f), elements = bits == 0 ? 0 : 32 / bits;
  for (int v = 0; v < bits; v++) {
    uint32_t lane = 0;
    for (int i = 0; i < elements; i++)
      lane |= (uint32_t)(codes[v * elements + i] >> 4) << (16 * (i & 1) + bits * (i / 2));
    memcpy(out + 256 + 64 * v + 4 * row, &lane, 4);
  }
}

static void nibbles(const uint8_t *from, int shift, int count, uint8_t *codes) {
  for (int i = 0; i < count; i++) codes[i] = from[i] >> shift & 15;
}

/// A block of 32 elements: its scale and minimum stand at its beginning.
static void small_codes(sl_block_format f, const uint8_t *block, uint8_t *codes) {
  const uint8_t *at = block + (strip_has_minima(f) ? 4 : 2);
  if (f == SL_BLOCKS_Q8_0) {
    memcpy(codes, at, 32);
    return;
  }
  const int has_high = strip_high_bits(f) == 1;
  uint32_t high = 0;
  if (has_high) {
    for (int i = 0; i < 4; i++) high |= (uint32_t)at[i] << (8 * i);
    at += 4;
  }
  nibbles(at, 0, 16, codes);
  nibbles(at, 4, 16, codes + 16);
  if (has_high)
    for (int i = 0; i < 32; i++) codes[i] |= (uint8_t)((high >> i & 1) << 4);
}

/// Elements 32 · part to 32 · part + 31 of a block of 256.
static void large_codes(sl_block_format f, const uint8_t *block, int part, uint8_t *codes) {
  if (f == SL_BLOCKS_Q6_K) {
    const uint8_t *low = block + 64 * (part / 4) + 32 * (part % 2), *high = block + 128 + 32 * (part / 4);
    nibbles(low, 4 * (part % 4 / 2), 32, codes);
    for (int i = 0; i < 32; i++) codes[i] |= (uint8_t)((high[i] >> (2 * (part % 4)) & 3) << 4);
    return;
  }
  nibbles(block + (f == SL_BLOCKS_Q5_K ? 48 : 16) + 32 * (part / 2), 4 * (part % 2), 32, codes);
  if (f == SL_BLOCKS_Q5_K)
    for (int i = 0; i < 32; i++) codes[i] |= (uint8_t)((block[16 + i] >> part & 1) << 4);
}

/// The six-bit scale and minimum of 32 elements of Q4_K and Q5_K.
static void small_scales(const uint8_t *packed, int part, uint8_t *scale, uint8_t *minimum) {
  if (part < 4) {
    *scale = packed[part] & 63;
    *minimum = packed[part + 4] & 63;
  } else {
    *scale = (uint8_t)((packed[part + 4] & 15) | (packed[part - 4] >> 2 & 0x30));
    *minimum = (uint8_t)((packed[part + 4] >> 4) | (packed[part] >> 2 & 0x30));
  }
}

static int64_t block_bytes(sl_block_format f) {
  switch (f) {
  case SL_BLOCKS_Q4_0: return 18;
  case SL_BLOCKS_Q4_1: return 20;
  case SL_BLOCKS_Q5_0: return 22;
  case SL_BLOCKS_Q5_1: return 24;
  case SL_BLOCKS_Q8_0: return 34;
  case SL_BLOCKS_Q4_K: return 144;
  case SL_BLOCKS_Q5_K: return 176;
  case SL_BLOCKS_Q6_K: return 210;
  }
  return 0;
}

/// Puts the group at `block` into lane `row`; 0 where a scale is no finite number.
static int put_group(sl_block_format f, const uint8_t *block, int row, uint8_t *out) {
  const bool minima = strip_has_minima(f);
  const uint16_t scale = load16(block + (f == SL_BLOCKS_Q6_K ? 208 : 0)), minimum = minima ? load16(block + 2) : 0;
  memcpy(out + 2 * row, &scale, 2);
  if (minima) memcpy(out + 32 + 2 * row, &minimum, 2);
  out += strip_head(f);
  uint8_t codes[32];
  if (!strip_is_large(f)) {
    small_codes(f, block, codes);
    put_codes(f, codes, row, out);
  } else {
    for (int part = 0; part < 8; part++) {
      if (f == SL_BLOCKS_Q6_K) {
        out[row] = block[192 + 2 * part];
        out[16 + row] = block[192 + 2 * part + 1];
      } else {
        small_scales(block + 4, part, &out[row], &out[16 + row]);
      }
      out += 32;
      large_codes(f, block, part, codes);
      put_codes(f, codes, row, out);
      out += strip_codes(f);
    }
  }
  return (scale & 0x7c00) != 0x7c00 && (minimum & 0x7c00) != 0x7c00;
}

int sl_strip_pack(const sl_strips *shape, const void *const *rows, int64_t strip, uint8_t *out) {
  const sl_block_format f = shape->format;
  const int64_t first = strip * strip_rows, groups = shape->k / strip_group(f), stored = block_bytes(f);
  const int count = (int)(shape->n - first < strip_rows ? shape->n - first : strip_rows);
  // Rows beyond the matrix have scales of zero.
  if (count < strip_rows) memset(out, 0, (size_t)strip_bytes(f, shape->k));
  int finite = 1;
  for (int64_t g = 0; g < groups; g++)
    for (int row = 0; row < count; row++)
      finite &= put_group(f, (const uint8_t *)rows[first + row] + g * stored, row, out + g * strip_group_bytes(f));
  return finite ? 0 : sl_blocks_not_finite;
}
