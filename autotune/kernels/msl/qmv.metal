// y (M, N) = x (M, K) times the transpose of w (N, K), which is packed; see kernels/qmv.py for the idea.
//
// A simdgroup computes ROWS rows of w for V rows of x. Lane l of the SPLIT simdgroups that share K takes every
// (32 * SPLIT)th pack of a row: neighbouring lanes read neighbouring packs. A pack is unpacked once and meets V rows of x
// that are held in registers. Sums are in float32.
//
// Constants: those of packs.metal, and V, ROWS, SIMDGROUPS, SPLIT, STAGE; T is the type of x.

#define STRIDE (32 * SPLIT * VALUES)
#define TEAMS (SIMDGROUPS / SPLIT)

//! body
  const int M = sizes[0], N = sizes[1], K = sizes[2];
  const int lane = thread_index_in_simdgroup;
  const int team = simdgroup_index_in_threadgroup / SPLIT;
  const int share = simdgroup_index_in_threadgroup % SPLIT;
  const int n0 = (threadgroup_position_in_grid.y * TEAMS + team) * ROWS;
  const int m0 = threadgroup_position_in_grid.z * V;
  const int first = (share * 32 + lane) * VALUES;
  const int units = K / VALUES * PACK_UNITS;
  const device pack_unit* packs = (const device pack_unit*)w;

  float acc[V][ROWS];
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
#endif

  for (int k0 = 0; k0 < K; k0 += STRIDE) {
    const int k = k0 + first;
    float xs[V][VALUES];
#if STAGE
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = thread_index; i < V * STRIDE; i += SIMDGROUPS * 32) {
      const int v = i / STRIDE, at = i % STRIDE;
      const int pack = at / VALUES;
      const int row = min(m0 + v, M - 1);
      staged[v][pack / 32][at % VALUES][pack % 32] = k0 + at < K ? float(x[long(row) * K + k0 + at]) : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    if (k >= K) {
      continue;
    }
    float total[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
      total[v] = 0.0f;
#if !STAGE
      const device T* row = x + long(min(m0 + v, M - 1)) * K + k;
#endif
#pragma unroll
      for (int i = 0; i < VALUES; i++) {
#if STAGE
        xs[v][i] = staged[v][share][i][lane];
#else
        xs[v][i] = float(row[i]);
#endif
        total[v] += xs[v][i];
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const long n = min(n0 + r, N - 1);
      uint words[PACK_WORDS];
      load_pack(packs + n * units + k / VALUES * PACK_UNITS, words);
      const long group = n * (K / GROUP) + k / GROUP;
      const float scale = scale_of(scales[group]);
      float dot[V];
#pragma unroll
      for (int v = 0; v < V; v++) {
        dot[v] = 0.0f;
      }
#pragma unroll
      for (int i = 0; i < VALUES; i++) {
        const float weight = weight_of(code_of(words, i));
#pragma unroll
        for (int v = 0; v < V; v++) {
          dot[v] += weight * xs[v][i];
        }
      }
#pragma unroll
      for (int v = 0; v < V; v++) {
#if AFFINE
        acc[v][r] += scale * dot[v] + float(biases[group]) * total[v];
#else
        acc[v][r] += scale * dot[v];
#endif
      }
    }
  }

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
