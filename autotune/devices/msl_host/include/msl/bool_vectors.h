// bool2, bool3, bool4. In clang a comparison of vectors gives integers of -1 and 0; Metal gives bools, which become 1 and
// 0 when converted. These classes take a comparison in and behave as Metal's from there. They have no swizzles: such code
// does not compile here. A comparison that is used as a number without passing through one of them is refused by lint.py.
#pragma once

namespace metal {

template <int N>
struct bool_vec;

#define MSL_BOOL_VECTOR(N, ...)                                                     \
  template <>                                                                       \
  struct bool_vec<N> {                                                              \
    bool __VA_ARGS__;                                                               \
    bool_vec() = default;                                                           \
    bool_vec(bool value) {                                                          \
      for (int i = 0; i < N; i++) {                                                 \
        set(i, value);                                                              \
      }                                                                             \
    }                                                                               \
    template <class... Rest, enable_if_t<sizeof...(Rest) + 2 == N, int> = 0>        \
    bool_vec(bool first, bool second, Rest... rest) {                               \
      const bool values[N] = {first, second, bool(rest)...};                        \
      for (int i = 0; i < N; i++) {                                                 \
        set(i, values[i]);                                                          \
      }                                                                             \
    }                                                                               \
    template <class T>                                                              \
    bool_vec(vec<T, N> values) {                                                    \
      for (int i = 0; i < N; i++) {                                                 \
        set(i, values[i] != T(0));                                                  \
      }                                                                             \
    }                                                                               \
    void set(int i, bool value) { (&x)[i] = value; }                                \
    bool operator[](int i) const { return (&x)[i]; }                                \
    thread bool& operator[](int i) thread { return (&x)[i]; }                       \
    template <class T>                                                              \
    operator vec<T, N>() const {                                                    \
      vec<T, N> result = vec<T, N>(T(0));                                           \
      for (int i = 0; i < N; i++) {                                                 \
        result[i] = (&x)[i] ? T(1) : T(0);                                          \
      }                                                                             \
      return result;                                                                \
    }                                                                               \
  };
MSL_BOOL_VECTOR(2, x, y)
MSL_BOOL_VECTOR(3, x, y, z)
MSL_BOOL_VECTOR(4, x, y, z, w)

#define MSL_BOOL_OPERATOR(op, expression)                                          \
  template <int N>                                                                 \
  inline bool_vec<N> operator op(bool_vec<N> a, bool_vec<N> b) {                \
    bool_vec<N> result;                                                            \
    for (int i = 0; i < N; i++) {                                                  \
      result.set(i, expression);                                                   \
    }                                                                              \
    return result;                                                                 \
  }
MSL_BOOL_OPERATOR(&, a[i] && b[i])
MSL_BOOL_OPERATOR(|, a[i] || b[i])
MSL_BOOL_OPERATOR(^, a[i] != b[i])
MSL_BOOL_OPERATOR(&&, a[i] && b[i])
MSL_BOOL_OPERATOR(||, a[i] || b[i])
MSL_BOOL_OPERATOR(==, a[i] == b[i])
MSL_BOOL_OPERATOR(!=, a[i] != b[i])

template <int N>
inline bool_vec<N> operator!(bool_vec<N> a) {
  return a == bool_vec<N>(false);
}

template <int N, class... A>
inline bool_vec<N> make_bool_vec(A... arguments) {
  return bool_vec<N>(arguments...);
}

}  // namespace metal

typedef metal::bool_vec<2> bool2;
typedef metal::bool_vec<3> bool3;
typedef metal::bool_vec<4> bool4;
#define bool2(...) ::metal::make_bool_vec<2>(__VA_ARGS__)
#define bool3(...) ::metal::make_bool_vec<3>(__VA_ARGS__)
#define bool4(...) ::metal::make_bool_vec<4>(__VA_ARGS__)
