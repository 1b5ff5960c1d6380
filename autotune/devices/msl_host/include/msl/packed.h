// packed_float3 and the like: vectors without padding, aligned as their element is.
#pragma once

namespace metal {

template <class T, int N>
struct packed_vec {
  T elements[N];

  constexpr packed_vec() : packed_vec(vec<T, N>(T(0))) {}
  constexpr packed_vec(vec<T, N> values) {
    for (int i = 0; i < N; i++) {
      elements[i] = values[i];
    }
  }
  constexpr auto& operator[](int i) { return elements[i]; }
  constexpr T operator[](int i) const { return elements[i]; }
  constexpr T operator[](int i) const constant { return elements[i]; }
  constexpr operator vec<T, N>() const {
    vec<T, N> values = vec<T, N>(T(0));
    for (int i = 0; i < N; i++) {
      values[i] = elements[i];
    }
    return values;
  }
  constexpr operator vec<T, N>() const constant {
    vec<T, N> values = vec<T, N>(T(0));
    for (int i = 0; i < N; i++) {
      values[i] = elements[i];
    }
    return values;
  }
};

}  // namespace metal

#define MSL_PACKED_TYPES(T)                          \
  typedef metal::packed_vec<T, 2> packed_##T##2;     \
  typedef metal::packed_vec<T, 3> packed_##T##3;     \
  typedef metal::packed_vec<T, 4> packed_##T##4;
MSL_PACKED_TYPES(char)
MSL_PACKED_TYPES(uchar)
MSL_PACKED_TYPES(short)
MSL_PACKED_TYPES(ushort)
MSL_PACKED_TYPES(int)
MSL_PACKED_TYPES(uint)
MSL_PACKED_TYPES(long)
MSL_PACKED_TYPES(half)
MSL_PACKED_TYPES(float)
MSL_PACKED_TYPES(bfloat)
