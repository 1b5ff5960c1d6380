// <metal_quadgroup>: four neighbouring lanes. Here a quad's operation waits for the whole simdgroup, so a quad in a branch
// that others do not take is refused where Metal would run it.
#pragma once

namespace msl_host {

MSL_COLLECTIVE uint quad_base() { return lane_index() & ~3u; }

}  // namespace msl_host

namespace metal {

template <class T>
MSL_COLLECTIVE T quad_broadcast(T data, ushort lane) {
  return msl_host::exchange(data)[msl_host::quad_base() + lane % 4];
}
template <class T>
MSL_COLLECTIVE T quad_shuffle(T data, ushort lane) {
  return msl_host::exchange(data)[msl_host::quad_base() + lane % 4];
}
template <class T>
MSL_COLLECTIVE T quad_shuffle_xor(T data, ushort mask) {
  return msl_host::exchange(data)[msl_host::lane_index() ^ (mask % 4)];
}
template <class T>
MSL_COLLECTIVE T quad_shuffle_down(T data, ushort delta) {
  const auto values = msl_host::exchange(data);
  const uint at = msl_host::lane_index() % 4 + delta;
  return at < 4 ? values[msl_host::quad_base() + at] : data;
}
template <class T>
MSL_COLLECTIVE T quad_shuffle_up(T data, ushort delta) {
  const auto values = msl_host::exchange(data);
  const uint at = msl_host::lane_index() % 4;
  return at >= delta ? values[msl_host::quad_base() + at - delta] : data;
}

#define MSL_QUAD_REDUCTION(name, expression)                                 \
  template <class T>                                                         \
  MSL_COLLECTIVE T name(T data) {                                            \
    auto values = msl_host::exchange(data);                                  \
    values.taking_part &= 0xfu << msl_host::quad_base();                     \
    return msl_host::reduce(values, [](T x, T y) { return T(expression); }); \
  }
MSL_QUAD_REDUCTION(quad_sum, x + y)
MSL_QUAD_REDUCTION(quad_product, x * y)
MSL_QUAD_REDUCTION(quad_min, min(x, y))
MSL_QUAD_REDUCTION(quad_max, max(x, y))
MSL_QUAD_REDUCTION(quad_and, x & y)
MSL_QUAD_REDUCTION(quad_or, x | y)
MSL_QUAD_REDUCTION(quad_xor, x ^ y)

}  // namespace metal
