// The compiler's own functions that MLX's headers call by name (bf16_math.h, steel/gemm/nax.h).
#pragma once

#define __metal_get_thread_index_in_simdgroup(...) ushort(msl_host::lane_index())
#define __metal_get_simdgroup_size(...) ushort(MSL_LANES)

#define MSL_BUILTIN_1(name)                      \
  inline float __metal_##name(float x, int) {    \
    return metal::name(x);                       \
  }
#define MSL_BUILTIN_2(name)                               \
  inline float __metal_##name(float x, float y, int) {    \
    return metal::name(x, y);                             \
  }
#define MSL_BUILTIN_3(name)                                        \
  inline float __metal_##name(float x, float y, float z, int) {    \
    return metal::name(x, y, z);                                   \
  }
MSL_FOR_LIBRARY_1(MSL_BUILTIN_1)
MSL_FOR_LIBRARY_2(MSL_BUILTIN_2)
MSL_FOR_OWN_1(MSL_BUILTIN_1)
MSL_BUILTIN_1(exp10)
MSL_BUILTIN_2(divide)
MSL_BUILTIN_2(powr)
MSL_BUILTIN_3(fmin3)
MSL_BUILTIN_3(fmax3)
MSL_BUILTIN_3(fmedian3)
inline float __metal_nextafter(float x, float y) { return metal::nextafter(x, y); }
inline float __metal_fma(float x, float y, float z) { return metal::fma(x, y, z); }
inline float __metal_ldexp(float x, int k, int) { return metal::ldexp(x, k); }
inline float __metal_frexp(float x, thread int* exponent, int = 0) { return metal::frexp(x, *exponent); }

#define __metal_simd_broadcast metal::simd_broadcast
#define __metal_simd_shuffle metal::simd_shuffle
#define __metal_simd_shuffle_xor metal::simd_shuffle_xor
#define __metal_simd_shuffle_up metal::simd_shuffle_up
#define __metal_simd_shuffle_down metal::simd_shuffle_down
#define __metal_simd_shuffle_rotate_up metal::simd_shuffle_rotate_up
#define __metal_simd_shuffle_rotate_down metal::simd_shuffle_rotate_down
#define __metal_simd_shuffle_and_fill_up metal::simd_shuffle_and_fill_up
#define __metal_simd_shuffle_and_fill_down metal::simd_shuffle_and_fill_down
#define __metal_simd_sum metal::simd_sum
#define __metal_simd_product metal::simd_product
#define __metal_simd_max metal::simd_max
#define __metal_simd_min metal::simd_min
#define __metal_simd_prefix_inclusive_sum metal::simd_prefix_inclusive_sum
#define __metal_simd_prefix_exclusive_sum metal::simd_prefix_exclusive_sum
#define __metal_simd_prefix_inclusive_product metal::simd_prefix_inclusive_product
#define __metal_simd_prefix_exclusive_product metal::simd_prefix_exclusive_product
// Metal has no exclusive or of floats, yet MLX's macro names one; an overload that nothing calls.
inline float __metal_simd_xor(float);
