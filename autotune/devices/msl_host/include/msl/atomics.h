// <metal_atomic>. The accesses are clang's atomic builtins, sequentially consistent whatever order is asked for, which
// is never weaker; the checker hears of each access but does not treat it as one that can race.
#pragma once

namespace metal {

template <class T>
struct atomic {
  static_assert(is_same_v<T, int> || is_same_v<T, uint> || is_same_v<T, bool> || is_same_v<T, ulong> ||
                    is_same_v<T, float>,
                "Metal has atomic<int>, <uint>, <bool>, <ulong> and <float>");
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_bool = atomic<bool>;
using atomic_ulong = atomic<ulong>;
using atomic_float = atomic<float>;

}  // namespace metal

namespace msl_host {

// Which operations Metal has for which type: all on 32-bit integers; exchange, addition and subtraction on floats;
// minimum and maximum on 64 bits.
template <class T>
static constant constexpr const bool has_bitwise = metal::is_same_v<T, int> || metal::is_same_v<T, uint>;
template <class T>
static constant constexpr const bool has_sum = has_bitwise<T> || metal::is_same_v<T, float>;
template <class T>
static constant constexpr const bool has_order = has_bitwise<T> || metal::is_same_v<T, ulong>;

// The integer that a value is exchanged as.
template <class T>
using word_of = metal::conditional_t<sizeof(T) == 8, ulong, metal::conditional_t<sizeof(T) == 4, uint, uchar>>;

template <class P>
inline void announce(P word, uint how) {
  __msl_atomic_access((ulong)word, sizeof(*word), how);
}

// Replaces *word by change(*word), both as values of T, and returns what was there.
template <class T, class P, class F>
inline T update(P word, F change) {
  announce(word, MSL_ATOMIC_UPDATE);
  word_of<T> before = __atomic_load_n(word, __ATOMIC_SEQ_CST);
  while (!__atomic_compare_exchange_n(word, &before, as_type<word_of<T>>(T(change(as_type<T>(before)))), false,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
  return as_type<T>(before);
}

}  // namespace msl_host

namespace metal {

#define MSL_ATOMIC_WORD(space, object) ((space msl_host::word_of<T>*)(object))

#define MSL_ATOMIC_FETCH(space, name, supported, expression)                                            \
  template <class T, class U>                                                                            \
  inline T name(volatile space atomic<T>* object, U operand, memory_order) {                             \
    static_assert(msl_host::supported<T>, #name ": not for this type in Metal");                         \
    return msl_host::update<T>(MSL_ATOMIC_WORD(space, object), [=](T x) {                                \
      const T y = T(operand);                                                                            \
      return T(expression);                                                                              \
    });                                                                                                  \
  }

#define MSL_ATOMICS(space)                                                                               \
  template <class T>                                                                                     \
  inline T atomic_load_explicit(const volatile space atomic<T>* object, memory_order) {                  \
    const auto word = MSL_ATOMIC_WORD(space, object);                                                    \
    msl_host::announce(word, MSL_ATOMIC_LOAD);                                                           \
    return as_type<T>(__atomic_load_n(word, __ATOMIC_SEQ_CST));                                          \
  }                                                                                                      \
  template <class T, class U>                                                                            \
  inline void atomic_store_explicit(volatile space atomic<T>* object, U desired, memory_order) {         \
    const auto word = MSL_ATOMIC_WORD(space, object);                                                    \
    msl_host::announce(word, MSL_ATOMIC_STORE);                                                          \
    __atomic_store_n(word, as_type<msl_host::word_of<T>>(T(desired)), __ATOMIC_SEQ_CST);                 \
  }                                                                                                      \
  template <class T, class U>                                                                            \
  inline T atomic_exchange_explicit(volatile space atomic<T>* object, U desired, memory_order) {         \
    return msl_host::update<T>(MSL_ATOMIC_WORD(space, object), [=](T) { return T(desired); });           \
  }                                                                                                      \
  template <class T, class U>                                                                            \
  inline bool atomic_compare_exchange_weak_explicit(volatile space atomic<T>* object, thread T* expected, \
                                                    U desired, memory_order, memory_order) {             \
    const auto word = MSL_ATOMIC_WORD(space, object);                                                    \
    msl_host::announce(word, MSL_ATOMIC_UPDATE);                                                         \
    auto found = as_type<msl_host::word_of<T>>(*expected);                                               \
    const auto wanted = as_type<msl_host::word_of<T>>(T(desired));                                       \
    const bool done =                                                                                    \
        __atomic_compare_exchange_n(word, &found, wanted, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);     \
    *expected = as_type<T>(found);                                                                       \
    return done;                                                                                         \
  }                                                                                                      \
  MSL_ATOMIC_FETCH(space, atomic_fetch_add_explicit, has_sum, x + y)                                    \
  MSL_ATOMIC_FETCH(space, atomic_fetch_sub_explicit, has_sum, x - y)                                    \
  MSL_ATOMIC_FETCH(space, atomic_fetch_and_explicit, has_bitwise, x & y)                                \
  MSL_ATOMIC_FETCH(space, atomic_fetch_or_explicit, has_bitwise, x | y)                                 \
  MSL_ATOMIC_FETCH(space, atomic_fetch_xor_explicit, has_bitwise, x ^ y)                                \
  MSL_ATOMIC_FETCH(space, atomic_fetch_min_explicit, has_order, y < x ? y : x)                          \
  MSL_ATOMIC_FETCH(space, atomic_fetch_max_explicit, has_order, x < y ? y : x)                          \
  MSL_ATOMIC_FETCH(space, atomic_min_explicit, has_order, y < x ? y : x)                                \
  MSL_ATOMIC_FETCH(space, atomic_max_explicit, has_order, x < y ? y : x)
MSL_ATOMICS(device)
MSL_ATOMICS(threadgroup)

}  // namespace metal
