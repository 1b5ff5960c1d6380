// Rounding to bfloat16, which clang calls by name where the CPU has no instruction for it and which some compilers'
// support libraries lack. Weak: a kernel that brings its own uses that.

#include <stdint.h>
#include <string.h>

typedef uint32_t u32;

static __bf16 round_to_bfloat(float value) {
  u32 bits;
  memcpy(&bits, &value, sizeof bits);
  bool nan = (bits & 0x7fffffff) > 0x7f800000;
  uint16_t rounded = (uint16_t)(nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  __bf16 result;
  memcpy(&result, &rounded, sizeof result);
  return result;
}

extern "C" __attribute__((weak, visibility("default"))) __bf16 __truncsfbf2(float value) {
  return round_to_bfloat(value);
}

// Rounds to float towards odd first, so that rounding twice is rounding once.
extern "C" __attribute__((weak, visibility("default"))) __bf16 __truncdfbf2(double value) {
  float near = (float)value;
  u32 bits;
  memcpy(&bits, &near, sizeof bits);
  if ((double)near != value && value == value && !(bits & 1)) {
    bool away = near < 0 ? (double)near < value : (double)near > value;
    bits = away ? bits - 1 : bits | 1;
    memcpy(&near, &bits, sizeof near);
  }
  return round_to_bfloat(near);
}
