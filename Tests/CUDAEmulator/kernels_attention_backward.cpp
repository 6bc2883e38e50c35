#include "emulation.h"

#include "attention_backward.cu"

EMULATED(attention_delta)
EMULATED(attention_keys_values_64)
EMULATED(attention_keys_values_96)
EMULATED(attention_keys_values_128)
EMULATED(attention_queries_64)
EMULATED(attention_queries_96)
EMULATED(attention_queries_128)
