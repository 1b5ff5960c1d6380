// y (M, N) = x (M, K) times w, which is packed: (N, K) where NT is 1, so that it is w's transpose, else (K, N). See
// kernels/qmm.py for the idea, tile.metal for the product of two tiles, packs.metal for what a pack is.
//
// A threadgroup makes BM x BN results. For each step of BK along K, a thread takes its share of both tiles from memory
// into registers; when the tiles before are done with, it puts the elements of x, and the weights, unpacked and rounded
// to T, into threadgroup memory. The loads of a step are issued before the product of the step before, which hides some
// of their latency. With two sets of tiles a step needs one barrier, with one set two.
//
// Threadgroups (x, y, z): x counts tiles along N, y along M, z slices of K. With PARTIALS 1 there are several slices, y is
// float32 (slices, M, N), and reduce.metal adds up.
//
// Inputs: sizes (M, N, K, swizzle), x, w, scales and, of affine weights, biases. All but w may lie in constant memory
// where they are tiny; that w never does is seen to by kernels/qmm.py.
// Constants: those of packs.metal and tile.metal, and NT, STAGES, PARTIALS; T is the type of x and, unless split, y.

// The tile of w, as it is stored.
#if NT
#define W_ROWS BN
#define W_COLUMNS BK
#else
#define W_ROWS BK
#define W_COLUMNS BN
#endif
#define X_TILE TILE(BM, BK)
#define TILES (X_TILE + TILE(W_ROWS, W_COLUMNS))

// Packs of a tile, and how many of them a thread takes: the last ones only where the tile has so many.
#define TILE_PACKS (W_ROWS * W_COLUMNS / VALUES)
#define PACKS ((TILE_PACKS + THREADS - 1) / THREADS)

#if AFFINE
#define BIASES biases
#else
#define BIASES scales
#endif

#if PARTIALS
typedef float result_type;
#else
typedef T result_type;
#endif

struct Packs {
  uint words[PACKS][PACK_WORDS];
  scale_type scales[PACKS];
#if AFFINE
  T biases[PACKS];
#endif
};

// Takes a thread's packs of the tile of w that begins at `from`, column `first` of w, and their scales and biases, whose
// pointers are at the tile's first row; w's rows have `length` weights. The tile's first `rows` rows and `columns` columns
// are inside the matrix. That ends with a whole group, so a pack is inside or outside; outside, all is zero and so are
// the weights. Offsets from the pointers fit in 32 bits (kernels/qmm.py).
template <typename S, typename B>
METAL_FUNC void take_packs(thread Packs& held, const device pack_unit* from, S scales, B biases, int length, int first,
                           int rows, int columns, int thread_index) {
  const int units = length / VALUES * PACK_UNITS, groups = length / GROUP;
#pragma unroll
  for (int p = 0; p < PACKS; p++) {
    const int pack = p * THREADS + thread_index;
    const int row = pack / (W_COLUMNS / VALUES), column = pack % (W_COLUMNS / VALUES) * VALUES;
    if (pack < TILE_PACKS && row < rows && column < columns) {
      load_pack(from + row * units + column / VALUES * PACK_UNITS, held.words[p]);
      const int group = row * groups + (first + column) / GROUP;
      held.scales[p] = scales[group];
#if AFFINE
      held.biases[p] = biases[group];
#endif
    } else {
#pragma unroll
      for (int i = 0; i < PACK_WORDS; i++) {
        held.words[p][i] = 0;
      }
      held.scales[p] = scale_type(0);
#if AFFINE
      held.biases[p] = T(0);
#endif
    }
  }
}

// Unpacks them into the tile.
METAL_FUNC void put_weights(const thread Packs& held, threadgroup T* tile, int thread_index) {
#pragma unroll
  for (int p = 0; p < PACKS; p++) {
    const int pack = p * THREADS + thread_index;
    if (pack < TILE_PACKS) {
      const int row = pack / (W_COLUMNS / VALUES), column = pack % (W_COLUMNS / VALUES) * VALUES;
      threadgroup T* to = tile + row * PITCH(W_COLUMNS) + column;
      const float scale = scale_of(held.scales[p]);
#pragma unroll
      for (int i = 0; i < VALUES; i++) {
        float weight = scale * weight_of(code_of(held.words[p], i));
#if AFFINE
        weight += float(held.biases[p]);
#endif
        to[i] = T(weight);
      }
    }
  }
}

//! body
  const int M = sizes[0], N = sizes[1], K = sizes[2], swizzle = sizes[3];
  const int lane = thread_index_in_simdgroup;
  const int simdgroup = simdgroup_index_in_threadgroup;
  const int thread_index = simdgroup * 32 + lane;

  // Bands of `swizzle` rows of tiles, each walked column by column, so that threadgroups that run together share more.
  // (They are assumed to start in the order of x, then y.)
  const int3 at = int3(threadgroup_position_in_grid), all = int3(threadgroups_per_grid);
  const int band = at.y / swizzle * swizzle, height = min(swizzle, all.y - band);
  const int within = (at.y - band) * all.x + at.x;
  const int m0 = (band + within % height) * BM, n0 = within / height * BN;

  const int slice = ((K + BK - 1) / BK + all.z - 1) / all.z * BK;
  const int first = at.z * slice, end = min(K, first + slice);
  const device pack_unit* packs = (const device pack_unit*)w;

  // The tiles and, after them, the results: never both, and a barrier lies between.
  threadgroup float4 memory[LARGER(STAGES * TILES * int(sizeof(T)), SPILLS * 4) / 16];
  threadgroup T* tiles = (threadgroup T*)memory;
  threadgroup float* scratch = (threadgroup float*)memory;

  Sums sums;
  clear(sums);
  T x_held[SHARE(BM, BK)];
  Packs w_held;
  // What a turn takes is multiplied in the next one: the first only takes, and the last only multiplies.
  for (int k = first - BK; k < end; k += BK) {
    if (k >= first) {
#if STAGES == 1
      // Until here others may be multiplying the tiles before.
      threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
      put<BM, BK>(x_held, tiles, thread_index);
      put_weights(w_held, tiles + X_TILE, thread_index);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    const int next = k + BK;
    if (next < end) {
      take<BM, BK>(x_held, x + long(m0) * K + next, K, M - m0, end - next, thread_index);
#if NT
      take_packs(w_held, packs + long(n0) * (K / VALUES * PACK_UNITS) + next / VALUES * PACK_UNITS,
                 scales + long(n0) * (K / GROUP), BIASES + long(n0) * (K / GROUP), K, next, N - n0, end - next,
                 thread_index);
#else
      take_packs(w_held, packs + long(next) * (N / VALUES * PACK_UNITS) + n0 / VALUES * PACK_UNITS,
                 scales + long(next) * (N / GROUP), BIASES + long(next) * (N / GROUP), N, n0, end - next, N - n0,
                 thread_index);
#endif
    }
    if (k >= first) {
      multiply(sums, tiles, false, tiles + X_TILE, NT, simdgroup);
#if STAGES == 2
      // The others may still be multiplying these, but since the barrier above nobody multiplies the other set.
      tiles += (k - first) / BK % 2 == 0 ? TILES : -TILES;
#endif
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

#pragma unroll
  for (int i = 0; i < TM; i++) {
    spill(sums, i, scratch, simdgroup);
    spill_barrier();
    for (int e = spill_first(simdgroup, lane); e < SPILL_ELEMENTS; e += SPILL_STEP) {
      const int row = m0 + spill_row(simdgroup, i, e), column = n0 + spill_column(simdgroup, e);
      if (row < M && column < N) {
#if PARTIALS
        const long line = long(at.z) * M + row;
#else
        const long line = row;
#endif
        y[line * N + column] = result_type(spilled(scratch, simdgroup, e));
      }
    }
    if (i + 1 < TM) {
      spill_barrier();
    }
  }
