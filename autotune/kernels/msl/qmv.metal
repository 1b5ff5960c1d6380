// y (M, N) = x (M, K) times the transpose of w (N, K), which is packed; see kernels/qmv.py for the idea.
//
// A simdgroup computes ROWS rows of w for V rows of x. Lane l of the SPLIT simdgroups that share K takes every
// (32 * SPLIT)th pack of a row: neighbouring lanes read neighbouring packs. A pack is unpacked once and meets V rows of
// x, CHUNK values of each at a time: a lane holds its packs of ROWS rows and a few values of x, not the other way round,
// since packs are smaller. Sums are in float32.
//
// Constants: those of packs.metal, and V, ROWS, SIMDGROUPS, SPLIT, STAGE, WIDE; T is the type of x.

#define CHUNK 8
#define STRIDE (32 * SPLIT * VALUES)
#define TEAMS (SIMDGROUPS / SPLIT)

typedef float Sums[V][ROWS];

#if AFFINE
#define BIASES biases
#else
#define BIASES scales
#endif

// The pack at `from`.
template <bool ALIGNED>
METAL_FUNC void take_pack(thread uint* words, const device pack_unit* from) {
#if UNIT_BITS == 32
  if (ALIGNED) {
    load_words<PACK_WORDS>(words, (const device uint*)from);
    return;
  }
#endif
  load_pack(from, words);
}

// CHUNK values of x as floats.
template <bool ALIGNED>
METAL_FUNC void take_chunk(thread float* xs, const device T* from) {
  constexpr int PER_WORD = 4 / int(sizeof(T));
  if (ALIGNED) {
    uint words[CHUNK / PER_WORD];
    load_words<CHUNK / PER_WORD>(words, (const device uint*)from);
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
      xs[i] = number(words[i / PER_WORD], i % PER_WORD, T(0));
    }
  } else {
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
      xs[i] = float(from[i]);
    }
  }
}

// Adds a lane's packs at k of all rows of w to the sums. `staged` points to x in threadgroup memory where STAGE is 1:
// value i of the lane at [i * 32], row v at [v * STRIDE].
template <bool ALIGNED, typename P, typename S, typename B>
METAL_FUNC void add_packs(thread Sums& acc, const device T* x, P staged, const device pack_unit* packs, S scales,
                          B biases, int M, int N, int K, int m0, int n0, int k) {
  const int units = K / VALUES * PACK_UNITS;
  uint words[ROWS][PACK_WORDS];
  float scale[ROWS], bias[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const long n = min(n0 + r, N - 1);
    take_pack<ALIGNED>(words[r], packs + n * units + k / VALUES * PACK_UNITS);
    const long group = n * (K / GROUP) + k / GROUP;
    scale[r] = scale_of(scales[group]);
#if AFFINE
    bias[r] = float(biases[group]);
#endif
  }
  float total[V];
  Sums dot;
#pragma unroll
  for (int v = 0; v < V; v++) {
    total[v] = 0.0f;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      dot[v][r] = 0.0f;
    }
  }
#pragma unroll
  for (int c = 0; c < VALUES; c += CHUNK) {
    float xs[V][CHUNK];
#pragma unroll
    for (int v = 0; v < V; v++) {
#if STAGE
#pragma unroll
      for (int i = 0; i < CHUNK; i++) {
        xs[v][i] = staged[v * STRIDE + (c + i) * 32];
      }
#else
      take_chunk<ALIGNED>(xs[v], x + long(min(m0 + v, M - 1)) * K + k + c);
#endif
#if AFFINE
#pragma unroll
      for (int i = 0; i < CHUNK; i++) {
        total[v] += xs[v][i];
      }
#endif
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
      for (int i = 0; i < CHUNK; i++) {
        const float weight = weight_of(code_of(words[r], c + i));
#pragma unroll
        for (int v = 0; v < V; v++) {
          dot[v][r] += weight * xs[v][i];
        }
      }
    }
  }
#pragma unroll
  for (int v = 0; v < V; v++) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      acc[v][r] += scale[r] * dot[v][r];
#if AFFINE
      acc[v][r] += bias[r] * total[v];
#endif
    }
  }
}

//! body
  const int M = sizes[0], N = sizes[1], K = sizes[2];
  const int lane = thread_index_in_simdgroup;
  const int team = simdgroup_index_in_threadgroup / SPLIT;
  const int share = simdgroup_index_in_threadgroup % SPLIT;
  const int n0 = (int(threadgroup_position_in_grid.x) * TEAMS + team) * ROWS;
  const int m0 = int(threadgroup_position_in_grid.z) * V;
  const int first = (share * 32 + lane) * VALUES;
  const device pack_unit* packs = (const device pack_unit*)w;

  Sums acc;
#pragma unroll
  for (int v = 0; v < V; v++) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      acc[v][r] = 0.0f;
    }
  }

#if STAGE
  // The packs of x that all teams need next, value i of lane l's pack at [i][l]: lanes then read neighbouring words.
  threadgroup float staged[V][SPLIT][VALUES][32];
  const int thread_index = simdgroup_index_in_threadgroup * 32 + lane;
  for (int k0 = 0; k0 < K; k0 += STRIDE) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = thread_index; i < V * STRIDE; i += SIMDGROUPS * 32) {
      const int v = i / STRIDE, at = i % STRIDE;
      const int pack = at / VALUES;
      const int row = min(m0 + v, M - 1);
      staged[v][pack / 32][at % VALUES][pack % 32] = k0 + at < K ? float(x[long(row) * K + k0 + at]) : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (k0 + first < K) {
      add_packs<false>(acc, x, &staged[0][share][0][lane], packs, scales, BIASES, M, N, K, m0, n0, k0 + first);
    }
  }
#else
#if WIDE
  // Arrays of MLX are aligned to more than that; slices of them may not be.
  if (((ulong)x | (ulong)w) % 16 == 0) {
    for (int k = first; k < K; k += STRIDE) {
      add_packs<true>(acc, x, x, packs, scales, BIASES, M, N, K, m0, n0, k);
    }
  } else
#endif
  {
    for (int k = first; k < K; k += STRIDE) {
      add_packs<false>(acc, x, x, packs, scales, BIASES, M, N, K, m0, n0, k);
    }
  }
#endif

#if SPLIT > 1
  threadgroup float partial[SIMDGROUPS][V][ROWS];
#endif
#pragma unroll
  for (int v = 0; v < V; v++) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      acc[v][r] = simd_sum(acc[v][r]);
#if SPLIT > 1
      if (lane == 0) {
        partial[simdgroup_index_in_threadgroup][v][r] = acc[v][r];
      }
#endif
    }
  }
#if SPLIT > 1
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (share > 0) {
    return;
  }
#endif
  // One lane an element: V * ROWS stores are spread over the simdgroup.
#pragma unroll
  for (int v = 0; v < V; v++) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (lane == (v * ROWS + r) % 32 && m0 + v < M && n0 + r < N) {
        float sum = acc[v][r];
#if SPLIT > 1
        for (int s = 1; s < SPLIT; s++) {
          sum += partial[team * SPLIT + s][v][r];
        }
#endif
        y[long(m0 + v) * N + n0 + r] = T(sum);
      }
    }
  }
