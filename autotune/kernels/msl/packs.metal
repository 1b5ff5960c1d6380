// Packs of quantized weights: VALUES consecutive weights of BITS bits each, as MLX stores them.
//
// Whatever the number of bits, MLX's packed rows are one little-endian stream: weight i is the BITS bits from bit i * BITS
// on, and 32 weights fill BITS words exactly. That is the whole format for 2, 3, 4, 5, 6 and 8 bits; only how wide the
// loads of a pack can be depends on them. Weights are turned into float once and multiplied as often as there are rows.
//
// Constants: BITS, VALUES, GROUP, and one of AFFINE, MXFP4, NVFP4, MXFP8 is 1.

#define PACK_BITS (VALUES * BITS)
#define PACK_WORDS ((PACK_BITS + 31) / 32)

#if PACK_BITS % 32 == 0
typedef uint pack_unit;
#define UNIT_BITS 32
#elif PACK_BITS % 16 == 0
typedef ushort pack_unit;
#define UNIT_BITS 16
#else
typedef uchar pack_unit;
#define UNIT_BITS 8
#endif
#define PACK_UNITS (PACK_BITS / UNIT_BITS)

#if AFFINE
typedef T scale_type;
#else
typedef uchar scale_type;
#endif

// The pack at `from`, in words.
inline void load_pack(const device pack_unit* from, thread uint* words) {
#pragma unroll
  for (int i = 0; i < PACK_WORDS; i++) {
    words[i] = 0;
  }
#pragma unroll
  for (int i = 0; i < PACK_UNITS; i++) {
    words[i * UNIT_BITS / 32] |= uint(from[i]) << (i * UNIT_BITS % 32);
  }
}

// The bits of weight i of a pack.
inline uint code_of(const thread uint* words, int i) {
  const int bit = i * BITS;
  uint code = words[bit / 32] >> (bit % 32);
  if (bit % 32 + BITS > 32) {
    code |= words[bit / 32 + 1] << (32 - bit % 32);
  }
  return code & ((1u << BITS) - 1u);
}

#if MXFP8 || NVFP4
// An E4M3 code as a half: its bits moved to the half's are the value times 2^-8, subnormal codes included. The two codes
// of NaN, which lack the half's top exponent bit, get it: MLX reads them as NaN too.
inline half e4m3(uint code) {
  const uint size = code & 0x7fu;
  return as_type<half>(ushort(((code & 0x80u) << 8) | (size << 7) | (((size + 1u) >> 7) << 14)));
}
#endif

// A weight before its group's scale, and for floating-point weights short of the power of two in scale_of. An E2M1 code
// moved to the top of a half is that value times 2^-14, the subnormal code included.
inline float weight_of(uint code) {
#if AFFINE
  return float(code);
#elif MXFP8
  return float(e4m3(code));
#else
  return float(as_type<half>(ushort(((code & 8u) << 12) | ((code & 7u) << 9))));
#endif
}

// The factor of a group. An E8M0 scale is 2^(s - 127); what weight_of left out goes into the exponent, so that none is
// subnormal, and scales that do not fit any more (2^114 and above for MXFP4, 2^120 for MXFP8) are infinite.
inline float scale_of(scale_type s) {
#if AFFINE
  return float(s);
#elif NVFP4
  return float(e4m3(s)) * (256.0f * 16384.0f);
#elif MXFP4
  return as_type<float>(min(uint(s) + 14u, 255u) << 23);
#else
  return as_type<float>(min(uint(s) + 8u, 255u) << 23);
#endif
}
