#include "emulation.h"

#include "attention_decode.cu"

EMULATED(attention_decode_64_1)
EMULATED(attention_decode_64_2)
EMULATED(attention_decode_64_4)
EMULATED(attention_decode_96_1)
EMULATED(attention_decode_96_2)
EMULATED(attention_decode_96_4)
EMULATED(attention_decode_128_1)
EMULATED(attention_decode_128_2)
EMULATED(attention_decode_128_4)
EMULATED(cache_store)
