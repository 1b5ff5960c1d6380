// <metal_math>. Everything is computed in float by the C library and rounded once to half where the argument is half:
// more exact than Metal's, whose own bounds are units in the last place, so that tests must not rely on the last bits.
// fast:: and precise:: are the same functions. bfloat has none of its own, as in Metal; MLX's headers add them.
#pragma once

namespace msl_host {

inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float fract(float x) {
  const float rest = x - __builtin_floorf(x);
  return rest < 1.0f ? rest : 0x1.fffffep-1f;
}
// Arguments are reduced before the multiplication with pi: sinpi(1) is 0.
inline float sinpi(float x) {
  const float r = x - 2.0f * __builtin_rintf(x * 0.5f);
  return __builtin_fabsf(r) == 1.0f ? 0.0f : __builtin_sinf(M_PI_F * r);
}
inline float cospi(float x) {
  const float r = __builtin_fabsf(x - 2.0f * __builtin_rintf(x * 0.5f));
  return r == 0.5f ? 0.0f : __builtin_cosf(M_PI_F * r);
}
inline float tanpi(float x) { return sinpi(x) / cospi(x); }

}  // namespace msl_host

#define MSL_FOR_LIBRARY_1(X) \
  X(acos) X(acosh) X(asin) X(asinh) X(atan) X(atanh) X(ceil) X(cos) X(cosh) X(exp) X(exp2) X(fabs) X(floor) X(log) \
  X(log10) X(log2) X(rint) X(round) X(sin) X(sinh) X(sqrt) X(tan) X(tanh) X(trunc)
#define MSL_FOR_LIBRARY_2(X) X(atan2) X(copysign) X(fdim) X(fmax) X(fmin) X(fmod) X(nextafter) X(pow)
#define MSL_FOR_OWN_1(X) X(rsqrt) X(fract) X(sinpi) X(cospi) X(tanpi)

#define MSL_MATH_1(name, expression)                      \
  inline float name(float x) { return expression; }       \
  inline half name(half x) { return half(name(float(x))); } \
  MSL_EACH_1(name)
#define MSL_MATH_2(name, expression)                      \
  inline float name(float x, float y) { return expression; } \
  inline half name(half x, half y) { return half(name(float(x), float(y))); } \
  MSL_EACH_2(name)
#define MSL_MATH_3(name, expression)                      \
  inline float name(float x, float y, float z) { return expression; } \
  inline half name(half x, half y, half z) { return half(name(float(x), float(y), float(z))); } \
  MSL_EACH_3(name)

namespace metal {

#define MSL_LIBRARY_1(name) MSL_MATH_1(name, __builtin_##name##f(x))
#define MSL_LIBRARY_2(name) MSL_MATH_2(name, __builtin_##name##f(x, y))
#define MSL_OWN_1(name) MSL_MATH_1(name, msl_host::name(x))
MSL_FOR_LIBRARY_1(MSL_LIBRARY_1)
MSL_FOR_LIBRARY_2(MSL_LIBRARY_2)
MSL_FOR_OWN_1(MSL_OWN_1)
MSL_MATH_1(exp10, __builtin_powf(10.0f, x))
MSL_MATH_2(powr, __builtin_powf(x, y))
MSL_MATH_2(divide, x / y)
MSL_MATH_3(fma, __builtin_fmaf(x, y, z))

inline float abs(float x) { return __builtin_fabsf(x); }
inline half abs(half x) { return half(__builtin_fabsf(float(x))); }
inline float min(float x, float y) { return __builtin_fminf(x, y); }
inline half min(half x, half y) { return half(__builtin_fminf(float(x), float(y))); }
inline float max(float x, float y) { return __builtin_fmaxf(x, y); }
inline half max(half x, half y) { return half(__builtin_fmaxf(float(x), float(y))); }

#define MSL_FLOAT_ORDER(T)                                                            \
  inline T fmin3(T x, T y, T z) { return fmin(x, fmin(y, z)); }                       \
  inline T fmax3(T x, T y, T z) { return fmax(x, fmax(y, z)); }                       \
  inline T fmedian3(T x, T y, T z) { return fmax(fmin(x, y), fmin(fmax(x, y), z)); }  \
  inline T min3(T x, T y, T z) { return fmin3(x, y, z); }                             \
  inline T max3(T x, T y, T z) { return fmax3(x, y, z); }                             \
  inline T median3(T x, T y, T z) { return fmedian3(x, y, z); }                       \
  inline T clamp(T x, T low, T high) { return fmin(fmax(x, low), high); }             \
  inline T saturate(T x) { return clamp(x, T(0), T(1)); }                             \
  inline T mix(T x, T y, T a) { return x + (y - x) * a; }                             \
  inline T step(T edge, T x) { return x < edge ? T(0) : T(1); }                       \
  inline T smoothstep(T low, T high, T x) {                                           \
    const T t = clamp((x - low) / (high - low), T(0), T(1));                          \
    return t * t * (T(3) - T(2) * t);                                                 \
  }                                                                                   \
  inline T sign(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : x == T(0) ? x : T(0); } \
  inline T ldexp(T x, int k) { return T(__builtin_ldexpf(float(x), k)); }             \
  inline int ilogb(T x) { return __builtin_ilogbf(float(x)); }                        \
  inline T frexp(T x, thread int& exponent) {                                         \
    int e = 0;                                                                        \
    const float mantissa = __builtin_frexpf(float(x), &e);                            \
    exponent = e;                                                                     \
    return T(mantissa);                                                               \
  }                                                                                   \
  inline T modf(T x, thread T& whole) {                                               \
    whole = trunc(x);                                                                 \
    return __builtin_isinf(float(x)) ? copysign(T(0), x) : copysign(x - whole, x);    \
  }                                                                                   \
  inline T sincos(T x, thread T& cosine) {                                            \
    cosine = cos(x);                                                                  \
    return sin(x);                                                                    \
  }
MSL_FLOAT_ORDER(float)
MSL_FLOAT_ORDER(half)

MSL_EACH_1(abs)
MSL_EACH_1(sign)
MSL_EACH_1(saturate)
MSL_EACH_2(min)
MSL_EACH_2(max)
MSL_EACH_2(step)
MSL_EACH_3(min3)
MSL_EACH_3(max3)
MSL_EACH_3(median3)
MSL_EACH_3(clamp)
MSL_EACH_3(mix)
MSL_EACH_3(smoothstep)

template <class T, int N>
inline vec<T, N> min(vec<T, N> x, T y) {
  return min(x, vec<T, N>(y));
}
template <class T, int N>
inline vec<T, N> max(vec<T, N> x, T y) {
  return max(x, vec<T, N>(y));
}
template <class T, int N>
inline vec<T, N> clamp(vec<T, N> x, T low, T high) {
  return clamp(x, vec<T, N>(low), vec<T, N>(high));
}
template <class T, int N>
inline vec<T, N> mix(vec<T, N> x, vec<T, N> y, T a) {
  return mix(x, y, vec<T, N>(a));
}
template <class T, int N>
inline vec<T, N> ldexp(vec<T, N> x, vec<int, N> k) {
  vec<T, N> result = x;
  for (int i = 0; i < N; i++) {
    result[i] = ldexp(T(x[i]), k[i]);
  }
  return result;
}

#define MSL_USE(name) using metal::name;
namespace fast {
MSL_FOR_LIBRARY_1(MSL_USE)
MSL_FOR_LIBRARY_2(MSL_USE)
MSL_FOR_OWN_1(MSL_USE)
using metal::abs, metal::clamp, metal::divide, metal::exp10, metal::fma, metal::fmax3, metal::fmedian3, metal::fmin3,
    metal::frexp, metal::ldexp, metal::max, metal::max3, metal::median3, metal::min, metal::min3, metal::mix,
    metal::modf, metal::powr, metal::saturate, metal::sign, metal::sincos, metal::smoothstep, metal::step;
}  // namespace fast
namespace precise {
MSL_FOR_LIBRARY_1(MSL_USE)
MSL_FOR_LIBRARY_2(MSL_USE)
MSL_FOR_OWN_1(MSL_USE)
using metal::abs, metal::clamp, metal::divide, metal::exp10, metal::fma, metal::fmax3, metal::fmedian3, metal::fmin3,
    metal::frexp, metal::ldexp, metal::max, metal::max3, metal::median3, metal::min, metal::min3, metal::mix,
    metal::modf, metal::powr, metal::saturate, metal::sign, metal::sincos, metal::smoothstep, metal::step;
}  // namespace precise

}  // namespace metal
