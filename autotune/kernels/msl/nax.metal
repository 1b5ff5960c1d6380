// Products of tiles on the GPU's neural accelerators: what gemm_nax and qmm_nax share.
//
// Apple's matmul2d multiplies matrices that are spread over the registers of one simdgroup ("cooperative tensors"):
// here FM x FK times FK x FN, summed in float. Which lane holds which element is left open by Metal, so each lane
// asks where its elements lie (get_multidimensional_index). One thing is assumed on top: that they come in runs of
// RUN neighbours in a stored row, which are loaded together. That is checked on the device; where it does not hold
// nothing is multiplied and the result is NaN, which the first try of a config sees. RUN = 1 assumes nothing but that
// all elements are in use.
//
// Operands are laid out as they are stored: A as FM x FK, or FK x FM where TA; B as FK x FN, or FN x FK where TB.
// Runs lie along the stored rows. A simdgroup has SM x SN of the results, TM x TN products of FM x FN.
//
// Constants: T and W, the types of A and B; FM, FN, FK, each 16 or 32 and one of them 32 (as reported of Apple's
// static asserts); RUN; RELAXED, Apple's relaxed_precision; BM, BN, the threadgroup's tile, cut over WM x WN
// simdgroups; PARTIALS, 1 where several threadgroups share K and results are sums in float.

#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>

// What is loaded of K at once: 64 bytes of a row.
#define STEP 32
#define SM (BM / WM)
#define SN (BN / WN)
#define TM (SM / FM)
#define TN (SN / FN)
#define TK (STEP / FK)
// Runs that a lane holds of A, of B and of the results.
#define A_RUNS (FM * FK / 32 / RUN)
#define B_RUNS (FK * FN / 32 / RUN)
#define C_RUNS (FM * FN / 32 / RUN)

// A product's operation and its three tensors. They live for one product: Metal has no arrays of them, and the copies
// from and to registers are the compiler's to remove, as in MLX's kernels.
#define TENSORS \
  constexpr auto shape = mpp::tensor_ops::matmul2d_descriptor( \
      FM, FN, FK, TA, TB, RELAXED, mpp::tensor_ops::matmul2d_descriptor::mode::multiply_accumulate); \
  typedef mpp::tensor_ops::matmul2d<shape, metal::execution_simdgroup> unit_type; \
  unit_type unit; \
  auto a_tensor = unit.template get_left_input_cooperative_tensor<T, W, float>(); \
  auto b_tensor = unit.template get_right_input_cooperative_tensor<T, W, float>(); \
  auto c_tensor = unit.template get_destination_cooperative_tensor< \
      typename unit_type::template cooperative_tensor_left_input_t<T, W, float>, \
      typename unit_type::template cooperative_tensor_right_input_t<T, W, float>, float>();

// Row and first column of each run that the lane holds of a tensor. False where the tensor is not made of RUNS runs.
template <int RUNS, typename Tensor>
METAL_FUNC bool find_runs(thread Tensor& tensor, thread short* rows, thread short* columns) {
  bool found = tensor.get_capacity() == RUNS * RUN;
#pragma unroll
  for (int r = 0; r < RUNS; r++) {
    rows[r] = columns[r] = 0;
    if (found) {
      const auto first = tensor.get_multidimensional_index(ushort(r * RUN));
      columns[r] = first[0];
      rows[r] = first[1];
#pragma unroll
      for (int e = 1; e < RUN; e++) {
        const auto next = tensor.get_multidimensional_index(ushort(r * RUN + e));
        found = found && next[0] == first[0] + e && next[1] == first[1];
      }
    }
  }
  return found;
}

struct Layout {
  short a_rows[A_RUNS], a_columns[A_RUNS], b_rows[B_RUNS], b_columns[B_RUNS], c_rows[C_RUNS], c_columns[C_RUNS];
  bool found;
};

template <bool TA, bool TB>
METAL_FUNC void find_layout(thread Layout& l) {
  TENSORS
  const bool a_found = find_runs<A_RUNS>(a_tensor, l.a_rows, l.a_columns);
  const bool b_found = find_runs<B_RUNS>(b_tensor, l.b_rows, l.b_columns);
  const bool c_found = find_runs<C_RUNS>(c_tensor, l.c_rows, l.c_columns);
  l.found = simd_all(a_found && b_found && c_found);
}

// c += a * b, of which the lane holds these elements.
template <bool TA, bool TB>
METAL_FUNC void multiply(const thread T* a, const thread W* b, thread float* c) {
  TENSORS
#pragma unroll
  for (int i = 0; i < A_RUNS * RUN; i++) {
    a_tensor[i] = a[i];
  }
#pragma unroll
  for (int i = 0; i < B_RUNS * RUN; i++) {
    b_tensor[i] = b[i];
  }
#pragma unroll
  for (int i = 0; i < C_RUNS * RUN; i++) {
    c_tensor[i] = c[i];
  }
  unit.run(a_tensor, b_tensor, c_tensor);
#pragma unroll
  for (int i = 0; i < C_RUNS * RUN; i++) {
    c[i] = c_tensor[i];
  }
}

// What a simdgroup holds of A and B for one STEP along K, and of the results.
struct Operands {
  T a[TM][TK][A_RUNS * RUN];
  W b[TN][TK][B_RUNS * RUN];
};
struct Sums {
  float at[TM][TN][C_RUNS * RUN];
};

template <bool TA, bool TB>
METAL_FUNC void multiply_step(const thread Operands& o, thread Sums& sums) {
#pragma unroll
  for (int k = 0; k < TK; k++) {
#pragma unroll
    for (int i = 0; i < TM; i++) {
#pragma unroll
      for (int j = 0; j < TN; j++) {
        multiply<TA, TB>(o.a[i][k], o.b[j][k], sums.at[i][j]);
      }
    }
  }
}

// A lane's share of an operand: run r starts at from[at[r]], with `step` elements between neighbours, which is 1
// where the operand is `whole`. Where it is not there are zeros from row row_end and column column_end on, and
// nothing is read.
template <int RUNS, typename E, typename P, typename O>
METAL_FUNC void load_runs(thread E* to, P from, const thread O* at, bool whole, long step, const thread short* rows,
                          const thread short* columns, int row_end, int column_end) {
  if (whole) {
#pragma unroll
    for (int i = 0; i < RUNS * RUN; i++) {
      to[i] = from[at[i / RUN] + i % RUN];
    }
  } else {
#pragma unroll
    for (int i = 0; i < RUNS * RUN; i++) {
      const bool inside = rows[i / RUN] < row_end && columns[i / RUN] + i % RUN < column_end;
      to[i] = inside ? from[at[i / RUN] + i % RUN * step] : E(0);
    }
  }
}

#if PARTIALS
typedef float result_type;
#else
typedef T result_type;
#endif

// Stores the results of a simdgroup whose first is (m0, n0) of a row-major M x N matrix.
METAL_FUNC void store_results(device result_type* to, const thread Sums& sums, const thread Layout& l, int m0, int n0,
                              int M, int N, int lane) {
  if (!l.found) {
    for (int i = lane; i < SM * SN; i += 32) {
      if (m0 + i / SN < M && n0 + i % SN < N) {
        to[long(m0 + i / SN) * N + n0 + i % SN] = result_type(NAN);
      }
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < TM; i++) {
#pragma unroll
    for (int j = 0; j < TN; j++) {
#pragma unroll
      for (int e = 0; e < C_RUNS * RUN; e++) {
        const int m = m0 + i * FM + l.c_rows[e / RUN], n = n0 + j * FN + l.c_columns[e / RUN] + e % RUN;
        if (m < M && n < N) {
          to[long(m) * N + n] = result_type(sums.at[i][j][e]);
        }
      }
    }
  }
}

// Column and row of the tile of threadgroup (x, y) in a grid of tiles: bands of `swizzle` rows of tiles, each walked
// column by column, so that threadgroups that run together share more.
METAL_FUNC int2 swizzled(int2 group, int2 grid, int swizzle) {
  const int band = group.y / swizzle * swizzle;
  const int height = min(swizzle, grid.y - band);
  const int within = (group.y - band) * grid.x + group.x;
  return int2(within / height, band + within % height);
}
