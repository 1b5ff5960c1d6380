// <metal_simdgroup_matrix>: an 8x8 matrix of which every lane holds two neighbours of a row.
//
// Metal does not say which lane holds what. The layout is the one that MLX's steel kernels rely on
// (mlx/backend/metal/kernels/steel/gemm/mma.h, BaseMMAFrag::get_coord). Products are in float, rounded once.
#pragma once

namespace msl_host {

// Row and first column of the lane's two elements.
inline uint matrix_row(uint lane) { return ((lane / 4) & 4) + (lane / 2) % 4; }
inline uint matrix_column(uint lane) { return ((lane / 4) & 2) * 2 + (lane % 2) * 2; }

// A lane's part of the exchange that MSL_OP_MATRIX_PRODUCT is: see runtime/abi.h.
struct matrix_product {
  float left[2];
  float right[2];
  float product[2];
};

}  // namespace msl_host

namespace metal {

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "Metal has simdgroup matrices of 8x8");
  static_assert(is_floating_point_v<T>, "Metal has simdgroup matrices of half, bfloat and float");

  vec<T, 2> elements;

  constexpr simdgroup_matrix() thread {}
  // The diagonal matrix.
  explicit simdgroup_matrix(T diagonal) thread {
    const uint lane = msl_host::lane_index();
    for (uint i = 0; i < 2; i++) {
      elements[i] = msl_host::matrix_row(lane) == msl_host::matrix_column(lane) + i ? diagonal : T(0);
    }
  }
  thread vec<T, 2>& thread_elements() thread { return elements; }
  const thread vec<T, 2>& thread_elements() const thread { return elements; }
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

template <class T, int Columns = 8, int Rows = Columns>
inline simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Columns, Rows> result;
  result.elements = vec<T, 2>(value);
  return result;
}
template <class T, int Columns = 8, int Rows = Columns>
inline simdgroup_matrix<T, Columns, Rows> make_diagonal_simdgroup_matrix(T value) {
  return simdgroup_matrix<T, Columns, Rows>(value);
}

template <class A, class B>
MSL_COLLECTIVE vec<float, 2> __msl_multiply(simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b) {
  msl_host::matrix_product share = {};
  for (int i = 0; i < 2; i++) {
    share.left[i] = float(a.elements[i]);
    share.right[i] = float(b.elements[i]);
  }
  const ulong slots = __msl_xchg((ulong)&share, sizeof(share), MSL_OP_MATRIX_PRODUCT);
  if (__msl_active() != ~0u) {
    __msl_fail(MSL_FAIL_PARTIAL_SIMDGROUP);
  }
  const auto mine = reinterpret_cast<const device msl_host::matrix_product*>(slots + msl_host::lane_index() * MSL_SLOT);
  return vec<float, 2>{mine->product[0], mine->product[1]};
}

template <class D, class A, class B>
MSL_COLLECTIVE void simdgroup_multiply(thread simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                                       simdgroup_matrix<B, 8, 8> b) {
  const vec<float, 2> product = __msl_multiply(a, b);
  for (int i = 0; i < 2; i++) {
    d.elements[i] = D(product[i]);
  }
}
template <class D, class A, class B, class C>
MSL_COLLECTIVE void simdgroup_multiply_accumulate(thread simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                                                  simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c) {
  const vec<float, 2> product = __msl_multiply(a, b);
  for (int i = 0; i < 2; i++) {
    d.elements[i] = D(product[i] + float(c.elements[i]));
  }
}
template <class T>
MSL_COLLECTIVE simdgroup_matrix<T, 8, 8> operator*(simdgroup_matrix<T, 8, 8> a, simdgroup_matrix<T, 8, 8> b) {
  simdgroup_matrix<T, 8, 8> result;
  simdgroup_multiply(result, a, b);
  return result;
}

// Where a lane's element i lies from the tile's address on. The origin's x counts columns of the memory, y its rows.
inline ulong __msl_matrix_offset(uint i, ulong elements_per_row, ulong2 origin, bool transpose) {
  const uint lane = msl_host::lane_index();
  const ulong row = msl_host::matrix_row(lane), column = msl_host::matrix_column(lane) + i;
  return (origin.y + (transpose ? column : row)) * elements_per_row + origin.x + (transpose ? row : column);
}

// A barrier that orders nothing makes sure that all lanes are here.
#define MSL_SIMDGROUP_LOAD_STORE(space)                                                                       \
  template <class T>                                                                                          \
  MSL_COLLECTIVE void simdgroup_load(thread simdgroup_matrix<T, 8, 8>& d, const space T* from,                \
                                     ulong elements_per_row = 8, ulong2 matrix_origin = ulong2{0, 0},         \
                                     bool transpose_matrix = false) {                                         \
    __msl_sg_barrier(MSL_MEM_NONE);                                                                           \
    for (uint i = 0; i < 2; i++) {                                                                            \
      d.elements[i] = from[__msl_matrix_offset(i, elements_per_row, matrix_origin, transpose_matrix)];        \
    }                                                                                                         \
  }                                                                                                           \
  template <class T>                                                                                          \
  MSL_COLLECTIVE void simdgroup_store(simdgroup_matrix<T, 8, 8> a, space T* to, ulong elements_per_row = 8,   \
                                      ulong2 matrix_origin = ulong2{0, 0}, bool transpose_matrix = false) {   \
    __msl_sg_barrier(MSL_MEM_NONE);                                                                           \
    for (uint i = 0; i < 2; i++) {                                                                            \
      to[__msl_matrix_offset(i, elements_per_row, matrix_origin, transpose_matrix)] = a.elements[i];          \
    }                                                                                                         \
  }
MSL_SIMDGROUP_LOAD_STORE(device)
MSL_SIMDGROUP_LOAD_STORE(threadgroup)

}  // namespace metal
