// What each character is to the pre-tokenizers: one byte per character.
//
// The versions are those of the reference's parts (Hugging Face tokenizers 0.23.3): general categories and white space as
// in Oniguruma, which are Unicode 16.0's (tiktoken 0.14.0's are the same); words as in Rust's regex, Unicode 16.0; numbers
// as in Rust's char::is_numeric, Unicode 17.0; punctuation as in a crate with an older Unicode.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// How many code points there are.
#define SL_UNICODE_COUNT 0x110000

/// The lower five bits of a class. The last one is of ours: a control character that is white space.
enum sl_category {
  SL_CN, SL_CC, SL_CF, SL_CO, SL_CS, SL_LL, SL_LM, SL_LO, SL_LT, SL_LU, SL_MC, SL_ME, SL_MN, SL_ND, SL_NL, SL_NO,
  SL_PC, SL_PD, SL_PE, SL_PF, SL_PI, SL_PO, SL_PS, SL_SC, SL_SK, SL_SM, SL_SO, SL_ZL, SL_ZP, SL_ZS, SL_CC_SPACE
};

/// The upper bits of a class: a number for `Digits`, punctuation for `Punctuation`, part of a word (`\w`).
enum { SL_NUMERIC = 0x20, SL_PUNCTUATION = 0x40, SL_WORD = 0x80 };

/// Sets of categories: bit `c` stands for category `c`.
enum {
  SL_LETTERS = 1 << SL_LL | 1 << SL_LM | 1 << SL_LO | 1 << SL_LT | 1 << SL_LU,
  SL_MARKS = 1 << SL_MC | 1 << SL_ME | 1 << SL_MN,
  SL_NUMBERS = 1 << SL_ND | 1 << SL_NL | 1 << SL_NO,
  SL_SPACES = 1 << SL_ZL | 1 << SL_ZP | 1 << SL_ZS | 1 << SL_CC_SPACE,
};

/// Where a run of characters of one class begins, shifted left by 8, and the class; in order.
extern const uint32_t sl_unicode_runs[];
extern const size_t sl_unicode_run_count;

/// Writes the class of each code point, `SL_UNICODE_COUNT` bytes.
void sl_fill_unicode_classes(uint8_t *classes);
