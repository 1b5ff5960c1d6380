// What a threadgroup does with tiles of A (BM x BK) and B (BK x BN) in its memory: shared by the dense and the
// quantized matrix-matrix kernel.
//
// WM x WN x WK simdgroups share the work: simdgroup s has the block (s / WN % WM, s % WN) of the BM x BN results and,
// of each tile's slices of 8 along K, every WKth from s / (WM * WN) on. A simdgroup's results are TM x TN fragments of
// 8 x 8.
//
// How a kernel uses it:
//   threadgroup float4 memory[...];       room for the tiles, TILE(rows, columns) elements of T each, or, when they are
//                                         done with, for SPILLS floats: the larger, in units of 16 bytes
//   Sums sums; clear(sums);
//   for each step of BK along K:          the tiles are stored (take and put, or code of the kernel's own), then a
//     multiply(sums, a, .., b, .., s);    threadgroup barrier, this, and another barrier before they are overwritten
//   threadgroup barrier
//   for i in 0 .. TM - 1:                 rows of fragments, one after the other
//     spill(sums, i, scratch, s);         into threadgroup float* scratch, SPILLS floats
//     spill_barrier();
//     for each e = spill_first(s, lane), + SPILL_STEP, .. < SPILL_ELEMENTS:
//       spilled(scratch, s, e) is the result at row spill_row(s, i, e), column spill_column(s, e) of BM x BN
//     spill_barrier();                    before the next i
//
// Tiles are padded by 16 bytes a row: with rows of a multiple of 32 bytes, the 8 rows of a fragment then begin in banks
// that differ (for 32 banks of 4 bytes, which is an assumption: Apple documents none). What lies beyond the matrix is
// stored as zeros, so that multiply needs to know nothing of edges.
//
// Operands are fragments of T with sums in float: simdgroup_multiply_accumulate takes a type of its own for each of its
// four matrices. (The specification prints one; the header of Apple's compiler has four, and llama.cpp's kernel_mul_mm
// relies on it.) MLX converts operands to float first, which takes twice the registers for 16-bit types.
//
// Metal leaves open which lane holds which element of a fragment, so results reach their places through simdgroup_store
// to threadgroup memory. MLX relies on a layout instead and stores from registers. The way through memory costs one
// store and one load a result, against K multiplications, and gives whole rows to neighbouring lanes: 8 * TN results.
//
// Constants: BM, BN, BK, WM, WN, WK; T is the type of the tiles. BM, BN and BK are multiples of 8 WM, 8 WN and 8 WK,
// and the elements of a tile that goes through take and put a multiple of THREADS.

#include <metal_simdgroup_matrix>

#define SIMDGROUPS (WM * WN * WK)
#define THREADS (32 * SIMDGROUPS)
#define TM (BM / WM / 8)
#define TN (BN / WN / 8)
#define LARGER(x, y) ((x) > (y) ? (x) : (y))

// Elements from a row of a tile to the next, and of a whole tile. A multiple of 16 bytes.
#define PITCH(columns) ((columns) + 16 / int(sizeof(T)))
#define TILE(rows, columns) ((rows) * PITCH(columns))

typedef simdgroup_matrix<float, 8, 8> Sums[TM][TN];

METAL_FUNC void clear(thread Sums& sums) {
#pragma unroll
  for (int i = 0; i < TM; i++) {
#pragma unroll
    for (int j = 0; j < TN; j++) {
      sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
  }
}

// Neighbouring elements that a thread moves at once: at most 16 bytes, and as many as divide the tile over the threads.
// Plain loops over neighbours: whether they become one access is the compiler's affair.
template <int ELEMENTS>
constexpr int load_width() {
  int width = 16 / int(sizeof(T));
  while (width > 1 && ELEMENTS % (width * THREADS) != 0) {
    width /= 2;
  }
  return width;
}

// A thread's elements of a tile, which it holds in registers between take and put.
#define SHARE(rows, columns) ((rows) * (columns) / THREADS)

// Takes a thread's elements of a tile of ROWS x COLUMNS from memory whose rows are contiguous and `pitch` elements
// apart. Those beyond the first `rows` rows or `columns` columns, either of which may be zero or less, are not read,
// and zero. `from` may point to device or constant memory; `thread_index` counts 0 .. THREADS - 1.
template <int ROWS, int COLUMNS, typename P>
METAL_FUNC void take(thread T* held, P from, long pitch, int rows, int columns, int thread_index) {
  constexpr int WIDTH = load_width<ROWS * COLUMNS>();
  if (rows >= ROWS && columns >= COLUMNS) {
    // Without conditions in between, so that all of a thread's loads can be under way together.
#pragma unroll
    for (int i = 0; i < SHARE(ROWS, COLUMNS); i++) {
      const int e = (i / WIDTH * THREADS + thread_index) * WIDTH;
      held[i] = from[e / COLUMNS * pitch + e % COLUMNS + i % WIDTH];
    }
    return;
  }
#pragma unroll
  for (int part = 0; part < SHARE(ROWS, COLUMNS); part += WIDTH) {
    const int e = part * THREADS + thread_index * WIDTH;
    const P at = from + e / COLUMNS * pitch + e % COLUMNS;
    const int inside = e / COLUMNS < rows ? columns - e % COLUMNS : 0;
    if (inside >= WIDTH) {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        held[part + i] = at[i];
      }
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        held[part + i] = i < inside ? at[i] : T(0);
      }
    }
  }
}

// Puts them into the tile.
template <int ROWS, int COLUMNS>
METAL_FUNC void put(const thread T* held, threadgroup T* tile, int thread_index) {
  constexpr int WIDTH = load_width<ROWS * COLUMNS>();
#pragma unroll
  for (int i = 0; i < SHARE(ROWS, COLUMNS); i++) {
    const int e = (i / WIDTH * THREADS + thread_index) * WIDTH;
    tile[e / COLUMNS * PITCH(COLUMNS) + e % COLUMNS + i % WIDTH] = held[i];
  }
}

// Adds the product of two tiles to the sums. A's tile is BM x BK, or BK x BM where it is `turned`; B's is BK x BN, or
// BN x BK. Both flags have to be the same for all threads; constants cost nothing, others a branch for each slice of K.
METAL_FUNC void multiply(thread Sums& sums, const threadgroup T* a, bool a_turned, const threadgroup T* b,
                         bool b_turned, int simdgroup) {
  const int m = simdgroup / WN % WM * (8 * TM);
  const int n = simdgroup % WN * (8 * TN);
  const int share = simdgroup / (WM * WN);
#pragma unroll
  for (int slice = 0; slice < BK / 8 / WK; slice++) {
    const int k = (slice * WK + share) * 8;
    simdgroup_matrix<T, 8, 8> left[TM];
    simdgroup_matrix<T, 8, 8> right[TN];
    if (a_turned) {
#pragma unroll
      for (int i = 0; i < TM; i++) {
        simdgroup_load(left[i], a + k * PITCH(BM) + m + 8 * i, PITCH(BM), ulong2(0, 0), true);
      }
    } else {
#pragma unroll
      for (int i = 0; i < TM; i++) {
        simdgroup_load(left[i], a + (m + 8 * i) * PITCH(BK) + k, PITCH(BK));
      }
    }
    if (b_turned) {
#pragma unroll
      for (int j = 0; j < TN; j++) {
        simdgroup_load(right[j], b + (n + 8 * j) * PITCH(BK) + k, PITCH(BK), ulong2(0, 0), true);
      }
    } else {
#pragma unroll
      for (int j = 0; j < TN; j++) {
        simdgroup_load(right[j], b + k * PITCH(BN) + n + 8 * j, PITCH(BN));
      }
    }
#pragma unroll
    for (int i = 0; i < TM; i++) {
#pragma unroll
      for (int j = 0; j < TN; j++) {
        simdgroup_multiply_accumulate(sums[i][j], left[i], right[j], sums[i][j]);
      }
    }
  }
}

// A row of a simdgroup's fragments in threadgroup memory: 8 rows of 8 * TN floats, padded by 4. The WK simdgroups that
// share K spill theirs side by side, and share the elements too: each adds the WK values of its own.
#define SPILL_PITCH (8 * TN + 4)
#define SPILL_ELEMENTS (64 * TN)
#define SPILL_STEP (32 * WK)
#define SPILLS (SIMDGROUPS * 8 * SPILL_PITCH)

// Before the elements of others are read, and before they are overwritten.
METAL_FUNC void spill_barrier() {
#if WK > 1
  threadgroup_barrier(mem_flags::mem_threadgroup);
#else
  simdgroup_barrier(mem_flags::mem_threadgroup);
#endif
}

METAL_FUNC void spill(thread Sums& sums, int i, threadgroup float* scratch, int simdgroup) {
#pragma unroll
  for (int j = 0; j < TN; j++) {
    simdgroup_store(sums[i][j], scratch + simdgroup * (8 * SPILL_PITCH) + 8 * j, SPILL_PITCH);
  }
}

METAL_FUNC int spill_first(int simdgroup, int lane) {
  return simdgroup / (WM * WN) * 32 + lane;
}

METAL_FUNC int spill_row(int simdgroup, int i, int e) {
  return (simdgroup / WN % WM * TM + i) * 8 + e / (8 * TN);
}

METAL_FUNC int spill_column(int simdgroup, int e) {
  return simdgroup % WN * (8 * TN) + e % (8 * TN);
}

METAL_FUNC float spilled(const threadgroup float* scratch, int simdgroup, int e) {
  const int at = e / (8 * TN) * SPILL_PITCH + e % (8 * TN);
  float sum = 0.0f;
  for (int w = 0; w < WK; w++) {
    sum += scratch[(simdgroup % (WM * WN) + w * (WM * WN)) * (8 * SPILL_PITCH) + at];
  }
  return sum;
}
