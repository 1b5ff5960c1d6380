// <metal_geometric>.
#pragma once

namespace metal {

template <class T, int N>
constexpr T dot(vec<T, N> x, vec<T, N> y) {
  T sum = x[0] * y[0];
  for (int i = 1; i < N; i++) {
    sum += x[i] * y[i];
  }
  return sum;
}
template <class T>
constexpr vec<T, 3> cross(vec<T, 3> x, vec<T, 3> y) {
  return x.yzx * y.zxy - x.zxy * y.yzx;
}
template <class T, int N>
inline T length_squared(vec<T, N> x) {
  return dot(x, x);
}
template <class T, int N>
inline T length(vec<T, N> x) {
  return sqrt(dot(x, x));
}
template <class T, int N>
inline T distance_squared(vec<T, N> x, vec<T, N> y) {
  return length_squared(x - y);
}
template <class T, int N>
inline T distance(vec<T, N> x, vec<T, N> y) {
  return length(x - y);
}
template <class T, int N>
inline vec<T, N> normalize(vec<T, N> x) {
  return x * rsqrt(dot(x, x));
}

}  // namespace metal
