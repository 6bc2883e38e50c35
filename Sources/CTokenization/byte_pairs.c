#include "byte_pairs.h"

#define LINED static inline __attribute__((always_inline))

/// Where symbols go as they are found: the three arrays have room for one per byte.
typedef struct {
  int32_t *ids, *lengths;
  size_t count;
  /// Bytes before the first symbol that have no token; those after a symbol count to its length.
  size_t skipped;
} symbols;

LINED void add(symbols *s, int32_t id, size_t length) {
  s->ids[s->count] = id;
  s->lengths[s->count++] = (int32_t)length;
}

/// Ends a run of bytes that have no token.
LINED void end_unknown(const sl_byte_pairs *m, symbols *s, size_t length) {
  if (m->unknown >= 0) {
    add(s, m->unknown, length);
  } else if (s->count > 0) {
    s->lengths[s->count - 1] += (int32_t)length;
  } else {
    s->skipped += length;
  }
}

/// Writes the symbols that a word starts as.
LINED void find_symbols(const sl_byte_pairs *m, const uint8_t *word, size_t count, symbols *s) {
  size_t unknown = 0, step;
  for (size_t i = 0; i < count; i += step) {
    step = 1;
    if (m->takes_characters && word[i] >= 0x80) {
      step = word[i] < 0xE0 ? 2 : word[i] < 0xF0 ? 3 : 4;
      if (step > count - i) step = count - i;
    }
    int32_t id = m->takes_characters ? sl_find_token(&m->tokens, word + i, step) : m->byte_tokens[word[i]];
    bool falls_back = id < 0 && m->takes_characters && m->falls_back_to_bytes;
    if (unknown && (id >= 0 || falls_back || !m->fuses_unknown)) {
      end_unknown(m, s, unknown);
      unknown = 0;
    }
    if (id >= 0) {
      add(s, id, step);
    } else if (falls_back) {
      for (size_t j = 0; j < step; j++) add(s, m->byte_tokens[word[i + j]], 1);
    } else {
      unknown += step;
    }
  }
  if (unknown) end_unknown(m, s, unknown);
}

/// Merges symbols in place by searching the lowest rank again and again: the fastest way for words.
static size_t merge_short(const sl_byte_pairs *m, int32_t *ids, int32_t *lengths, size_t count) {
  int32_t ranks[SL_SHORT_MERGE], results[SL_SHORT_MERGE];
  for (size_t i = 0; i + 1 < count; i++) {
    sl_pair pair = sl_find_pair(m->merges, m->merge_mask, ids[i], ids[i + 1]);
    ranks[i] = pair.first;
    results[i] = pair.second;
  }
  while (count > 1) {
    size_t best = 0;
    int32_t rank = ranks[0];
    for (size_t i = 1; i + 1 < count; i++) {
      best = ranks[i] < rank ? i : best;
      rank = ranks[i] < rank ? ranks[i] : rank;
    }
    if (rank == SL_NO_PAIR) break;
    ids[best] = results[best];
    lengths[best] += lengths[best + 1];
    count--;
    for (size_t i = best + 1; i < count; i++) {
      ids[i] = ids[i + 1];
      lengths[i] = lengths[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    if (best > 0) {
      sl_pair pair = sl_find_pair(m->merges, m->merge_mask, ids[best - 1], ids[best]);
      ranks[best - 1] = pair.first;
      results[best - 1] = pair.second;
    }
    if (best + 1 < count) {
      sl_pair pair = sl_find_pair(m->merges, m->merge_mask, ids[best], ids[best + 1]);
      ranks[best] = pair.first;
      results[best] = pair.second;
    }
  }
  return count;
}

// A heap of merges, the lowest rank on top, then the leftmost: rank in the upper half, place in the lower.

LINED void sink(uint64_t *heap, size_t count, size_t parent, uint64_t value) {
  for (;;) {
    size_t child = parent * 2 + 1;
    if (child >= count) break;
    if (child + 1 < count && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= value) break;
    heap[parent] = heap[child];
    parent = child;
  }
  heap[parent] = value;
}

LINED void push(uint64_t *heap, size_t *count, uint64_t value) {
  size_t child = (*count)++;
  while (child > 0) {
    size_t parent = (child - 1) / 2;
    if (heap[parent] <= value) break;
    heap[child] = heap[parent];
    child = parent;
  }
  heap[child] = value;
}

static const uint32_t NONE = UINT32_MAX;

/// Looks the merge of a symbol with the next one up; whether there is one.
LINED bool propose(const sl_byte_pairs *m, sl_symbol *s, uint32_t left) {
  s[left].rank = SL_NO_PAIR;
  if (s[left].next == NONE) return false;
  sl_pair pair = sl_find_pair(m->merges, m->merge_mask, s[left].id, s[s[left].next].id);
  s[left].rank = pair.first;
  s[left].result = pair.second;
  return pair.first != SL_NO_PAIR;
}

LINED uint64_t order(const sl_symbol *s, uint32_t left) { return (uint64_t)(uint32_t)s[left].rank << 32 | left; }

/// Merges symbols by a linked list and a heap: n · log n steps for n symbols.
static size_t merge_long(
    const sl_byte_pairs *m, int32_t *ids, int32_t *lengths, size_t count, sl_symbol *s, uint64_t *heap) {
  if (count < 2) return count;
  size_t waiting = 0;
  for (uint32_t i = 0; i < count; i++) {
    s[i] = (sl_symbol){ids[i], lengths[i], SL_NO_PAIR, -1, i == 0 ? NONE : i - 1, i + 1 < count ? i + 1 : NONE};
  }
  for (uint32_t i = 0; i + 1 < count; i++) {
    if (propose(m, s, i)) heap[waiting++] = order(s, i);
  }
  for (size_t i = waiting / 2; i-- > 0;) sink(heap, waiting, i, heap[i]);
  while (waiting > 0) {
    uint64_t top = heap[0];
    uint64_t last = heap[--waiting];
    if (waiting) sink(heap, waiting, 0, last);
    uint32_t left = (uint32_t)top;
    // What was proposed may have been overtaken by other merges.
    if (s[left].length == 0 || s[left].rank != (int32_t)(top >> 32)) continue;
    uint32_t next = s[left].next, previous = s[left].previous;
    s[left].id = s[left].result;
    s[left].length += s[next].length;
    s[left].next = s[next].next;
    s[next].length = 0;
    if (s[left].next != NONE) s[s[left].next].previous = left;
    // Each merge takes one from the heap and adds two at most, so it never holds more than two per symbol.
    if (propose(m, s, left)) push(heap, &waiting, order(s, left));
    if (previous != NONE && propose(m, s, previous)) push(heap, &waiting, order(s, previous));
  }
  size_t done = 0;
  for (uint32_t i = 0; i != NONE; i = s[i].next) {
    ids[done] = s[i].id;
    lengths[done++] = s[i].length;
  }
  return done;
}

/// Writes the tokens of a word that is none; returns their number.
///
/// Bytes at its start that have no token are one more where `tells_skipped` is set, with the id -1.
static size_t merge(
    const sl_byte_pairs *m, const uint8_t *word, size_t length, int32_t *ids, int32_t *lengths, sl_word_memory *memory,
    bool tells_skipped) {
  symbols s = {ids, lengths, 0, 0};
  find_symbols(m, word, length, &s);
  if (tells_skipped && s.skipped > 0) {
    // Each symbol is a byte at least, so there is room for one more.
    memmove(ids + 1, ids, s.count * sizeof *ids);
    memmove(lengths + 1, lengths, s.count * sizeof *lengths);
    *ids++ = -1;
    *lengths++ = (int32_t)s.skipped;
    return 1
      + (s.count <= SL_SHORT_MERGE ? merge_short(m, ids, lengths, s.count)
                                   : merge_long(m, ids, lengths, s.count, memory->symbols, memory->heap));
  }
  if (s.count <= SL_SHORT_MERGE) return merge_short(m, ids, lengths, s.count);
  return merge_long(m, ids, lengths, s.count, memory->symbols, memory->heap);
}

/// The token that a word is, or -1.
LINED int32_t whole(const sl_byte_pairs *m, const uint8_t *word, size_t length) {
  if (length > m->longest_token) return -1;
  int32_t id = sl_find_token(&m->tokens, word, length);
  if (id < 0 || m->ignores_merges) return id;
  return (size_t)id < m->whole_count && m->is_whole[id] ? id : -1;
}

/// The tokens of a word of 16 bytes and more, or of a shorter one that `short_words` does not hold.
static size_t encode_rarer(
    const sl_byte_pairs *m, sl_word_memory *memory, const uint8_t *word, size_t length, int32_t *ids,
    int32_t *lengths) {
  int32_t id = whole(m, word, length);
  if (id >= 0) {
    ids[0] = id;
    return 1;
  }
  sl_medium_word *known = NULL;
  if (length <= sizeof known->bytes) {
    known = memory->medium_words + (sl_hash(word, length, m->tokens.seed) >> 24 & memory->medium_mask);
    if (known->count && known->length == length && sl_is_same(known->bytes, word, length)) {
      memcpy(ids, known->ids, sizeof known->ids);
      return (size_t)known->count;
    }
  }
  size_t count = merge(m, word, length, ids, lengths, memory, false);
  if (known && count > 0 && count <= sizeof known->ids / sizeof *known->ids) {
    memcpy(known->bytes, word, length);
    known->length = (uint8_t)length;
    known->count = (int32_t)count;
    memcpy(known->ids, ids, count * sizeof *ids);
  }
  return count;
}

/// The bytes of a word of at most 15, and its length, as two numbers.
LINED void pack(const uint8_t *word, size_t length, size_t readable, uint64_t *low, uint64_t *high) {
  if (readable >= 16) {
    uint64_t first = sl_load8(word), second = sl_load8(word + 8);
    // Where 64 bits are to go, two shifts: one alone is not defined.
    uint64_t kept = length < 8 ? length : 8, more = length - kept;
    *low = kept ? first << (64 - 8 * kept) >> (64 - 8 * kept) : 0;
    *high = second << 1 << (63 - 8 * more) >> 1 >> (63 - 8 * more);
  } else {
    uint8_t bytes[16] = {0};
    memcpy(bytes, word, length);
    *low = sl_load8(bytes);
    *high = sl_load8(bytes + 8);
  }
  *high |= (uint64_t)length << 56;
}

size_t sl_encode_words(
    const sl_byte_pairs *m, sl_word_memory *memory, const uint8_t *text, size_t readable, size_t start,
    const size_t *ends, size_t count, bool tracks_lengths, size_t *produced) {
  int32_t *ids = memory->ids, *lengths = memory->lengths;
  size_t done = 0, room = memory->capacity;
  size_t index = 0;
  for (; index < count; index++) {
    const uint8_t *word = text + start;
    size_t length = ends[index] - start;
    if (length + SL_ID_SLACK > room - done) break;
    if (tracks_lengths) {
      if (length > SL_SHORT_MERGE && length > memory->symbol_capacity) break;
      int32_t id = whole(m, word, length);
      if (id >= 0) {
        ids[done] = id;
        lengths[done++] = (int32_t)length;
      } else {
        done += merge(m, word, length, ids + done, lengths + done, memory, true);
      }
    } else if (length < 16) {
      uint64_t low, high;
      pack(word, length, readable - start, &low, &high);
      size_t place = (size_t)(sl_mix(low ^ m->tokens.seed, high ^ 0xD1B54A32D192ED03) >> 8) & memory->short_mask;
      sl_short_word *known = memory->short_words + place;
      if (known->low == low && known->high == high) {
        memcpy(ids + done, known->ids, sizeof known->ids);
        done += (size_t)known->count;
      } else {
        size_t tokens = encode_rarer(m, memory, word, length, ids + done, lengths + done);
        if (tokens <= sizeof known->ids / sizeof *known->ids) {
          *known = (sl_short_word){low, high, (int32_t)tokens, {0}};
          memcpy(known->ids, ids + done, tokens * sizeof *ids);
        }
        done += tokens;
      }
    } else {
      if (length > SL_SHORT_MERGE && length > memory->symbol_capacity) break;
      done += encode_rarer(m, memory, word, length, ids + done, lengths + done);
    }
    start = ends[index];
  }
  *produced = done;
  return index;
}
