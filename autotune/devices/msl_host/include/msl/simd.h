// <metal_simdgroup>: every operation is one exchange, in which each lane lays its value into a slot and then reads the
// others'. Lanes that have ended do not take part. What Metal leaves undefined, a lane that did not take part or does
// not exist, reads as bytes of 0xFB here, so that a kernel which uses it shows.
#pragma once

namespace msl_host {

template <class T>
struct simd_values {
  ulong slots;
  uint taking_part;

  bool has(uint lane) const { return lane < MSL_LANES && ((taking_part >> lane) & 1u) != 0; }
  T operator[](uint lane) const {
    if (has(lane)) {
      return *reinterpret_cast<const device T*>(slots + ulong(lane) * MSL_SLOT);
    }
    T undefined;
    __builtin_memset(&undefined, 0xFB, sizeof(T));
    return undefined;
  }
};

MSL_COLLECTIVE uint lane_index() { return __msl_attr(MSL_THREAD_INDEX_IN_SIMDGROUP); }

template <class T>
MSL_COLLECTIVE simd_values<T> exchange(T value, uint operation = 0) {
  static_assert(sizeof(element_of<T>) <= 4, "simdgroup operations: Metal has none on 64-bit types");
  const ulong slots = __msl_xchg((ulong)&value, sizeof(T), operation);
  return simd_values<T>{slots, __msl_active()};
}

// Folds the values of the lanes [0, end) that took part, in order, onto `start`.
template <class T, class F>
inline T fold(simd_values<T> values, uint end, T start, F combine) {
  T result = start;
  for (uint lane = 0; lane < end; lane++) {
    if (values.has(lane)) {
      result = combine(result, values[lane]);
    }
  }
  return result;
}

// Folds the values of all lanes that took part; there is at least the caller's.
template <class T, class F>
inline T reduce(simd_values<T> values, F combine) {
  const uint first = __builtin_ctz(values.taking_part);
  T result = values[first];
  for (uint lane = first + 1; lane < MSL_LANES; lane++) {
    if (values.has(lane)) {
      result = combine(result, values[lane]);
    }
  }
  return result;
}

// The sum in pairs: lane l takes lane l + 16, then l + 8, and so on. Metal does not say in which order it adds.
template <class T>
inline T sum_in_pairs(simd_values<T> values) {
  T sums[MSL_LANES];
  for (uint lane = 0; lane < MSL_LANES; lane++) {
    sums[lane] = values.has(lane) ? values[lane] : T(0);
  }
  for (uint half_width = MSL_LANES / 2; half_width > 0; half_width /= 2) {
    for (uint lane = 0; lane < half_width; lane++) {
      sums[lane] = sums[lane] + sums[lane + half_width];
    }
  }
  return sums[0];
}

}  // namespace msl_host

namespace metal {

template <class T>
MSL_COLLECTIVE T simd_shuffle(T data, ushort lane) {
  return msl_host::exchange(data)[lane];
}
template <class T>
MSL_COLLECTIVE T simd_broadcast(T data, ushort lane) {
  return msl_host::exchange(data)[lane];
}
template <class T>
MSL_COLLECTIVE T simd_broadcast_first(T data) {
  const auto values = msl_host::exchange(data);
  return values[__builtin_ctz(values.taking_part)];
}
template <class T>
MSL_COLLECTIVE T simd_shuffle_xor(T data, ushort mask) {
  return msl_host::exchange(data)[msl_host::lane_index() ^ mask];
}
// The lanes whose source would lie beyond the simdgroup keep their own value.
template <class T>
MSL_COLLECTIVE T simd_shuffle_down(T data, ushort delta) {
  const auto values = msl_host::exchange(data);
  const uint source = msl_host::lane_index() + delta;
  return source < MSL_LANES ? values[source] : data;
}
template <class T>
MSL_COLLECTIVE T simd_shuffle_up(T data, ushort delta) {
  const auto values = msl_host::exchange(data);
  const uint lane = msl_host::lane_index();
  return lane >= delta ? values[lane - delta] : data;
}
template <class T>
MSL_COLLECTIVE T simd_shuffle_rotate_down(T data, ushort delta) {
  return msl_host::exchange(data)[(msl_host::lane_index() + delta) % MSL_LANES];
}
template <class T>
MSL_COLLECTIVE T simd_shuffle_rotate_up(T data, ushort delta) {
  return msl_host::exchange(data)[(msl_host::lane_index() - delta) % MSL_LANES];
}
// Shifts within blocks of `modulo` lanes; what is shifted in comes from the near end of `filling`.
template <class T>
MSL_COLLECTIVE T simd_shuffle_and_fill_down(T data, T filling, ushort delta, ushort modulo = MSL_LANES) {
  const uint lane = msl_host::lane_index(), block = lane / modulo * modulo, at = lane % modulo + delta;
  const T own = msl_host::exchange(data)[block + at % modulo];
  const T other = msl_host::exchange(filling)[block + at % modulo];
  return at < modulo ? own : other;
}
template <class T>
MSL_COLLECTIVE T simd_shuffle_and_fill_up(T data, T filling, ushort delta, ushort modulo = MSL_LANES) {
  const uint lane = msl_host::lane_index(), block = lane / modulo * modulo, at = lane % modulo;
  const T own = msl_host::exchange(data)[block + (at + modulo - delta) % modulo];
  const T other = msl_host::exchange(filling)[block + (at + modulo - delta) % modulo];
  return at >= delta ? own : other;
}

template <class T>
MSL_COLLECTIVE T simd_sum(T data) {
  if constexpr (is_same_v<T, float>) {
    // The runtime adds once for all lanes, in the same order, where all take part.
    const auto values = msl_host::exchange(data, MSL_OP_SUM_FLOAT);
    return values.taking_part == ~0u ? reinterpret_cast<const device float*>(values.slots)[1]
                                     : msl_host::sum_in_pairs(values);
  } else {
    return msl_host::sum_in_pairs(msl_host::exchange(data));
  }
}

#define MSL_SIMD_REDUCTION(name, expression)                                                   \
  template <class T>                                                                           \
  MSL_COLLECTIVE T name(T data) {                                                              \
    return msl_host::reduce(msl_host::exchange(data), [](T x, T y) { return T(expression); }); \
  }
MSL_SIMD_REDUCTION(simd_product, x * y)
MSL_SIMD_REDUCTION(simd_min, min(x, y))
MSL_SIMD_REDUCTION(simd_max, max(x, y))
MSL_SIMD_REDUCTION(simd_and, x & y)
MSL_SIMD_REDUCTION(simd_or, x | y)
MSL_SIMD_REDUCTION(simd_xor, x ^ y)

#define MSL_SIMD_PREFIX(name, end, start, expression)                                      \
  template <class T>                                                                       \
  MSL_COLLECTIVE T name(T data) {                                                          \
    return msl_host::fold(msl_host::exchange(data), msl_host::lane_index() + end, T(start), \
                          [](T x, T y) { return T(expression); });                         \
  }
MSL_SIMD_PREFIX(simd_prefix_inclusive_sum, 1, 0, x + y)
MSL_SIMD_PREFIX(simd_prefix_exclusive_sum, 0, 0, x + y)
MSL_SIMD_PREFIX(simd_prefix_inclusive_product, 1, 1, x * y)
MSL_SIMD_PREFIX(simd_prefix_exclusive_product, 0, 1, x * y)

// A mask of lanes. Metal's has 64 bits whatever the simdgroup's size.
struct simd_vote {
  using vote_t = ulong;
  ulong lanes;
  constexpr explicit simd_vote(ulong mask = 0) : lanes(mask) {}
  constexpr explicit operator ulong() const { return lanes; }
  constexpr bool all() const { return uint(lanes) == ~0u; }
  constexpr bool any() const { return lanes != 0; }
};

MSL_COLLECTIVE simd_vote simd_ballot(bool condition) {
  const auto values = msl_host::exchange(int(condition));
  ulong mask = 0;
  for (uint lane = 0; lane < MSL_LANES; lane++) {
    if (values.has(lane) && values[lane] != 0) {
      mask |= 1ul << lane;
    }
  }
  return simd_vote(mask);
}
MSL_COLLECTIVE simd_vote simd_active_threads_mask() { return simd_vote(msl_host::exchange(0).taking_part); }
MSL_COLLECTIVE bool simd_all(bool condition) {
  return msl_host::reduce(msl_host::exchange(int(condition)), [](int x, int y) { return x & y; }) != 0;
}
MSL_COLLECTIVE bool simd_any(bool condition) {
  return msl_host::reduce(msl_host::exchange(int(condition)), [](int x, int y) { return x | y; }) != 0;
}
MSL_COLLECTIVE bool simd_is_first() {
  return msl_host::lane_index() == uint(__builtin_ctz(msl_host::exchange(0).taking_part));
}

}  // namespace metal
