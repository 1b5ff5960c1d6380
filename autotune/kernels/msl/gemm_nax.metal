// y (..., M, N) = a (..., M, K) times b (K, N) or (..., K, N), plus what addmm adds, on the neural accelerators; see
// kernels/gemm_nax.py for the idea.
//
// Operands go from device memory straight to registers, as in MLX's kernels: simdgroups of a
// threadgroup share them through the cache.
//
// a and b come with the strides that they have, which Python does not see; the way they lie is found by the same
// branch in all threads. Where one axis has stride 1, runs lie along it (TA and TB say which) and whole tiles are
// loaded without checks. Other strides, and tiles at an edge, go element by element. Where batch is 1, all axes of a
// but the last are rows.
//
// Threadgroups (x, y, z): x counts tiles along N, y along M, z is slice * batch + product. With PARTIALS, y is
// float32 (slices * batch, M, N) and reduce.metal adds up.
//
// Inputs: sizes (M, N, K, batch, slices, swizzle, bk), a, b, and with EPILOGUE factors and c as in reduce.metal.
// Constants: those of nax.metal, and EPILOGUE.

// What a simdgroup computes: SM x SN results from (m0, n0) on, over k0 .. k1, meeting the others every bk.
struct Share {
  int M, N, m0, n0, k0, k1, bk;
};

// What a simdgroup adds up over K. `rows` counts a's axes that are rows; the strides begin with theirs.
template <bool TA, bool TB, typename PA, typename PB>
METAL_FUNC void product(PA a, int rows, const constant int* a_shape, const constant int64_t* a_strides, PB b,
                        const constant int64_t* b_strides, Share p, thread Layout& l, thread Sums& sums) {
  find_layout<TA, TB>(l);
  const bool active = l.found && p.m0 < p.M && p.n0 < p.N;
  const long ak = a_strides[rows], bk = b_strides[0], bn = b_strides[1];
  const bool a_whole = (TA || ak == 1) && p.m0 + SM <= p.M;
  const bool b_whole = (TB || bn == 1) && p.n0 + SN <= p.N;

  // Where runs start at k = 0: for each of A's rows, which need not be at one stride, and in B's first tile.
  long a_at[TM][A_RUNS], b_at[B_RUNS];
#pragma unroll
  for (int i = 0; i < TM; i++) {
#pragma unroll
    for (int r = 0; r < A_RUNS; r++) {
      const int m = min(p.m0 + i * FM + (TA ? l.a_columns[r] : l.a_rows[r]), p.M - 1);
      a_at[i][r] = offset_of(m, 0, rows - 1, a_shape, a_strides) + (TA ? l.a_rows[r] : l.a_columns[r]) * ak;
    }
  }
#pragma unroll
  for (int r = 0; r < B_RUNS; r++) {
    b_at[r] = (p.n0 + (TB ? l.b_rows[r] : l.b_columns[r])) * bn + (TB ? l.b_columns[r] : l.b_rows[r]) * bk;
  }

  int meet = p.k0;
  for (int k = p.k0; k < p.k1; k += STEP) {
    if (k >= meet) {
      // Orders no memory: it keeps the simdgroups near each other in K, so that what one loads the others find in
      // cache.
      threadgroup_barrier(mem_flags::mem_none);
      meet += p.bk;
    }
    if (!active) {
      continue;
    }
    Operands o;
    const bool whole = k + STEP <= p.k1;
#pragma unroll
    for (int t = 0; t < TK; t++) {
      const int at = k + t * FK, k_end = p.k1 - at;
#pragma unroll
      for (int i = 0; i < TM; i++) {
        const int m_end = p.M - p.m0 - i * FM;
        load_runs<A_RUNS>(o.a[i][t], a + at * ak, a_at[i], a_whole && whole, TA ? 1 : ak, l.a_rows, l.a_columns,
                          TA ? k_end : m_end, TA ? m_end : k_end);
      }
#pragma unroll
      for (int j = 0; j < TN; j++) {
        const int n_end = p.N - p.n0 - j * FN;
        load_runs<B_RUNS>(o.b[j][t], b + at * bk + j * FN * bn, b_at, b_whole && whole, TB ? 1 : bn, l.b_rows,
                          l.b_columns, TB ? n_end : k_end, TB ? k_end : n_end);
      }
    }
    multiply_step<TA, TB>(o, sums);
  }
}

//! body
  const int batch = sizes[3], slices = sizes[4];
  const int2 tile = swizzled(int2(threadgroup_position_in_grid.xy), int2(threadgroups_per_grid.xy), sizes[5]);
  const int simdgroup = simdgroup_index_in_threadgroup;
  const int plane = threadgroup_position_in_grid.z;
  const int product_index = plane % batch;

  Share p;
  p.M = sizes[0];
  p.N = sizes[1];
  p.m0 = tile.y * BM + simdgroup / WN * SM;
  p.n0 = tile.x * BN + simdgroup % WN * SN;
  const int K = sizes[2], slice = ((K + STEP - 1) / STEP + slices - 1) / slices * STEP;
  p.k0 = min(plane / batch * slice, K);
  p.k1 = min(p.k0 + slice, K);
  p.bk = sizes[6];

  const int first = batch > 1 ? a_ndim - 2 : 0;
  const auto a_from = a + offset_of(product_index, 0, a_ndim - 3, a_shape, a_strides);
  const auto b_from = b + offset_of(product_index, 0, b_ndim - 3, b_shape, b_strides);
  const constant int64_t* b_last = b_strides + b_ndim - 2;
  // A's columns count as contiguous only if all of its rows are at one stride.
  bool turned = a_strides[a_ndim - 2] == 1 && a_strides[a_ndim - 1] != 1;
  for (int axis = first; axis < a_ndim - 2; axis++) {
    turned = turned && a_strides[axis] == a_shape[axis + 1] * a_strides[axis + 1];
  }

  Layout l;
  Sums sums = {};
#define PRODUCT(TA, TB) \
  product<TA, TB>(a_from, a_ndim - 1 - first, a_shape + first, a_strides + first, b_from, b_last, p, l, sums)
  if (b_last[0] == 1 && b_last[1] != 1) {
    if (turned) {
      PRODUCT(true, true);
    } else {
      PRODUCT(false, true);
    }
  } else if (turned) {
    PRODUCT(true, false);
  } else {
    PRODUCT(false, false);
  }

#if EPILOGUE
#pragma unroll
  for (int i = 0; i < TM; i++) {
#pragma unroll
    for (int j = 0; j < TN; j++) {
#pragma unroll
      for (int e = 0; e < C_RUNS * RUN; e++) {
        const int m = p.m0 + i * FM + l.c_rows[e / RUN], n = p.n0 + j * FN + l.c_columns[e / RUN] + e % RUN;
        if (m < p.M && n < p.N) {
          thread float& sum = sums.at[i][j][e];
          sum = finished(sum, factors[0], factors[1], c, product_index * p.M + m, n, c_shape, c_strides, c_ndim);
        }
      }
    }
  }
#endif
  store_results(y + long(plane) * p.M * p.N, sums, l, p.m0, p.n0, p.M, p.N, thread_index_in_simdgroup);
