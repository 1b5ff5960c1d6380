// Simdgroup matrices in registers: which lane has which elements, so that operands need no threadgroup memory.
//
// Metal does not document the layout. This is the one that MLX's steel kernels rely on (steel/gemm/mma.h), and a chip that
// had another would fail the first try of a kernel (kernels/family.py). On CUDA cuda.h says all this of a warp's.
//
// Element i = 0, 1 of a lane is at (left_row, left_column + i) of a left fragment and of the sums, and at (right_row(i),
// right_column(i)) of a right one.
//
// Constants: T2 is a pair of T.

#include <metal_simdgroup_matrix>

#ifndef FRAGMENTS
METAL_FUNC int left_row(int lane) {
  return lane / 16 * 4 + lane / 2 % 4;
}

METAL_FUNC int left_column(int lane) {
  return lane / 8 % 2 * 4 + lane % 2 * 2;
}

METAL_FUNC int right_row(int lane, int) {
  return left_row(lane);
}

METAL_FUNC int right_column(int lane, int i) {
  return left_column(lane) + i;
}

// Adds to COUNT fragments of sums the products of COUNT times two left fragments, side by side, and two right ones, one
// below the other: 8 * COUNT rows, 16 deep, by 8 columns.
template <int COUNT>
METAL_FUNC void multiply_add(thread float (&sums)[COUNT][2], const thread T2 (&left)[COUNT][2],
                             const thread T2 (&right)[2]) {
#pragma unroll
  for (int t = 0; t < COUNT; t++) {
    simdgroup_matrix<float, 8, 8> sum;
    sum.thread_elements()[0] = sums[t][0];
    sum.thread_elements()[1] = sums[t][1];
#pragma unroll
    for (int d = 0; d < 2; d++) {
      simdgroup_matrix<T, 8, 8> a, b;
      a.thread_elements()[0] = left[t][d].x;
      a.thread_elements()[1] = left[t][d].y;
      b.thread_elements()[0] = right[d].x;
      b.thread_elements()[1] = right[d].y;
      simdgroup_multiply_accumulate(sum, a, b, sum);
    }
    sums[t][0] = sum.thread_elements()[0];
    sums[t][1] = sum.thread_elements()[1];
  }
}
#endif
