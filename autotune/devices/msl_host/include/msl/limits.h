// <metal_limits>.
#pragma once

namespace metal {

template <class T>
struct numeric_limits {
  static constant constexpr const bool is_specialized = false;
};

#define MSL_INTEGER_LIMITS(T, LOWEST, HIGHEST, DIGITS)                           \
  template <>                                                                    \
  struct numeric_limits<T> {                                                     \
    static constant constexpr const bool is_specialized = true;                  \
    static constant constexpr const bool is_integer = true;                      \
    static constant constexpr const bool is_signed = (LOWEST) != 0;              \
    static constant constexpr const int digits = DIGITS;                         \
    static constexpr T min() { return (T)(LOWEST); }                             \
    static constexpr T lowest() { return (T)(LOWEST); }                          \
    static constexpr T max() { return (T)(HIGHEST); }                            \
    static constexpr T epsilon() { return T(0); }                                \
    static constexpr T infinity() { return T(0); }                               \
    static constexpr T quiet_NaN() { return T(0); }                              \
  };
MSL_INTEGER_LIMITS(bool, 0, 1, 1)
MSL_INTEGER_LIMITS(char, SCHAR_MIN, SCHAR_MAX, 7)
MSL_INTEGER_LIMITS(uchar, 0, UCHAR_MAX, 8)
MSL_INTEGER_LIMITS(short, SHRT_MIN, SHRT_MAX, 15)
MSL_INTEGER_LIMITS(ushort, 0, USHRT_MAX, 16)
MSL_INTEGER_LIMITS(int, INT_MIN, INT_MAX, 31)
MSL_INTEGER_LIMITS(uint, 0, UINT_MAX, 32)
MSL_INTEGER_LIMITS(long, LONG_MIN, LONG_MAX, 63)
MSL_INTEGER_LIMITS(ulong, 0, ULONG_MAX, 64)

#define MSL_FLOAT_LIMITS(T, SMALLEST, LARGEST, EPSILON, DIGITS)                  \
  template <>                                                                    \
  struct numeric_limits<T> {                                                     \
    static constant constexpr const bool is_specialized = true;                  \
    static constant constexpr const bool is_integer = false;                     \
    static constant constexpr const bool is_signed = true;                       \
    static constant constexpr const int digits = DIGITS;                         \
    static constexpr T min() { return (T)(SMALLEST); }                           \
    static constexpr T lowest() { return (T)(-(LARGEST)); }                      \
    static constexpr T max() { return (T)(LARGEST); }                            \
    static constexpr T epsilon() { return (T)(EPSILON); }                        \
    static constexpr T infinity() { return (T)__builtin_inff(); }                \
    static constexpr T quiet_NaN() { return (T)__builtin_nanf(""); }             \
  };
MSL_FLOAT_LIMITS(float, FLT_MIN, FLT_MAX, FLT_EPSILON, 24)
MSL_FLOAT_LIMITS(half, 0x1.0p-14f, 65504.0f, 0x1.0p-10f, 11)
MSL_FLOAT_LIMITS(bfloat, 0x1.0p-126f, 0x1.fep127f, 0x1.0p-7f, 8)

}  // namespace metal
