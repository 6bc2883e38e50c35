// Products of a few rows with matrices in NF4 (see nf4.cu), whose columns are a multiple of 64: no block of absmax lies in two
// rows.
#include "rows.cuh"

// NF4's values times 1.437 and rounded to bf16: of all factors the one with which rounding changes them least, 6e-4 of their
// size. The absmax values are divided by it.
#define CODE_FACTOR 1.437f
CONSTANT u32 nf4_codes[16] = {0xbfb8u, 0xbf80u, 0xbf41u, 0xbf11u, 0xbed1u, 0xbe88u, 0xbe06u, 0x0000u,
                              0x3deau, 0x3e6du, 0x3eb5u, 0x3ef9u, 0x3f22u, 0x3f4fu, 0x3f85u, 0x3fb8u};

/// What a lane reads of the blocks of a row that go together: 16 codes of each, and one or two of their absmax.
template <int BLOCKS> struct CodeItem {
  uint2 codes[BLOCKS];
  u32 absmax[(BLOCKS + 3) / 4];
  float nested[(BLOCKS + 3) / 4];
};

/// Where a warp is in its tiles.
struct CodeCursor {
  int tile, step;
  const u8 *codes;
  const u8 *absmax;
  const float *nested;
  u32 before;
};

/// BLOCKS: blocks of 64 columns that a warp reads at once; BATCH: rows of x where that is known, else 0.
template <int HALVES, int BLOCKS, int BATCH> DEVICE void rows_nf4(const RowProducts &p) {
  DYNAMIC_SHARED(memory);
  // Every pair of codes, once for each lane, so that no two meet in a bank; a byte of codes put before a byte that names the
  // lane is the pair's place.
  u32 *table = (u32 *)memory;
  float *map = (float *)(memory + 256 * 256);
  float *means = map + 256, *sums = means + 4;
  u16 *x = (u16 *)(sums + 2 * row_warps * 8 * HALVES * tile_rows);
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4;
  int passes = (int)(p.batch + 8 * HALVES - 1) / (8 * HALVES);
  int slice = (int)blockIdx.y / passes, n0 = (int)blockIdx.y % passes * 8 * HALVES, row_blocks = (int)p.columns / block_columns;
  int batch = BATCH > 0 ? BATCH : (int)p.batch - n0 < 8 * HALVES ? (int)p.batch - n0 : 8 * HALVES;
  int length = (int)p.slice, slice_begin = slice * length,
      slice_end = slice_begin + length < row_blocks ? slice_begin + length : row_blocks;
  int count = slice_end - slice_begin, begin = slice_begin + count * warp / row_warps,
      end = slice_begin + count * (warp + 1) / row_warps;
  int steps = ((count + row_warps - 1) / row_warps + BLOCKS - 1) / BLOCKS;
  int tiles = tiles_of_block(p), items = tiles * steps;

  auto enter = [&](CodeCursor &c) {
    RowTile tile = tile_of_block(p, c.tile);
    const RowPart &part = p.part[tile.part];
    i64 row = tile.row + g < (int)part.rows ? tile.row + g : part.rows - 1;
    c.codes = (const u8 *)part.weights + row * (p.columns / 2) + t * 8;
    c.absmax = part.absmax + row * row_blocks;
    c.nested = part.nested;
    c.before = (u32)(row * row_blocks + part.first);
  };
  auto load = [&](CodeItem<BLOCKS> &item, CodeCursor &c) {
    int block = begin + c.step * BLOCKS;
    const u8 *codes = c.codes + block * 32;
    bool whole = block + BLOCKS <= end;
#pragma unroll
    for (int i = 0; i < BLOCKS; i++)
      if (whole || block + i < end) item.codes[i] = load_once((const uint2 *)(codes + i * 32));
#pragma unroll
    for (int i = 0; i < (BLOCKS + 3) / 4; i++) {
      int at = block + 4 * i + t;
      if (at < end) {
        item.absmax[i] = c.absmax[at];
        item.nested[i] = c.nested[(u32)(c.before + at) >> 8];
      }
    }
    // What comes after the next: on its way into the second cache.
    if (t == 0 && block + 2 * BLOCKS < end) prefetch_far(codes + 2 * BLOCKS * 32);
    if (++c.step == steps) {
      c.step = 0;
      if (++c.tile < tiles) enter(c);
    }
  };

  // Weights depend on nothing that came before in the stream.
  CodeItem<BLOCKS> next = {};
  CodeCursor reading = {};
  if (tiles > 0) enter(reading), load(next, reading);
  u32 pair = nf4_codes[threadIdx.x / 16] | nf4_codes[threadIdx.x % 16] << 16;
#pragma unroll 4
  for (int i = 0; i < 32; i++) table[threadIdx.x * 64 + (i + lane) % 32] = pair;
  map[threadIdx.x] = p.map[threadIdx.x] * (1.0f / CODE_FACTOR);
  if (threadIdx.x < p.parts) means[threadIdx.x] = *p.part[threadIdx.x].offset * (1.0f / CODE_FACTOR);
  let_next_begin();
  wait_for_previous();
  // The last warp's last blocks may be none.
  for (int i = (int)threadIdx.x; i < (BLOCKS - 1) * 32 * batch; i += row_threads) ((u32 *)x)[count * 32 * batch + i] = 0;
  load_x(p, x, slice_begin, count, n0, batch, [](int piece) { return piece % 2 * 4 + piece / 2; });
  __syncthreads();

  shared_place rows_of_x = place_of(x + (g * 4 + t) * 8);
  int piece_bytes = batch * 64;
  float total[4] = {}, gate = 0;
  int step = 0, turn = 0, index = 0;
  RowTile tile = tile_of_block(p, 0);
  float old = tiles > 0 ? old_of_tile(p, tile, n0, batch) : 0.0f, mean = means[tile.part];
#pragma unroll 1
  for (int number = 0; number < items; number++) {
    CodeItem<BLOCKS> item = next;
    if (number + 1 < items) load(next, reading);
    int block = begin + step * BLOCKS;
    shared_place fragments = rows_of_x + (block - slice_begin) * 2 * piece_bytes;
    // Blocks beyond the warp's count nothing: no branch keeps the others' instructions apart.
    float scale[(BLOCKS + 3) / 4];
#pragma unroll
    for (int i = 0; i < (BLOCKS + 3) / 4; i++)
      scale[i] = block + 4 * i + t < end ? map[item.absmax[i]] * item.nested[i] + mean : 0.0f;
#pragma unroll
    for (int i = 0; i < BLOCKS; i++) {
      if (HALVES > 1 || i == 3) keep_order();
      float c[4], d[4];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        // Rows g of x, and of the second half g + 8; anything beyond the batch, whose sums nobody reads.
        uint4 f, second;
        load_shared_if(f, fragments + (i * 2 + j) * piece_bytes, g < batch);
        if (HALVES > 1) load_shared_if(second, fragments + (i * 2 + j) * piece_bytes + 8 * 64, g + 8 < batch);
        u32 word = j == 0 ? item.codes[i].x : item.codes[i].y, b[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
          b[k] = *(const u32 *)(memory + __byte_perm(word, (u32)lane * 4, 0x5504u | (u32)k << 4));
        if (HALVES == 1) {
          // Columns as they were loaded: half of them stand in the fragment's rows g + 8, which are free. The sums of those
          // rows count in the one product, the sums of rows g in the other, and no register moves.
          u32 a[4] = {f.x, f.y, f.z, f.w};
          if (j == 0) {
            multiply_first(c, a, b[0], b[2]);
            multiply_first(d, a, b[1], b[3]);
          } else {
            multiply_add(c, a, b[0], b[2]);
            multiply_add(d, a, b[1], b[3]);
          }
        } else {
          u32 low[4] = {f.x, second.x, f.y, second.y}, high[4] = {f.z, second.z, f.w, second.w};
          if (j == 0) {
            multiply_first(c, low, b[0], b[1]);
          } else {
            multiply_add(c, low, b[0], b[1]);
          }
          multiply_add(c, high, b[2], b[3]);
        }
      }
      // The sums' columns are rows 2t and 2t + 1 of W, whose absmax other lanes have.
      float even = __shfl_sync(0xffffffffu, scale[i / 4], 8 * t + i % 4),
            odd = __shfl_sync(0xffffffffu, scale[i / 4], 8 * t + 4 + i % 4);
      total[0] += (HALVES == 1 ? c[0] + d[2] : c[0]) * even, total[1] += (HALVES == 1 ? c[1] + d[3] : c[1]) * odd;
      if (HALVES > 1) total[2] += c[2] * even, total[3] += c[3] * odd;
    }
    if (++step < steps) continue;
    step = 0;
    float *left = sums_of_turn<HALVES>(sums, turn);
    leave_sums<HALVES>(left, warp, g, t, total);
    __syncthreads();
    add_warps<HALVES>(p, tile, left, n0, batch, slice, old, gate);
    turn = 1 - turn;
    if (++index == tiles) break;
    tile = tile_of_block(p, index);
    old = old_of_tile(p, tile, n0, batch);
    mean = means[tile.part];
  }
}

KERNEL(256, 2) rows_nf4_1_4(const GRID_CONSTANT RowProducts p) { rows_nf4<1, 4, 1>(p); }
// Before compute capability 9.0 the compiler needs more registers for it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define FIVE 4
#else
#define FIVE 5
#endif
KERNEL(256, 2) rows_nf4_1_5(const GRID_CONSTANT RowProducts p) { rows_nf4<1, FIVE, 1>(p); }
KERNEL(256, 2) rows_nf4_8_4(const GRID_CONSTANT RowProducts p) { rows_nf4<1, 4, 0>(p); }
KERNEL(256, 2) rows_nf4_16_2(const GRID_CONSTANT RowProducts p) { rows_nf4<2, 2, 0>(p); }
