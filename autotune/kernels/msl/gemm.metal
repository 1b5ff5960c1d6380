// y (batch, M, N) = a (batch, M, K) times b (batch, K, N), plus what EPILOGUE adds; see kernels/gemm.py for the idea.
//
// A threadgroup makes BM x BN results from tiles of a and b (tile.metal). Both come with the strides that they have:
// which axis is contiguous is seen at run time, by the same branch in all threads, so one program serves every layout,
// slices and broadcasts. Where batch is 1, all axes of a but the last are rows.
//
// Threadgroups (x, y, z): x counts tiles along N, y along M, z is slice * batch + product. With PARTIALS 1 there are
// several slices of K, y is float32 (slices * batch, M, N), and reduce.metal adds up.
//
// Inputs: sizes (M, N, K, batch, slices, swizzle), a, b, and with EPILOGUE factors and c as in reduce.metal.
// Constants: those of tile.metal, and STAGES, PARTIALS, EPILOGUE; T is the type of a, b and, without PARTIALS, y.

// The ways in which a matrix can lie. As a tile it is turned where its columns are contiguous, else straight.
#define STRAIGHT 0
#define TURNED 1
#define STRIDED 2

struct Matrix {
  int way;
  long pitch;  // elements between rows where it is straight, else between columns
  int first, last;  // the axes that count rows; the one after them counts columns
  const constant int* shape;
  const constant int64_t* strides;
};

METAL_FUNC Matrix matrix(int first, int ndim, const constant int* shape, const constant int64_t* strides) {
  // The rows are at one stride if each axis begins where the one inside it would go on.
  bool even = true;
  long stride = 0, next = 0;
  for (int axis = ndim - 2; axis >= first; axis--) {
    if (shape[axis] > 1) {
      even = even && (next == 0 || strides[axis] == stride * next);
      stride = next == 0 ? strides[axis] : stride;
      next = (next == 0 ? 1 : next) * shape[axis];
    }
  }
  const long step = strides[ndim - 1];
  const int way = even && step == 1 ? STRAIGHT : even && stride == 1 ? TURNED : STRIDED;
  return {way, way == STRAIGHT ? stride : step, first, ndim - 2, shape, strides};
}

// Takes a thread's elements of the tile of ROWS x COLUMNS at (row, column); zeros beyond the first `rows` rows and
// `columns` columns from there.
template <int ROWS, int COLUMNS, typename P>
METAL_FUNC void take_from(Matrix of, thread T* held, P from, int row, int column, int rows, int columns,
                          int thread_index) {
  if (of.way == STRAIGHT) {
    take<ROWS, COLUMNS>(held, from + row * of.pitch + column, of.pitch, rows, columns, thread_index);
  } else if (of.way == TURNED) {
    take<COLUMNS, ROWS>(held, from + column * of.pitch + row, of.pitch, columns, rows, thread_index);
  } else {
    // Right for everything, and slow: rows are found by divisions.
    constexpr int WIDTH = load_width<ROWS * COLUMNS>();
#pragma unroll
    for (int i = 0; i < SHARE(ROWS, COLUMNS); i++) {
      const int e = (i / WIDTH * THREADS + thread_index) * WIDTH;
      const int r = e / COLUMNS, c = e % COLUMNS + i % WIDTH;
      const bool inside = r < rows && c < columns;
      const long start = inside ? offset_of(row + r, of.first, of.last, of.shape, of.strides) : 0;
      held[i] = inside ? from[start + (column + c) * of.pitch] : T(0);
    }
  }
}

template <int ROWS, int COLUMNS>
METAL_FUNC void put_as(int way, const thread T* held, threadgroup T* tile, int thread_index) {
  if (way == TURNED) {
    put<COLUMNS, ROWS>(held, tile, thread_index);
  } else {
    put<ROWS, COLUMNS>(held, tile, thread_index);
  }
}

#define A_TILE LARGER(TILE(BM, BK), TILE(BK, BM))
#define B_TILE LARGER(TILE(BK, BN), TILE(BN, BK))
#define TILES (A_TILE + B_TILE)

//! body
  const int M = sizes[0], N = sizes[1], K = sizes[2], batch = sizes[3], slices = sizes[4], swizzle = sizes[5];
  const int lane = thread_index_in_simdgroup;
  const int simdgroup = simdgroup_index_in_threadgroup;
  const int thread_index = simdgroup * 32 + lane;
  const int plane = threadgroup_position_in_grid.z;
  const int product = plane % batch;

  // Bands of `swizzle` rows of tiles, each walked column by column, so that threadgroups that run together share more.
  // (They are assumed to start in the order of x, then y.)
  const int3 at = int3(threadgroup_position_in_grid), all = int3(threadgroups_per_grid);
  const int band = at.y / swizzle * swizzle, height = min(swizzle, all.y - band);
  const int within = (at.y - band) * all.x + at.x;
  const int m0 = (band + within % height) * BM, n0 = within / height * BN;

  const int slice = ((K + BK - 1) / BK + slices - 1) / slices * BK;
  const int first = plane / batch * slice, end = min(K, first + slice);

  const Matrix as = matrix(batch > 1 ? a_ndim - 2 : 0, a_ndim, a_shape, a_strides);
  const Matrix bs = matrix(b_ndim - 2, b_ndim, b_shape, b_strides);
  const auto a_from = a + offset_of(product, 0, a_ndim - 3, a_shape, a_strides);
  const auto b_from = b + offset_of(product, 0, b_ndim - 3, b_shape, b_strides);

  // The tiles and, after them, the results: never both, and a barrier lies between.
  threadgroup float4 memory[LARGER(STAGES * TILES * int(sizeof(T)), SPILLS * 4) / 16];
  threadgroup T* tiles = (threadgroup T*)memory;
  threadgroup float* scratch = (threadgroup float*)memory;

  Sums sums;
  clear(sums);
  T a_held[SHARE(BM, BK)], b_held[SHARE(BK, BN)];
  // With two stages the tiles of a turn are multiplied in the next one, between the loads of that one and their
  // arrival: the loop takes one turn more, and one barrier a turn.
  for (int k = first, stage = 0; k < end + (STAGES - 1) * BK; k += BK, stage = STAGES - 1 - stage) {
    if (k < end) {
      take_from<BM, BK>(as, a_held, a_from, m0, k, M - m0, end - k, thread_index);
      take_from<BK, BN>(bs, b_held, b_from, k, n0, end - k, N - n0, thread_index);
    }
#if STAGES == 2
    if (k > first) {
      const threadgroup T* last = tiles + (1 - stage) * TILES;
      multiply(sums, last, as.way == TURNED, last + A_TILE, bs.way == TURNED, simdgroup);
    }
#endif
    if (k < end) {
      put_as<BM, BK>(as.way, a_held, tiles + stage * TILES, thread_index);
      put_as<BK, BN>(bs.way, b_held, tiles + stage * TILES + A_TILE, thread_index);
    }
#if STAGES == 1
    threadgroup_barrier(mem_flags::mem_threadgroup);
    multiply(sums, tiles, as.way == TURNED, tiles + A_TILE, bs.way == TURNED, simdgroup);
#endif
    // Before the next turn, or before the results go to the same memory.
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

#pragma unroll
  for (int i = 0; i < TM; i++) {
    spill(sums, i, scratch, simdgroup);
    spill_barrier();
    for (int e = spill_first(simdgroup, lane); e < SPILL_ELEMENTS; e += SPILL_STEP) {
      const int row = m0 + spill_row(simdgroup, i, e), column = n0 + spill_column(simdgroup, e);
      if (row < M && column < N) {
        float sum = spilled(scratch, simdgroup, e);
        const long element = (long(plane) * M + row) * N + column;
#if PARTIALS
        y[element] = sum;
#else
#if EPILOGUE
        sum = finished(sum, factors[0], factors[1], c, product * M + row, column, c_shape, c_strides, c_ndim);
#endif
        y[element] = T(sum);
#endif
      }
    }
    if (i + 1 < TM) {
      spill_barrier();
    }
  }
