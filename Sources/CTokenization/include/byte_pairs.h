// Byte-pair encoding of words: symbols are joined in the order of the merges' ranks, leftmost first.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "token_tables.h"

/// A model; what it points at is the caller's.
typedef struct {
  sl_tokens tokens;
  /// Pairs of ids to rank and result.
  const sl_pair *merges;
  size_t merge_mask;
  /// The token of each of the 256 bytes, its symbol or its fallback; -1 where there is none.
  const int32_t *byte_tokens;
  /// Per id, up to `whole_count`: 1 where a word of the token's bytes is encoded as just this token.
  const uint8_t *is_whole;
  size_t whole_count;
  /// The longest token in bytes: no longer word is one.
  size_t longest_token;
  /// What stands for a symbol without a token; -1 leaves it out.
  int32_t unknown;
  /// Whether symbols are characters (SentencePiece's way) rather than bytes (GPT-2's).
  bool takes_characters;
  /// Whether a word that is a token stays whole, whatever the merges say.
  bool ignores_merges;
  /// Whether a character without a token becomes its bytes' tokens.
  bool falls_back_to_bytes;
  /// Whether unknown characters in a row become one token.
  bool fuses_unknown;
} sl_byte_pairs;

/// A word of at most 15 bytes and its tokens; `count` 0 where there is none.
typedef struct {
  /// The bytes, zeros after them; the last one is their number.
  uint64_t low, high;
  int32_t count;
  int32_t ids[3];
} sl_short_word;

/// A word of at most 31 bytes and its tokens; `count` 0 where there is none.
typedef struct {
  uint8_t bytes[31];
  uint8_t length;
  int32_t count;
  int32_t ids[7];
} sl_medium_word;

/// A symbol of a long word.
typedef struct {
  int32_t id;
  /// 0 once it is merged into the symbol before it.
  int32_t length;
  /// The merge with the next symbol.
  int32_t rank, result;
  uint32_t previous, next;
} sl_symbol;

/// Working memory of one thread.
typedef struct {
  /// Words that were met before, each at the place that its hash says; the numbers of places are powers of two.
  sl_short_word *short_words;
  sl_medium_word *medium_words;
  size_t short_mask, medium_mask;
  /// Where tokens are written, and how many bytes of their word each stands for.
  int32_t *ids, *lengths;
  size_t capacity;
  /// For words of more than `SL_SHORT_MERGE` bytes: a symbol per byte, and a heap of two merges per byte.
  sl_symbol *symbols;
  uint64_t *heap;
  size_t symbol_capacity;
} sl_word_memory;

/// The most symbols that are merged by searching the lowest rank again and again.
#define SL_SHORT_MERGE 64

/// How much more than a word's bytes `ids` and `lengths` must have room for.
#define SL_ID_SLACK 8

/// Writes the tokens of words into `memory`; returns how many words were done.
///
/// The first word begins at `start`, each next one where the one before ends; `readable` bytes of the text may be read.
/// It stops before a word for which `memory` has no room.
size_t sl_encode_words(
    const sl_byte_pairs *model, sl_word_memory *memory, const uint8_t *text, size_t readable, size_t start,
    const size_t *ends, size_t count, bool tracks_lengths, size_t *produced);
