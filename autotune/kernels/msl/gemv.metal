// y (M, N) = x (M, K) times b (K, N), b in any layout; see kernels/gemv.py for the idea.
//
// Two walks, chosen by b's strides. Where b is contiguous along K (the transpose of a row-major matrix), a simdgroup takes
// OUTPUTS columns and its lanes share K. Else the simdgroup is LANES lanes along N, each with OUTPUTS neighbouring columns,
// times 32 / LANES lanes along K, so that a load of the simdgroup covers whole segments of rows of b.
//
// Either way V rows of x meet each element of b once it is loaded, and SPLIT simdgroups may share K. The grid is made for
// the layout that was tuned; the loop over `group` makes the other one right too.
//
// x and b may lie in constant memory where they are tiny, so they are read by name and never bound to a pointer.
// Constants: V, OUTPUTS, SIMDGROUPS, SPLIT, VALUES, LANES, EPILOGUE (0 none, 1 row, 2 full); T is the type of all arrays.

#define TEAMS (SIMDGROUPS / SPLIT)
#define DEPTH (32 / LANES)

//! body
  const int M = sizes[0], N = sizes[1], K = sizes[2];
  const long k_stride = b_strides[b_ndim - 2], n_stride = b_strides[b_ndim - 1];
  const bool along_k = k_stride == 1;
  const int lane = thread_index_in_simdgroup;
  const int team = simdgroup_index_in_threadgroup / SPLIT;
  const int share = simdgroup_index_in_threadgroup % SPLIT;
  const int width = along_k ? OUTPUTS : LANES * OUTPUTS;
  const int column = along_k ? 0 : lane % LANES;
  const int m0 = threadgroup_position_in_grid.z * V;
#if SPLIT > 1
  threadgroup float partial[SIMDGROUPS][V][OUTPUTS][LANES];
#endif

  for (int group = threadgroup_position_in_grid.x; group * TEAMS * width < N; group += threadgroups_per_grid.x) {
    const int n0 = (group * TEAMS + team) * width + column * OUTPUTS;
    float acc[V][OUTPUTS];
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
      for (int r = 0; r < OUTPUTS; r++) {
        acc[v][r] = 0.0f;
      }
    }

    if (along_k) {
      for (int k = (share * 32 + lane) * VALUES; k < K; k += SPLIT * 32 * VALUES) {
        float xs[V][VALUES];
        if (k + VALUES <= K) {
#pragma unroll
          for (int v = 0; v < V; v++) {
            const long from = long(min(m0 + v, M - 1)) * K + k;
#pragma unroll
            for (int i = 0; i < VALUES; i++) {
              xs[v][i] = float(x[from + i]);
            }
          }
#pragma unroll
          for (int r = 0; r < OUTPUTS; r++) {
            const long from = min(n0 + r, N - 1) * n_stride + k;
            float bs[VALUES];
#pragma unroll
            for (int i = 0; i < VALUES; i++) {
              bs[i] = float(b[from + i]);
            }
#pragma unroll
            for (int v = 0; v < V; v++) {
#pragma unroll
              for (int i = 0; i < VALUES; i++) {
                acc[v][r] += xs[v][i] * bs[i];
              }
            }
          }
        } else {
          // The end of K, once in a product: a lane's last elements one by one.
          for (int at = k; at < K; at++) {
            for (int r = 0; r < OUTPUTS; r++) {
              const float element = float(b[min(n0 + r, N - 1) * n_stride + at]);
              for (int v = 0; v < V; v++) {
                acc[v][r] += float(x[long(min(m0 + v, M - 1)) * K + at]) * element;
              }
            }
          }
        }
      }
    } else {
      for (int k0 = (share * DEPTH + lane / LANES) * VALUES; k0 < K; k0 += SPLIT * DEPTH * VALUES) {
#pragma unroll
        for (int i = 0; i < VALUES; i++) {
          const int k = k0 + i;
          if (k < K) {
            float bs[OUTPUTS];
#pragma unroll
            for (int r = 0; r < OUTPUTS; r++) {
              bs[r] = float(b[k * k_stride + min(n0 + r, N - 1) * n_stride]);
            }
#pragma unroll
            for (int v = 0; v < V; v++) {
              const float element = float(x[long(min(m0 + v, M - 1)) * K + k]);
#pragma unroll
              for (int r = 0; r < OUTPUTS; r++) {
                acc[v][r] += element * bs[r];
              }
            }
          }
        }
      }
    }

    const int least = along_k ? 1 : LANES;
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
      for (int r = 0; r < OUTPUTS; r++) {
        for (int apart = 16; apart >= least; apart /= 2) {
          acc[v][r] += simd_shuffle_xor(acc[v][r], ushort(apart));
        }
      }
    }
#if SPLIT > 1
    if (lane < least) {
#pragma unroll
      for (int v = 0; v < V; v++) {
#pragma unroll
        for (int r = 0; r < OUTPUTS; r++) {
          partial[simdgroup_index_in_threadgroup][v][r][lane] = acc[v][r];
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    if (share == 0) {
#pragma unroll
      for (int v = 0; v < V; v++) {
#pragma unroll
        for (int r = 0; r < OUTPUTS; r++) {
          const bool mine = along_k ? lane == (v * OUTPUTS + r) % 32 : lane < LANES;
          if (mine && m0 + v < M && n0 + r < N) {
            float sum = acc[v][r];
#if SPLIT > 1
            for (int s = 1; s < SPLIT; s++) {
              sum += partial[team * SPLIT + s][v][r][column];
            }
#endif
#if EPILOGUE
            sum *= factors[0];
            if (factors[1] != 0.0f) {
              sum += factors[1] * float(c[(EPILOGUE == 2 ? long(m0 + v) * N : 0) + n0 + r]);
            }
#endif
            y[long(m0 + v) * N + n0 + r] = T(sum);
          }
        }
      }
    }
#if SPLIT > 1
    // The next columns' partial sums go where these are still being read.
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  }
