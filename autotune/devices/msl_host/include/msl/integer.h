// <metal_integer>, and min, max, abs, clamp for integers. One overload for each type, as Metal declares them, so that a
// call with mixed types is ambiguous here where it is in Metal.
#pragma once

#define MSL_FOR_INTEGERS(X) X(char) X(uchar) X(short) X(ushort) X(int) X(uint) X(long) X(ulong)
#define MSL_FOR_SIGNED(X) X(char) X(short) X(int) X(long)
#define MSL_FOR_UNSIGNED(X) X(uchar) X(ushort) X(uint) X(ulong)

// f(vector) and so on, element by element, from f(scalar).
#define MSL_EACH_1(f)                                                            \
  template <class T, int N>                                                      \
  constexpr vec<T, N> f(vec<T, N> x) {                                           \
    vec<T, N> result = x;                                                        \
    for (int i = 0; i < N; i++) {                                                \
      result[i] = f(T(x[i]));                                                    \
    }                                                                            \
    return result;                                                               \
  }
#define MSL_EACH_2(f)                                                            \
  template <class T, int N>                                                      \
  constexpr vec<T, N> f(vec<T, N> x, vec<T, N> y) {                              \
    vec<T, N> result = x;                                                        \
    for (int i = 0; i < N; i++) {                                                \
      result[i] = f(T(x[i]), T(y[i]));                                           \
    }                                                                            \
    return result;                                                               \
  }
#define MSL_EACH_3(f)                                                            \
  template <class T, int N>                                                      \
  constexpr vec<T, N> f(vec<T, N> x, vec<T, N> y, vec<T, N> z) {                 \
    vec<T, N> result = x;                                                        \
    for (int i = 0; i < N; i++) {                                                \
      result[i] = f(T(x[i]), T(y[i]), T(z[i]));                                  \
    }                                                                            \
    return result;                                                               \
  }

namespace metal {

#define MSL_INTEGER_FUNCTIONS(T)                                                                             \
  constexpr T min(T x, T y) { return y < x ? y : x; }                                                        \
  constexpr T max(T x, T y) { return x < y ? y : x; }                                                        \
  constexpr T min3(T x, T y, T z) { return min(x, min(y, z)); }                                              \
  constexpr T max3(T x, T y, T z) { return max(x, max(y, z)); }                                              \
  constexpr T median3(T x, T y, T z) { return max(min(x, y), min(max(x, y), z)); }                           \
  constexpr T clamp(T x, T low, T high) { return min(max(x, low), high); }                                   \
  constexpr make_unsigned_t<T> absdiff(T x, T y) {                                                           \
    using U = make_unsigned_t<T>;                                                                            \
    return x > y ? U(U(x) - U(y)) : U(U(y) - U(x));                                                          \
  }                                                                                                          \
  constexpr T addsat(T x, T y) {                                                                             \
    T sum = 0;                                                                                               \
    return !__builtin_add_overflow(x, y, &sum) ? sum                                                         \
                                               : (x < T(0) ? numeric_limits<T>::min() : numeric_limits<T>::max()); \
  }                                                                                                          \
  constexpr T subsat(T x, T y) {                                                                             \
    T difference = 0;                                                                                        \
    return !__builtin_sub_overflow(x, y, &difference) ? difference                                           \
           : is_signed_v<T> && y < T(0)               ? numeric_limits<T>::max()                             \
                                                      : numeric_limits<T>::min();                            \
  }                                                                                                          \
  constexpr T hadd(T x, T y) { return T((x & y) + ((x ^ y) >> 1)); }                                         \
  constexpr T rhadd(T x, T y) { return T((x | y) - ((x ^ y) >> 1)); }                                        \
  constexpr T rotate(T x, T count) {                                                                         \
    using U = make_unsigned_t<T>;                                                                            \
    constexpr int bits = sizeof(T) * 8;                                                                      \
    const int by = int(U(count) % bits);                                                                     \
    return by == 0 ? x : T(U(U(x) << by) | U(U(x) >> (bits - by)));                                          \
  }                                                                                                          \
  constexpr T popcount(T x) { return T(__builtin_popcountl(ulong(make_unsigned_t<T>(x)))); }                \
  constexpr T clz(T x) {                                                                                     \
    constexpr int bits = sizeof(T) * 8;                                                                      \
    return x == T(0) ? T(bits) : T(__builtin_clzl(ulong(make_unsigned_t<T>(x))) - (64 - bits));             \
  }                                                                                                          \
  constexpr T ctz(T x) { return x == T(0) ? T(sizeof(T) * 8) : T(__builtin_ctzl(ulong(x))); }               \
  constexpr T reverse_bits(T x) {                                                                            \
    using U = make_unsigned_t<T>;                                                                            \
    U result = 0;                                                                                            \
    for (uint i = 0; i < sizeof(T) * 8; i++) {                                                               \
      result = U(U(result << 1) | U((U(x) >> i) & 1u));                                                      \
    }                                                                                                        \
    return T(result);                                                                                        \
  }                                                                                                          \
  constexpr T extract_bits(T x, uint offset, uint bits) {                                                    \
    using U = make_unsigned_t<T>;                                                                            \
    constexpr uint width = sizeof(T) * 8;                                                                    \
    return bits == 0 ? T(0) : T(T(U(x) << (width - bits - offset)) >> (width - bits));                       \
  }                                                                                                          \
  constexpr T insert_bits(T base, T insert, uint offset, uint bits) {                                        \
    using U = make_unsigned_t<T>;                                                                            \
    const U mask = U((bits >= sizeof(T) * 8 ? U(~U(0)) : U((U(1) << bits) - 1u)) << offset);                 \
    return T(U(U(base) & U(~mask)) | U(U(U(insert) << offset) & mask));                                      \
  }
MSL_FOR_INTEGERS(MSL_INTEGER_FUNCTIONS)

#define MSL_ABS_SIGNED(T) \
  constexpr T abs(T x) { return x < T(0) ? T(-x) : x; }
#define MSL_ABS_UNSIGNED(T) \
  constexpr T abs(T x) { return x; }
MSL_FOR_SIGNED(MSL_ABS_SIGNED)
MSL_FOR_UNSIGNED(MSL_ABS_UNSIGNED)

constexpr char mulhi(char x, char y) { return char((short(x) * short(y)) >> 8); }
constexpr uchar mulhi(uchar x, uchar y) { return uchar((ushort(x) * ushort(y)) >> 8); }
constexpr short mulhi(short x, short y) { return short((int(x) * int(y)) >> 16); }
constexpr ushort mulhi(ushort x, ushort y) { return ushort((uint(x) * uint(y)) >> 16); }
constexpr int mulhi(int x, int y) { return int((long(x) * long(y)) >> 32); }
constexpr uint mulhi(uint x, uint y) { return uint((ulong(x) * ulong(y)) >> 32); }
constexpr long mulhi(long x, long y) { return long((__int128(x) * __int128(y)) >> 64); }
constexpr ulong mulhi(ulong x, ulong y) { return ulong(((unsigned __int128)(x) * (unsigned __int128)(y)) >> 64); }

constexpr int mul24(int x, int y) { return int((x << 8) >> 8) * int((y << 8) >> 8); }
constexpr uint mul24(uint x, uint y) { return (x & 0xffffffu) * (y & 0xffffffu); }
constexpr int mad24(int x, int y, int z) { return mul24(x, y) + z; }
constexpr uint mad24(uint x, uint y, uint z) { return mul24(x, y) + z; }

#define MSL_MADHI(T) \
  constexpr T madhi(T x, T y, T z) { return T(mulhi(x, y) + z); }
MSL_FOR_INTEGERS(MSL_MADHI)

MSL_EACH_1(popcount)
MSL_EACH_1(clz)
MSL_EACH_1(ctz)
MSL_EACH_1(reverse_bits)
MSL_EACH_2(addsat)
MSL_EACH_2(subsat)
MSL_EACH_2(hadd)
MSL_EACH_2(rhadd)
MSL_EACH_2(rotate)
MSL_EACH_2(mulhi)

}  // namespace metal
