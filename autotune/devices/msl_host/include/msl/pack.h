// <metal_pack>: four or two normalized numbers in a word, the first in the lowest bits.
#pragma once

namespace msl_host {

template <class Code, int Bits, int N>
inline metal::vec<float, N> unpack_normalized(uint word) {
  constexpr float scale = metal::is_signed_v<Code> ? (1 << (Bits - 1)) - 1 : (1 << Bits) - 1;
  metal::vec<float, N> result = metal::vec<float, N>(0.0f);
  for (int i = 0; i < N; i++) {
    result[i] = metal::max(float(Code(word >> (i * Bits))) / scale, -1.0f);
  }
  return result;
}

template <class Code, int Bits, int N>
inline uint pack_normalized(metal::vec<float, N> values) {
  constexpr float scale = metal::is_signed_v<Code> ? (1 << (Bits - 1)) - 1 : (1 << Bits) - 1;
  constexpr float low = metal::is_signed_v<Code> ? -1.0f : 0.0f;
  uint word = 0;
  for (int i = 0; i < N; i++) {
    const int code = int(metal::rint(metal::clamp(values[i], low, 1.0f) * scale));
    word |= (uint(code) & ((1u << Bits) - 1u)) << (i * Bits);
  }
  return word;
}

}  // namespace msl_host

namespace metal {

inline vec<float, 4> unpack_unorm4x8_to_float(uint x) { return msl_host::unpack_normalized<uchar, 8, 4>(x); }
inline vec<float, 4> unpack_snorm4x8_to_float(uint x) { return msl_host::unpack_normalized<char, 8, 4>(x); }
inline vec<float, 2> unpack_unorm2x16_to_float(uint x) { return msl_host::unpack_normalized<ushort, 16, 2>(x); }
inline vec<float, 2> unpack_snorm2x16_to_float(uint x) { return msl_host::unpack_normalized<short, 16, 2>(x); }
inline uint pack_float_to_unorm4x8(vec<float, 4> x) { return msl_host::pack_normalized<uchar, 8, 4>(x); }
inline uint pack_float_to_snorm4x8(vec<float, 4> x) { return msl_host::pack_normalized<char, 8, 4>(x); }
inline uint pack_float_to_unorm2x16(vec<float, 2> x) { return msl_host::pack_normalized<ushort, 16, 2>(x); }
inline uint pack_float_to_snorm2x16(vec<float, 2> x) { return msl_host::pack_normalized<short, 16, 2>(x); }

}  // namespace metal
