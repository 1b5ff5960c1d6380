// <metal_compute> and what else has no better place: uniform<T>, array<T, N>, the scopes of cooperative operations.
#pragma once

namespace metal {

template <class T>
struct uniform {
  T value;
  constexpr uniform(T x) : value(x) {}
  constexpr operator T() const { return value; }
};
template <class T>
constexpr uniform<T> make_uniform(T x) {
  return uniform<T>(x);
}

template <class T, size_t N>
struct array {
  T elements[N];
  constexpr thread T& operator[](size_t i) thread { return elements[i]; }
  constexpr const thread T& operator[](size_t i) const thread { return elements[i]; }
  constexpr device T& operator[](size_t i) device { return elements[i]; }
  constexpr const constant T& operator[](size_t i) const constant { return elements[i]; }
  constexpr size_t size() const { return N; }
};

template <int N>
struct execution_simdgroups {
  static constant constexpr const int size = N;
};
using execution_simdgroup = execution_simdgroups<1>;
struct execution_thread {};

}  // namespace metal
