// MetalPerformancePrimitives' matmul2d on operands in registers (cooperative tensors), for one simdgroup.
//
// Operands are laid out as they are stored, before transposition. Sums are in float (int32 for integers) and rounded once;
// relaxed precision is not imitated. Facts about the interface: MPPTensorOpsMatMul2d.h of the macOS 26 SDK.
#pragma once

#include "metal.h"
#include "tensor_layouts.h"

namespace metal {

static constant constexpr const size_t dynamic_extent = size_t(-1);

}  // namespace metal

namespace mpp {
namespace tensor_ops {

struct matmul2d_descriptor {
  enum class mode { multiply, multiply_accumulate };

  int m, n, k;
  bool transpose_left, transpose_right, relaxed_precision;
  mode matmul_mode;

  constexpr matmul2d_descriptor(int m, int n, int k = int(metal::dynamic_extent), bool transpose_left = false,
                                bool transpose_right = false, bool relaxed_precision = false,
                                mode matmul_mode = mode::multiply)
      : m(m),
        n(n),
        k(k),
        transpose_left(transpose_left),
        transpose_right(transpose_right),
        relaxed_precision(relaxed_precision),
        matmul_mode(matmul_mode) {}

  // A descriptor is a template argument in Metal; clang's dialect is C++17, where it has to be a number for that.
  constexpr operator ulong() const {
    return ulong(m & 0xffff) | ulong(n & 0xffff) << 16 | ulong(k & 0xffff) << 32 | ulong(transpose_left) << 48 |
           ulong(transpose_right) << 49 | ulong(relaxed_precision) << 50 |
           ulong(matmul_mode == mode::multiply_accumulate) << 51;
  }
};

}  // namespace tensor_ops
}  // namespace mpp

namespace metal {

// A Rows x Columns matrix spread over a simdgroup; tensor_layouts.h says which lane holds what.
template <class T, int Rows, int Columns>
struct cooperative_tensor {
  using element_type = T;
  using layout = msl_host::tensor_layout<Rows, Columns>;

  T elements[layout::capacity];

  ushort get_capacity() const { return layout::capacity; }
  bool is_valid_element(int i) const { return i >= 0 && i < layout::capacity && layout::valid(i); }
  bool get_mask(int i) const { return is_valid_element(i); }
  thread T& operator[](int i) thread {
    if (!is_valid_element(i)) {
      __msl_fail(MSL_FAIL_TENSOR_ELEMENT);
    }
    return elements[i];
  }
  T operator[](int i) const thread {
    if (!is_valid_element(i)) {
      __msl_fail(MSL_FAIL_TENSOR_ELEMENT);
    }
    return elements[i];
  }
  // Column and row of the lane's element i.
  array<int, 2> get_multidimensional_index(int i) const {
    const msl_host::tensor_place place = layout::place(msl_host::lane_index(), i);
    array<int, 2> index;
    index.elements[0] = place.column;
    index.elements[1] = place.row;
    return index;
  }
};

}  // namespace metal

namespace msl_host {

// What a lane lays down for a product.
template <class A, class B, int LeftCount, int RightCount>
struct tensor_operands {
  A left[LeftCount];
  B right[RightCount];
};

// The combinations of element types in MPPTensorOpsMatMul2d.h: float operands need a float result; a half or bfloat result
// needs an operand of its type; integers give int32 or float.
template <class A, class B, class C>
constexpr bool product_exists() {
  using namespace metal;
  if constexpr (is_same_v<C, float>) {
    return true;
  } else if constexpr (is_same_v<C, int>) {
    return is_integral_v<A> && is_integral_v<B>;
  } else {
    return (is_same_v<A, C> || is_same_v<B, C>)&&!is_same_v<A, float> && !is_same_v<B, float>;
  }
}

}  // namespace msl_host

namespace mpp {
namespace tensor_ops {

template <ulong Descriptor, class Scope>
struct matmul2d {
  static_assert(metal::is_same_v<Scope, metal::execution_simdgroup>,
                "matmul2d: the host has the scope of one simdgroup only");

  static constant constexpr const int m = Descriptor & 0xffff;
  static constant constexpr const int n = Descriptor >> 16 & 0xffff;
  static constant constexpr const int k = Descriptor >> 32 & 0xffff;
  static constant constexpr const bool transpose_left = Descriptor >> 48 & 1;
  static constant constexpr const bool transpose_right = Descriptor >> 49 & 1;
  static constant constexpr const bool accumulate = Descriptor >> 51 & 1;
  static_assert((m == 16 || m == 32) && (n == 16 || n == 32) && (k == 16 || k == 32),
                "matmul2d: m, n and k must be 16 or 32 where both inputs are cooperative tensors");
  static_assert(m == 32 || n == 32 || k == 32,
                "matmul2d: one of m, n and k must be 32 where both inputs are cooperative tensors");

  // The operands as stored, and the result.
  template <class A, class B, class C, class... Rest>
  using cooperative_tensor_left_input_t =
      metal::cooperative_tensor<A, transpose_left ? k : m, transpose_left ? m : k>;
  template <class A, class B, class C, class... Rest>
  using cooperative_tensor_right_input_t =
      metal::cooperative_tensor<B, transpose_right ? n : k, transpose_right ? k : n>;
  template <class Left, class Right, class C, class... Rest>
  using cooperative_tensor_destination_t = metal::cooperative_tensor<C, m, n>;

  template <class A, class B, class C>
  cooperative_tensor_left_input_t<A, B, C> get_left_input_cooperative_tensor() const {
    static_assert(msl_host::product_exists<A, B, C>(), "matmul2d: no such combination of element types");
    return cooperative_tensor_left_input_t<A, B, C>();
  }
  template <class A, class B, class C>
  cooperative_tensor_right_input_t<A, B, C> get_right_input_cooperative_tensor() const {
    static_assert(msl_host::product_exists<A, B, C>(), "matmul2d: no such combination of element types");
    return cooperative_tensor_right_input_t<A, B, C>();
  }
  template <class Left, class Right, class C>
  cooperative_tensor_destination_t<Left, Right, C> get_destination_cooperative_tensor() const {
    return cooperative_tensor_destination_t<Left, Right, C>();
  }

  template <class A, class B, class C, int Rows, int Columns, int RightRows, int RightColumns>
  MSL_COLLECTIVE void run(thread metal::cooperative_tensor<A, Rows, Columns>& left,
                          thread metal::cooperative_tensor<B, RightRows, RightColumns>& right,
                          thread metal::cooperative_tensor<C, m, n>& destination) const {
    using Left = msl_host::tensor_layout<Rows, Columns>;
    using Right = msl_host::tensor_layout<RightRows, RightColumns>;
    using Destination = msl_host::tensor_layout<m, n>;
    static_assert(Rows == (transpose_left ? k : m) && Columns == (transpose_left ? m : k),
                  "matmul2d: the left operand has another shape");
    static_assert(RightRows == (transpose_right ? n : k) && RightColumns == (transpose_right ? k : n),
                  "matmul2d: the right operand has another shape");

    using Operands = msl_host::tensor_operands<A, B, Left::count, Right::count>;
    Operands mine;
    for (int i = 0; i < Left::count; i++) {
      mine.left[i] = left.elements[Left::element(i)];
    }
    for (int i = 0; i < Right::count; i++) {
      mine.right[i] = right.elements[Right::element(i)];
    }
    static_assert(sizeof(mine) <= MSL_SLOT, "matmul2d: the operands do not fit a slot");
    const ulong slots = __msl_xchg((ulong)&mine, sizeof(mine), 0);
    if (__msl_active() != ~0u) {
      __msl_fail(MSL_FAIL_PARTIAL_SIMDGROUP);
    }
    const auto theirs = [slots](uint lane) {
      return reinterpret_cast<const device Operands*>(slots + ulong(lane) * MSL_SLOT);
    };

    using Sum = metal::conditional_t<metal::is_same_v<C, int>, int, float>;
    const uint lane = msl_host::lane_index();
    for (int i = 0; i < Destination::count; i++) {
      const msl_host::tensor_place to = Destination::place(lane, Destination::element(i));
      thread C& result = destination.elements[Destination::element(i)];
      Sum sum = accumulate ? Sum(result) : Sum(0);
      for (int at = 0; at < k; at++) {
        const auto a = transpose_left ? Left::holder(at, to.row) : Left::holder(to.row, at);
        const auto b = transpose_right ? Right::holder(to.column, at) : Right::holder(at, to.column);
        sum += Sum(theirs(a.lane)->left[a.index]) * Sum(theirs(b.lane)->right[b.index]);
      }
      result = C(sum);
    }
  }
};

}  // namespace tensor_ops
}  // namespace mpp
