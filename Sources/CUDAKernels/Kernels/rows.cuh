// Products of a few rows with frozen matrices, as decoding has them: y = x · Wᵀ + (x · Aᵀ) · (s·B)ᵀ. Every weight is read once
// for up to 64 rows in NF4, 16 in bf16.
#pragma once
#include "prelude.cuh"

enum { row_threads = 256, block_columns = 64 };

/// One matrix of a group that multiplies the same x. All fields take eight bytes.
struct RowPart {
  i64 rows;
  /// Two codes in a byte, or bf16.
  const void *weights;
  /// Elements from one row of bf16 to the next.
  i64 stride;
  /// NF4's absmax: codes, what they are parts of, the mean; absmax values of the first nested block that come before.
  const u8 *absmax;
  const float *nested, *offset;
  i64 first;
  /// s·B: bf16 [rows, rank], and x · Aᵀ: bf16 [batch, rank] at stride ld_s.
  const u16 *b, *s;
  i64 ld_s, rank;
  /// bf16 or fp32 [batch, rows] at stride ldy.
  void *y;
  i64 ldy;
};

struct RowProducts {
  RowPart part[3];
  /// Matrices; columns of each; rows of x.
  i64 parts, columns, batch;
  const u16 *x;
  i64 ldx;
  /// NF4's map of absmax codes.
  const float *map;
  /// With matrices in bf16 the blocks of 64 columns that a block multiplies, and how many slices of the columns there are; partial
  /// sums of more than one go to fp32 [slices, batch, Σ rows].
  i64 slice, slices;
  float *partial;
  /// Whether y is fp32, is added to, and whether the parts are gate and up, of which silu(gate) · up goes to bf16 [batch, rows].
  i64 is_float, accumulates;
  u16 *activation;
  i64 ld_activation;
  /// Where γ is given, x is what the residual stream, fp32 [columns], becomes by RMSNorm: of one row only.
  const float *stream, *gamma;
  double epsilon;
  /// Whether the sums hold what adapters add already.
  i64 is_adapted;
};

/// A block's share of the rows, where it has the same ones for the whole product: of one part, or of gate and up.
struct RowShare {
  int part, first, last;
};
DEVICE RowShare share_of_block(const RowProducts &p) {
  i64 block = blockIdx.x, blocks = gridDim.x;
  int part = 0;
  if (p.activation == 0 && p.parts > 1) {
    // Each part has its own blocks, about as many as its rows ask for.
    i64 rows = p.part[0].rows + p.part[1].rows + (p.parts > 2 ? p.part[2].rows : 0), left = blocks;
    for (; part < (int)p.parts - 1; part++) {
      i64 others = p.parts - 1 - part, own = (p.part[part].rows * left + rows / 2) / rows;
      own = own < 1 ? 1 : own > left - others ? left - others : own;
      if (block < own) {
        left = own;
        break;
      }
      block -= own, left -= own, rows -= p.part[part].rows;
    }
    blocks = left;
  }
  i64 rows = p.part[part].rows;
  return {part, (int)(rows * block / blocks), (int)(rows * (block + 1) / blocks)};
}

/// What the adapter adds.
DEVICE float adapted(const RowPart &part, i64 row, i64 n, float value) {
  if (part.rank == 0) return value;
  const u16 *b = part.b + row * part.rank, *s = part.s + n * part.ld_s;
  int aligned = part.rank % 8 == 0 && ((u64)b | (u64)s) % 16 == 0;
  for (i64 r = 0; r < part.rank; r += 8) {
    Eight one = load8(b + r, part.rank - r, aligned), two = load8(s + r, part.rank - r, aligned);
#pragma unroll
    for (int i = 0; i < 8; i++) value += one.v[i] * two.v[i];
  }
  return value;
}

DEVICE float silu(float x) { return x / (1.0f + power2(-x * LOG2_E)); }

/// What an element of y is added to.
DEVICE float old_value(const RowProducts &p, int part, i64 row, i64 n) {
  const RowPart &to = p.part[part];
  if (!p.accumulates) return 0;
  return p.is_float ? ((float *)to.y)[n * to.ldy + row] : widen(((u16 *)to.y)[n * to.ldy + row]);
}

/// Writes an element of y, its adapter's part and what it is added to included; `gate`: of the same row and place, where the parts
/// are gate and up.
DEVICE void finish_row(const RowProducts &p, int part, i64 row, i64 n, float value, float old, float &gate) {
  const RowPart &to = p.part[part];
  value = (p.is_adapted ? value : adapted(to, row, n, value)) + old;
  if (p.is_float) {
    ((float *)to.y)[n * to.ldy + row] = value;
  } else {
    ((u16 *)to.y)[n * to.ldy + row] = narrow(value);
  }
  if (p.activation == 0) return;
  if (part == 0) {
    gate = value;
  } else {
    p.activation[n * p.ld_activation + row] = narrow(silu(gate) * value);
  }
}

/// A sum of one slice of the columns: finished where there is but one, else left for `rows_sum`.
DEVICE void finish_or_leave(const RowProducts &p, int part, i64 row, i64 n, int slice, float value, float old, float &gate) {
  if (p.slices == 1) {
    finish_row(p, part, row, n, value, old, gate);
    return;
  }
  i64 total = p.part[0].rows, before = 0;
  if (p.parts > 1) total += p.part[1].rows;
  if (p.parts > 2) total += p.part[2].rows;
  if (part > 0) before += p.part[0].rows;
  if (part > 1) before += p.part[1].rows;
  p.partial[((i64)slice * p.batch + n) * total + before + row] = value;
}
