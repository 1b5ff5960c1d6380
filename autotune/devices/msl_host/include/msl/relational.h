// <metal_relational>.
#pragma once

namespace metal {

#define MSL_CLASSIFY(name, builtin)                                              \
  inline bool name(float x) { return builtin(x); }                               \
  inline bool name(half x) { return builtin(float(x)); }                         \
  template <class T, int N>                                                      \
  inline bool_vec<N> name(vec<T, N> x) {                                         \
    bool_vec<N> result;                                                          \
    for (int i = 0; i < N; i++) {                                                \
      result.set(i, name(T(x[i])));                                              \
    }                                                                            \
    return result;                                                               \
  }
MSL_CLASSIFY(isnan, __builtin_isnan)
MSL_CLASSIFY(isinf, __builtin_isinf)
MSL_CLASSIFY(isfinite, __builtin_isfinite)
MSL_CLASSIFY(signbit, __builtin_signbit)

inline bool isnormal(float x) { return __builtin_isnormal(x); }
// A half that is subnormal is a normal float.
inline bool isnormal(half x) { return isfinite(x) && abs(x) >= HALF_MIN; }
inline bool isordered(float x, float y) { return !isnan(x) && !isnan(y); }
inline bool isordered(half x, half y) { return !isnan(x) && !isnan(y); }
inline bool isunordered(float x, float y) { return !isordered(x, y); }
inline bool isunordered(half x, half y) { return !isordered(x, y); }

template <class T>
constexpr T select(T otherwise, T then, bool condition) {
  return condition ? then : otherwise;
}
template <class T, int N>
inline vec<T, N> select(vec<T, N> otherwise, vec<T, N> then, bool_vec<N> condition) {
  vec<T, N> result = otherwise;
  for (int i = 0; i < N; i++) {
    result[i] = condition[i] ? then[i] : otherwise[i];
  }
  return result;
}
// A comparison is a vector of integers here, not yet a bool_vec.
template <class T, class C, int N>
inline vec<T, N> select(vec<T, N> otherwise, vec<T, N> then, vec<C, N> condition) {
  return select(otherwise, then, bool_vec<N>(condition));
}

template <int N>
inline bool all(bool_vec<N> x) {
  for (int i = 0; i < N; i++) {
    if (!x[i]) {
      return false;
    }
  }
  return true;
}
template <int N>
inline bool any(bool_vec<N> x) {
  for (int i = 0; i < N; i++) {
    if (x[i]) {
      return true;
    }
  }
  return false;
}
inline bool all(bool x) { return x; }
inline bool any(bool x) { return x; }
template <class T, int N>
inline bool all(vec<T, N> x) {
  return all(bool_vec<N>(x));
}
template <class T, int N>
inline bool any(vec<T, N> x) {
  return any(bool_vec<N>(x));
}

}  // namespace metal
