// Words of 32 bits from device memory in as few loads as their number allows, and the numbers in them.

// COUNT neighbouring words, at an address that is a multiple of their size, or of 16 bytes where they are more.
template <int COUNT>
METAL_FUNC void load_words(thread uint* words, const device uint* from) {
  constexpr int AT_ONCE = COUNT % 4 == 0 ? 4 : COUNT % 2 == 0 ? 2 : 1;
#pragma unroll
  for (int i = 0; i < COUNT; i += AT_ONCE) {
    if (AT_ONCE == 4) {
      const uint4 four = *(const device uint4*)(from + i);
      words[i] = four.x;
      words[i + AT_ONCE / 4] = four.y;
      words[i + AT_ONCE / 2] = four.z;
      words[i + AT_ONCE - 1] = four.w;
    } else if (AT_ONCE == 2) {
      const uint2 two = *(const device uint2*)(from + i);
      words[i] = two.x;
      words[i + AT_ONCE - 1] = two.y;
    } else {
      words[i] = from[i];
    }
  }
}

// Number i of a word, of the type of the last argument.
METAL_FUNC float number(uint word, int, float) {
  return as_type<float>(word);
}

METAL_FUNC float number(uint word, int i, half) {
  return float(as_type<half>(ushort(word >> (16 * i))));
}

METAL_FUNC float number(uint word, int i, bfloat) {
  return float(as_type<bfloat>(ushort(word >> (16 * i))));
}

// The low halves of two words side by side, and the high ones. CUDA's header has an instruction for that.
#ifndef HALVES
METAL_FUNC uint low_halves(uint first, uint second) {
  return (first & 0xffffu) | (second << 16);
}

METAL_FUNC uint high_halves(uint first, uint second) {
  return (first >> 16) | (second & 0xffff0000u);
}
#endif
