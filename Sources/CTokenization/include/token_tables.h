// Hash tables that are filled once and then read by any number of threads.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// MARK: Pairs of numbers

/// What `first` is where a pair is not there.
#define SL_NO_PAIR INT32_MAX

/// A slot: the pair, and its two values (a merge's rank and result, or a trie's edge).
typedef struct {
  uint64_t key;
  int32_t first, second;
} sl_pair;

static inline uint64_t sl_pair_key(int32_t left, int32_t right) {
  return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/// Where the search for a pair begins.
static inline size_t sl_pair_place(uint64_t key, size_t mask) {
  uint64_t product = key * 0x9E3779B97F4A7C15;
  return (size_t)(product ^ product >> 32) & mask;
}

/// The slot of a pair, or an empty one.
static inline sl_pair sl_find_pair(const sl_pair *slots, size_t mask, int32_t left, int32_t right) {
  uint64_t key = sl_pair_key(left, right);
  size_t place = sl_pair_place(key, mask);
  while (slots[place].key != key && slots[place].key != UINT64_MAX) place = (place + 1) & mask;
  return slots[place];
}

// MARK: Tokens by their bytes

/// A slot: half of the hash, the token's id or -1, and where its bytes lie.
typedef struct {
  uint32_t tag;
  int32_t id;
  uint32_t offset, length;
} sl_token;

/// Tokens; at least one slot is empty.
typedef struct {
  const sl_token *slots;
  const uint8_t *bytes;
  size_t mask;
  uint64_t seed;
} sl_tokens;

static inline uint64_t sl_load8(const uint8_t *bytes) {
  uint64_t value;
  memcpy(&value, bytes, 8);
  return value;
}

static inline uint64_t sl_load4(const uint8_t *bytes) {
  uint32_t value;
  memcpy(&value, bytes, 4);
  return value;
}

static inline uint64_t sl_mix(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/// A hash of bytes that nobody can foretell who does not know the seed.
static inline uint64_t sl_hash(const uint8_t *bytes, size_t count, uint64_t seed) {
  uint64_t state = seed ^ count;
  while (count > 16) {
    state = sl_mix(sl_load8(bytes) ^ state, sl_load8(bytes + 8) ^ 0x9E3779B97F4A7C15);
    bytes += 16;
    count -= 16;
  }
  uint64_t first = 0, second = 0;
  if (count >= 8) {
    first = sl_load8(bytes);
    second = sl_load8(bytes + count - 8);
  } else if (count >= 4) {
    first = sl_load4(bytes);
    second = sl_load4(bytes + count - 4);
  } else if (count) {
    first = (uint64_t)bytes[0] << 16 | (uint64_t)bytes[count >> 1] << 8 | bytes[count - 1];
  }
  return sl_mix(sl_mix(first ^ state, second ^ 0xD1B54A32D192ED03), seed ^ 0x9E3779B97F4A7C15);
}

static inline int sl_is_same(const uint8_t *a, const uint8_t *b, size_t count) {
  if (count >= 8) {
    for (size_t i = 0; i + 8 < count; i += 8) {
      if (sl_load8(a + i) != sl_load8(b + i)) return 0;
    }
    return sl_load8(a + count - 8) == sl_load8(b + count - 8);
  }
  if (count >= 4) return sl_load4(a) == sl_load4(b) && sl_load4(a + count - 4) == sl_load4(b + count - 4);
  return count == 0 || (a[0] == b[0] && a[count >> 1] == b[count >> 1] && a[count - 1] == b[count - 1]);
}

/// The place of the token with these bytes, or of an empty slot.
static inline size_t sl_token_place(const sl_tokens *tokens, const uint8_t *word, size_t count) {
  uint64_t hash = sl_hash(word, count, tokens->seed);
  uint32_t tag = (uint32_t)(hash >> 32);
  size_t place = (size_t)hash & tokens->mask;
  for (;;) {
    sl_token slot = tokens->slots[place];
    if (slot.id < 0) return place;
    if (slot.tag == tag && slot.length == count && sl_is_same(tokens->bytes + slot.offset, word, count)) return place;
    place = (place + 1) & tokens->mask;
  }
}

/// The id of the token with these bytes, or -1.
static inline int32_t sl_find_token(const sl_tokens *tokens, const uint8_t *word, size_t count) {
  return tokens->slots[sl_token_place(tokens, word, count)].id;
}
