#include "words.h"

#include <string.h>

#include "unicode_classes.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte in memory is the lowest of a word");

#define LINED static inline __attribute__((always_inline))

/// What a pattern sees: a text that ends at `end`; up to `readable` its bytes may be read.
typedef struct {
  const uint8_t *bytes;
  size_t end, readable;
  const uint8_t *classes;
} text;

/// The category of the character at `at`, as a bit, and how many bytes the character has.
typedef struct {
  uint32_t set;
  uint32_t length;
} character;

LINED character wide_at(text t, size_t at) {
  const uint8_t *b = t.bytes + at;
  uint32_t length = b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
  if (length > t.end - at) return (character){1u << SL_CN, (uint32_t)(t.end - at)};
  uint32_t value;
  if (length == 2) {
    value = (b[0] & 0x1Fu) << 6 | (b[1] & 0x3F);
  } else if (length == 3) {
    value = (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3F);
  } else {
    value = (b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3F);
    if (value > 0x10FFFF) return (character){1u << SL_CN, 4};
  }
  return (character){1u << (t.classes[value] & 31), length};
}

LINED character at(text t, size_t position) {
  uint8_t byte = t.bytes[position];
  return byte < 0x80 ? (character){1u << (t.classes[byte] & 31), 1} : wide_at(t, position);
}

LINED int is_newline(uint8_t byte) { return byte == '\n' || byte == '\r'; }

static const uint64_t ONES = 0x0101010101010101, HIGHS = 0x8080808080808080;

/// How many of the 8 bytes from `bytes` on are ASCII characters from `first` to `last`, before one is not.
/// `fold` is 0x20 to take both cases.
LINED size_t prefix8(const uint8_t *bytes, uint8_t fold, uint8_t first, uint8_t last) {
  uint64_t x;
  memcpy(&x, bytes, 8);
  uint64_t low = (x | fold * ONES) & ~HIGHS;
  uint64_t inside = (low + (0x80 - first) * ONES) & ~(low + (0x7F - last) * ONES) & ~x & HIGHS;
  uint64_t outside = inside ^ HIGHS;
  return outside ? (size_t)__builtin_ctzll(outside) >> 3 : 8;
}

/// Where a run of characters of `set` ends. In ASCII the set's members are those from `first` to `last`, after `fold`.
LINED size_t run_of_letters(text t, size_t p, uint32_t set, uint8_t fold, uint8_t first, uint8_t last) {
  for (;;) {
    while (p + 8 <= t.readable) {
      size_t count = prefix8(t.bytes + p, fold, first, last);
      p += count;
      if (count < 8) break;
    }
    if (p >= t.end) return t.end;
    // Near the end of what may be read, byte by byte.
    while (p < t.end && t.bytes[p] < 0x80) {
      uint8_t byte = t.bytes[p] | fold;
      if (byte < first || byte > last) return p;
      p++;
    }
    while (p < t.end && t.bytes[p] >= 0x80) {
      character c = wide_at(t, p);
      if (!(c.set & set)) return p;
      p += c.length;
    }
    if (p >= t.end) return t.end;
  }
}

LINED size_t letters(text t, size_t p, uint32_t set) { return run_of_letters(t, p, set, 0x20, 'a', 'z'); }

/// Where a run of characters of `set` ends.
LINED size_t run(text t, size_t p, uint32_t set) {
  while (p < t.end) {
    character c = at(t, p);
    if (!(c.set & set)) break;
    p += c.length;
  }
  return p;
}

/// `\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+` at white space, without the first alternative where `tail` is 0 and without the
/// second where `newlines` is.
LINED size_t white_space(text t, size_t start, int newlines, int tail) {
  size_t p = start, last = start, after_newline = 0;
  while (p < t.end) {
    character c = at(t, p);
    if (!(c.set & SL_SPACES)) break;
    last = p;
    p += c.length;
    if (is_newline(t.bytes[last])) after_newline = p;
  }
  if (newlines && after_newline && !(tail && p == t.end)) return after_newline;
  return p == t.end || last == start ? p : last;
}

/// How long `'s|'t|'re|'ve|'m|'ll|'d` is at `p`; 0 when it is not there. Without regard to case, U+017F is an s.
LINED size_t contraction(text t, size_t p, int any_case) {
  if (t.end - p < 2 || t.bytes[p] != '\'') return 0;
  uint8_t fold = any_case ? 0x20 : 0;
  uint8_t first = t.bytes[p + 1] | fold;
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (t.end - p < 3) return 0;
  uint8_t second = t.bytes[p + 2] | fold;
  if (second == 'e' && (first == 'r' || first == 'v')) return 3;
  if (second == 'l' && first == 'l') return 3;
  return any_case && t.bytes[p + 1] == 0xC5 && t.bytes[p + 2] == 0xBF ? 3 : 0;
}

LINED size_t gpt2(text t, size_t p) {
  const uint32_t others = ~(uint32_t)(SL_LETTERS | SL_NUMBERS | SL_SPACES);
  uint8_t byte = t.bytes[p];
  size_t q = p + (byte == ' ');
  if (q < t.end) {
    character c = at(t, q);
    if (c.set & SL_LETTERS) return letters(t, q + c.length, SL_LETTERS);
    if (byte == '\'') {
      size_t length = contraction(t, p, 0);
      if (length) return p + length;
    }
    if (c.set & SL_NUMBERS) return run(t, q + c.length, SL_NUMBERS);
    if (c.set & others) return run(t, q + c.length, others);
  }
  return white_space(t, p, 0, 0);
}

/// `\p{N}{1,most}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, which ends the patterns from GPT-4 on.
LINED size_t numbers_signs_spaces(text t, size_t p, character c, int most, uint32_t others, int slash, int tail) {
  if (c.set & SL_NUMBERS) {
    size_t q = p + c.length;
    for (int count = 1; count < most && q < t.end; count++) {
      character next = at(t, q);
      if (!(next.set & SL_NUMBERS)) break;
      q += next.length;
    }
    return q;
  }
  size_t q = p + (t.bytes[p] == ' ');
  if (q < t.end && at(t, q).set & others) {
    q = run(t, q, others);
    while (q < t.end && (is_newline(t.bytes[q]) || (slash && t.bytes[q] == '/'))) q++;
    return q;
  }
  return white_space(t, p, 1, tail);
}

/// cl100k and its kin: `word` is what words are made of, `most` how many digits stand together.
LINED size_t cl100k(text t, size_t p, uint32_t word, int most, int tail) {
  character c = at(t, p);
  if (c.set & word) return letters(t, p + c.length, word);
  if (t.bytes[p] == '\'') {
    size_t length = contraction(t, p, 1);
    if (length) return p + length;
  }
  if (!(c.set & SL_NUMBERS) && !is_newline(t.bytes[p]) && p + c.length < t.end) {
    character next = at(t, p + c.length);
    if (next.set & word) return letters(t, p + c.length + next.length, word);
  }
  return numbers_signs_spaces(t, p, c, most, ~(word | SL_NUMBERS | SL_SPACES), 0, tail);
}

/// GPT-4o's words: `[^\r\n\p{L}\p{N}]?U*l+` or `[^\r\n\p{L}\p{N}]?U+l*`, where U are letters that are not lower case and
/// marks, l letters that are not upper case and marks; then a contraction.
LINED size_t o200k(text t, size_t p, int contractions, int most) {
  const uint32_t both = 1u << SL_LM | 1u << SL_LO | SL_MARKS;
  const uint32_t upper = both | 1u << SL_LU | 1u << SL_LT, lower = both | 1u << SL_LL;
  character c = at(t, p);
  size_t start = p;
  if (!(c.set & (SL_LETTERS | SL_NUMBERS)) && !is_newline(t.bytes[p])) start += c.length;
  size_t q = start, after_both = 0, end = 0;
  character next = {0, 0};
  while (q < t.end) {
    next = at(t, q);
    if (!(next.set & upper)) break;
    q += next.length;
    if (next.set & both) after_both = q;
  }
  if (q < t.end && next.set & lower) {
    end = run_of_letters(t, q + next.length, lower, 0, 'a', 'z');
  } else if (after_both) {
    // U* gives back until l+ has a character; those after it are upper case alone.
    end = after_both;
  } else if (c.set & SL_MARKS) {
    // The optional first character, given back, is a word by itself.
    end = p + c.length;
  } else if (q > start) {
    end = q;
  }
  if (end) return contractions ? end + contraction(t, end, 1) : end;
  return numbers_signs_spaces(t, p, c, most, ~(uint32_t)(SL_LETTERS | SL_NUMBERS | SL_SPACES), 1, 0);
}

LINED int is_mark(text t, size_t p) {
  return t.end - p >= 3 && t.bytes[p] == 0xE2 && t.bytes[p + 1] == 0x96 && t.bytes[p + 2] == 0x81;
}

LINED size_t marks(text t, size_t p) {
  while (p < t.end && is_mark(t, p)) p += 3;
  while (p < t.end && !is_mark(t, p)) p++;
  return p;
}

/// Where the next number is, or the end.
static size_t next_number(text t, size_t p) {
  while (p < t.end) {
    uint8_t byte = t.bytes[p];
    if (byte < 0x80) {
      if (t.classes[byte] & SL_NUMERIC) return p;
      p++;
      continue;
    }
    const uint8_t *b = t.bytes + p;
    size_t length = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    if (length > t.end - p) return t.end;
    uint32_t value = byte & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) value = value << 6 | (b[i] & 0x3F);
    if (value <= 0x10FFFF && t.classes[value] & SL_NUMERIC) return p;
    p += length;
  }
  return p;
}

/// One word, in a stretch without numbers or at a number.
LINED size_t digits_gpt2(text t, size_t p, size_t *stretch_end) {
  if (p >= *stretch_end) {
    *stretch_end = next_number(t, p);
    if (*stretch_end == p) {
      *stretch_end = p + at(t, p).length;
      return *stretch_end;
    }
  }
  t.end = *stretch_end;
  return gpt2(t, p);
}

size_t sl_next_words(sl_words *words, size_t *ends, size_t capacity) {
  text t = {words->text, words->end, words->readable, words->classes};
  size_t p = words->position, count = 0, stretch_end = words->stretch_end;
#define EACH(next) \
  while (count < capacity && p < t.end) ends[count++] = p = next; \
  break
  switch (words->kind) {
    case SL_WORDS_GPT2: EACH(gpt2(t, p));
    case SL_WORDS_DIGITS_GPT2: EACH(digits_gpt2(t, p, &stretch_end));
    case SL_WORDS_CL100K: EACH(cl100k(t, p, SL_LETTERS, 3, 0));
    case SL_WORDS_CL100K_TAIL: EACH(cl100k(t, p, SL_LETTERS, 3, 1));
    case SL_WORDS_QWEN2: EACH(cl100k(t, p, SL_LETTERS, 1, 0));
    case SL_WORDS_QWEN35: EACH(cl100k(t, p, SL_LETTERS | SL_MARKS, 1, 0));
    case SL_WORDS_O200K: EACH(o200k(t, p, 1, 3));
    case SL_WORDS_TEKKEN: EACH(o200k(t, p, 0, 1));
    case SL_WORDS_MARKS: EACH(marks(t, p));
  }
#undef EACH
  words->position = p;
  words->stretch_end = stretch_end;
  return count;
}
