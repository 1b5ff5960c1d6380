// y (M, N) = x (M, K) times the transpose of w (N, K), which is packed, on the neural accelerators; see
// kernels/qmm_nax.py for the idea.
//
// For each BK of K the threadgroup unpacks BN x BK weights into its memory, rounded to W, and all of its simdgroups
// multiply by them; x goes from device memory straight to registers. The packs of a step are loaded before the
// products of the step before it, which hides their latency. With two tiles of weights (STAGES 2) a step needs one
// barrier, else two.
//
// Threadgroups (x, y, z): x counts tiles along N, y along M, z slices of K. With PARTIALS, y is float32 (slices, M,
// N), and reduce.metal adds up.
//
// Inputs: sizes (M, N, K, swizzle), x, w, scales and, of affine weights, biases. w lies in device memory however
// small it is: kernels/qmm_nax.py sees to it. Constants: those of packs.metal and nax.metal, and BK, STAGES. W is T
// for affine weights; floating-point ones are exact in bfloat, which has float's range.

#define THREADS (32 * WM * WN)
// Rows of a tile are padded by 16 bytes, so that rows in step begin in different banks (for 32 banks of 4 bytes,
// which is an assumption: Apple documents none).
#define PITCH (BK + 16 / int(sizeof(W)))
// Packs that a thread holds of a tile.
#define PACKS ((BN * BK + THREADS * VALUES - 1) / (THREADS * VALUES))

//! body
  const int M = sizes[0], N = sizes[1], K = sizes[2];
  const int2 tile = swizzled(int2(threadgroup_position_in_grid.xy), int2(threadgroups_per_grid.xy), sizes[3]);
  const int lane = thread_index_in_simdgroup, simdgroup = simdgroup_index_in_threadgroup;
  const int n_tile = tile.x * BN, n_own = simdgroup % WN * SN;
  const int m0 = tile.y * BM + simdgroup / WN * SM, n0 = n_tile + n_own;
  const int slices = threadgroups_per_grid.z, slice = threadgroup_position_in_grid.z;
  const int depth = ((K + BK - 1) / BK + slices - 1) / slices * BK;
  const int k0 = min(slice * depth, K), k1 = min(k0 + depth, K);

  Layout l;
  Sums sums = {};
  find_layout<false, true>(l);
  const bool active = l.found && m0 < M && n0 < N;
  long x_at[TM][A_RUNS];
#pragma unroll
  for (int i = 0; i < TM; i++) {
#pragma unroll
    for (int r = 0; r < A_RUNS; r++) {
      x_at[i][r] = long(min(m0 + i * FM + l.a_rows[r], M - 1)) * K + l.a_columns[r];
    }
  }
  int w_at[B_RUNS];
#pragma unroll
  for (int r = 0; r < B_RUNS; r++) {
    w_at[r] = (n_own + l.b_rows[r]) * PITCH + l.b_columns[r];
  }

  const device pack_unit* packs = (const device pack_unit*)w;
  threadgroup W weights[STAGES][BN * PITCH];
  uint words[PACKS][PACK_WORDS];
  float held_scales[PACKS], held_biases[PACKS];
  int stage = 0;
  // One step ahead of the products: the first turn only loads, the last only multiplies.
  for (int k = k0 - BK; k < k1; k += BK) {
    if (k >= k0) {
#if STAGES == 1
      // Until here others may be multiplying by the tile before.
      threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
#pragma unroll
      for (int p = 0; p < PACKS; p++) {
        const int e = ((p * WM * WN + simdgroup) * 32 + lane) * VALUES;
        if (e < BN * BK) {
#pragma unroll
          for (int i = 0; i < VALUES; i++) {
            const float weight = weight_of(code_of(words[p], i));
            weights[stage][e / BK * PITCH + e % BK + i] = W(held_scales[p] * weight + held_biases[p]);
          }
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    const int next = k + BK;
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
      const int e = ((p * WM * WN + simdgroup) * 32 + lane) * VALUES;
      const long n = n_tile + e / BK;
      const int at = next + e % BK;
      if (n < N && at < k1 && e < BN * BK) {
        load_pack(packs + (n * K + at) / VALUES * PACK_UNITS, words[p]);
        const long group = (n * K + at) / GROUP;
        held_scales[p] = scale_of(scales[group]);
#if AFFINE
        held_biases[p] = float(biases[group]);
#else
        held_biases[p] = 0.0f;
#endif
      } else {
#pragma unroll
        for (int i = 0; i < PACK_WORDS; i++) {
          words[p][i] = 0;
        }
        held_scales[p] = held_biases[p] = 0.0f;
      }
    }
    for (int step = k; active && k >= k0 && step < min(k + BK, k1); step += STEP) {
      Operands o;
      const bool whole = m0 + SM <= M && step + STEP <= k1;
#pragma unroll
      for (int t = 0; t < TK; t++) {
        const int at = step + t * FK;
#pragma unroll
        for (int i = 0; i < TM; i++) {
          load_runs<A_RUNS>(o.a[i][t], x + at, x_at[i], whole, 1, l.a_rows, l.a_columns, M - m0 - i * FM, k1 - at);
        }
#pragma unroll
        for (int j = 0; j < TN; j++) {
          const threadgroup W* from = weights[stage] + j * FN * PITCH + at - k;
          load_runs<B_RUNS>(o.b[j][t], from, w_at, true, 1, l.b_rows, l.b_columns, 0, 0);
        }
      }
      multiply_step<false, true>(o, sums);
    }
#if STAGES == 2
    // Whoever is slow still multiplies by this tile; all are done with the other one since the barrier.
    stage = k >= k0 ? 1 - stage : 0;
#endif
  }
  store_results(y + long(slice) * M * N, sums, l, m0, n0, M, N, lane);
