// The loops of tokenization that see every byte: Unicode classes, cutting into words, byte-pair encoding.
//
// Nothing here allocates or fails: memory is the caller's. Texts are UTF-8; one that is not gives odd words, and nothing
// is read beyond its ends.
#pragma once
#include "byte_pairs.h"
#include "token_tables.h"
#include "unicode_classes.h"
#include "words.h"
