// vec<T, N>: clang's extended vectors, with swizzles, element-wise operators and Metal's sizes (three elements take the
// room of four). What clang lacks is a constructor that takes several arguments: `float4(v.xy, 0, 1)`. Macros below, and
// translate.py where a macro cannot, turn those into make_vec.
#pragma once

namespace metal {

template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));

}  // namespace metal

namespace msl_host {

template <class T>
struct vector_of {
  static constant constexpr const int size = 1;
  using element = T;
};
template <class T, int N>
struct vector_of<T __attribute__((ext_vector_type(N)))> {
  static constant constexpr const int size = N;
  using element = T;
};
template <class T>
static constant constexpr const int size_of_vector = vector_of<T>::size;
template <class T>
static constant constexpr const bool is_vector = size_of_vector<T> != 1;
template <class T>
using element_of = typename vector_of<T>::element;

// static_cast, and the two conversions that clang does not have: half to bfloat and back, which go through float as
// Metal's do.
template <class To, class From>
constexpr To cast(From value) {
  using namespace metal;
  constexpr bool to_bfloat = is_same_v<decay_t<To>, bfloat> && is_same_v<decay_t<From>, half>;
  constexpr bool to_half = is_same_v<decay_t<To>, half> && is_same_v<decay_t<From>, bfloat>;
  if constexpr (to_bfloat || to_half) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class V, class A>
constexpr void append(thread V& vector, thread int& at, A argument) {
  if constexpr (is_vector<A>) {
    for (int i = 0; i < size_of_vector<A>; i++) {
      vector[at++] = cast<element_of<V>>(argument[i]);
    }
  } else {
    vector[at++] = cast<element_of<V>>(argument);
  }
}

}  // namespace msl_host

namespace metal {

template <class T, int N>
constexpr vec<T, N> make_vec() {
  return vec<T, N>(T(0));
}

template <class T, int N, class A>
constexpr vec<T, N> make_vec(A a) {
  if constexpr (msl_host::is_vector<A>) {
    static_assert(msl_host::size_of_vector<A> == N, "vector constructor: the vectors differ in length");
    if constexpr (is_same_v<T, bfloat> || is_same_v<msl_host::element_of<A>, bfloat>) {
      vec<T, N> result = vec<T, N>(T(0));
      int at = 0;
      msl_host::append(result, at, a);
      return result;
    } else {
      return __builtin_convertvector(a, vec<T, N>);
    }
  } else if constexpr (is_convertible_v<A, vec<T, N>> && !is_arithmetic_v<A>) {
    return static_cast<vec<T, N>>(a);
  } else {
    return vec<T, N>(msl_host::cast<T>(a));
  }
}

template <class T, int N, class A, class B, class... Rest>
constexpr vec<T, N> make_vec(A a, B b, Rest... rest) {
  static_assert(msl_host::size_of_vector<A> + msl_host::size_of_vector<B> +
                        (0 + ... + msl_host::size_of_vector<Rest>) == N,
                "vector constructor: wrong number of elements");
  if constexpr (2 + sizeof...(Rest) == N) {
    return vec<T, N>{msl_host::cast<T>(a), msl_host::cast<T>(b), msl_host::cast<T>(rest)...};
  } else {
    vec<T, N> result = vec<T, N>(T(0));
    int at = 0;
    msl_host::append(result, at, a);
    msl_host::append(result, at, b);
    (msl_host::append(result, at, rest), ...);
    return result;
  }
}

}  // namespace metal

namespace msl_host {

// V(arguments...) for a V that may be a vector: what an alias of a vector type is called with.
template <class V, class... A>
constexpr V construct(A... arguments) {
  if constexpr (is_vector<V>) {
    return metal::make_vec<element_of<V>, size_of_vector<V>>(arguments...);
  } else {
    return V(arguments...);
  }
}

}  // namespace msl_host

#define MSL_VECTOR_TYPES(T)          \
  typedef metal::vec<T, 2> T##2;     \
  typedef metal::vec<T, 3> T##3;     \
  typedef metal::vec<T, 4> T##4;
MSL_VECTOR_TYPES(char)
MSL_VECTOR_TYPES(uchar)
MSL_VECTOR_TYPES(short)
MSL_VECTOR_TYPES(ushort)
MSL_VECTOR_TYPES(int)
MSL_VECTOR_TYPES(uint)
MSL_VECTOR_TYPES(long)
MSL_VECTOR_TYPES(ulong)
MSL_VECTOR_TYPES(half)
MSL_VECTOR_TYPES(float)
MSL_VECTOR_TYPES(bfloat)

namespace metal {
using ::char2, ::char3, ::char4, ::uchar2, ::uchar3, ::uchar4;
using ::short2, ::short3, ::short4, ::ushort2, ::ushort3, ::ushort4;
using ::int2, ::int3, ::int4, ::uint2, ::uint3, ::uint4;
using ::long2, ::long3, ::long4, ::ulong2, ::ulong3, ::ulong4;
using ::half2, ::half3, ::half4, ::float2, ::float3, ::float4, ::bfloat2, ::bfloat3, ::bfloat4;
}  // namespace metal

// A macro that takes arguments leaves the bare word, which is the type, alone.
#define char2(...) ::metal::make_vec<char, 2>(__VA_ARGS__)
#define char3(...) ::metal::make_vec<char, 3>(__VA_ARGS__)
#define char4(...) ::metal::make_vec<char, 4>(__VA_ARGS__)
#define uchar2(...) ::metal::make_vec<uchar, 2>(__VA_ARGS__)
#define uchar3(...) ::metal::make_vec<uchar, 3>(__VA_ARGS__)
#define uchar4(...) ::metal::make_vec<uchar, 4>(__VA_ARGS__)
#define short2(...) ::metal::make_vec<short, 2>(__VA_ARGS__)
#define short3(...) ::metal::make_vec<short, 3>(__VA_ARGS__)
#define short4(...) ::metal::make_vec<short, 4>(__VA_ARGS__)
#define ushort2(...) ::metal::make_vec<ushort, 2>(__VA_ARGS__)
#define ushort3(...) ::metal::make_vec<ushort, 3>(__VA_ARGS__)
#define ushort4(...) ::metal::make_vec<ushort, 4>(__VA_ARGS__)
#define int2(...) ::metal::make_vec<int, 2>(__VA_ARGS__)
#define int3(...) ::metal::make_vec<int, 3>(__VA_ARGS__)
#define int4(...) ::metal::make_vec<int, 4>(__VA_ARGS__)
#define uint2(...) ::metal::make_vec<uint, 2>(__VA_ARGS__)
#define uint3(...) ::metal::make_vec<uint, 3>(__VA_ARGS__)
#define uint4(...) ::metal::make_vec<uint, 4>(__VA_ARGS__)
#define long2(...) ::metal::make_vec<long, 2>(__VA_ARGS__)
#define long3(...) ::metal::make_vec<long, 3>(__VA_ARGS__)
#define long4(...) ::metal::make_vec<long, 4>(__VA_ARGS__)
#define ulong2(...) ::metal::make_vec<ulong, 2>(__VA_ARGS__)
#define ulong3(...) ::metal::make_vec<ulong, 3>(__VA_ARGS__)
#define ulong4(...) ::metal::make_vec<ulong, 4>(__VA_ARGS__)
#define half2(...) ::metal::make_vec<half, 2>(__VA_ARGS__)
#define half3(...) ::metal::make_vec<half, 3>(__VA_ARGS__)
#define half4(...) ::metal::make_vec<half, 4>(__VA_ARGS__)
#define float2(...) ::metal::make_vec<float, 2>(__VA_ARGS__)
#define float3(...) ::metal::make_vec<float, 3>(__VA_ARGS__)
#define float4(...) ::metal::make_vec<float, 4>(__VA_ARGS__)
#define bfloat2(...) ::metal::make_vec<bfloat, 2>(__VA_ARGS__)
#define bfloat3(...) ::metal::make_vec<bfloat, 3>(__VA_ARGS__)
#define bfloat4(...) ::metal::make_vec<bfloat, 4>(__VA_ARGS__)
