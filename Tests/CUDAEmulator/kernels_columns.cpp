#include "emulation.h"

#include "columns.cu"

EMULATED(column_sums_f32)
EMULATED(column_sums_bf16)
EMULATED(scale_columns_f32_f32)
EMULATED(scale_columns_f32_bf16)
EMULATED(scale_columns_bf16_f32)
EMULATED(scale_columns_bf16_bf16)
EMULATED(adapted_row_norms)
EMULATED(scatter_add)
