// Cutting a text into the words of the patterns that models ship: what a regular expression engine would find, match
// after match, by functions of our own.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// A way to cut. Every character is part of a word: these patterns leave no gap.
typedef enum {
  /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
  SL_WORDS_GPT2,
  /// The same, in the stretches between numbers that are one word each (`Digits`, then GPT-2's pattern).
  SL_WORDS_DIGITS_GPT2,
  /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
  SL_WORDS_CL100K,
  /// The same with `\s+\z` before `\s*[\r\n]+`, as tiktoken has it.
  SL_WORDS_CL100K_TAIL,
  /// The same with `\p{N}`.
  SL_WORDS_QWEN2,
  /// The same as the one before with `[\p{L}\p{M}]+` for words and no marks among the signs.
  SL_WORDS_QWEN35,
  /// GPT-4o's pattern, which also cuts where lower case turns to upper.
  SL_WORDS_O200K,
  /// The same without contractions and with `\p{N}`.
  SL_WORDS_TEKKEN,
  /// A cut before each U+2581 that another character precedes (SentencePiece's words).
  SL_WORDS_MARKS,
} sl_word_kind;

/// A text on its way.
typedef struct {
  const uint8_t *text;
  /// Where the next word begins.
  size_t position;
  /// Where the text ends: nothing beyond is seen by the pattern.
  size_t end;
  /// How many bytes may be read, `end` at least.
  size_t readable;
  /// The class of each character, 0x110000 bytes.
  const uint8_t *classes;
  /// Where the stretch without numbers ends; at the start, `position`.
  size_t stretch_end;
  sl_word_kind kind;
} sl_words;

/// Writes where the next words end, `capacity` of them at most, and returns how many there are; 0 at the end of the text.
size_t sl_next_words(sl_words *words, size_t *ends, size_t capacity);
