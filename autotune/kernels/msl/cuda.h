// Metal's words in CUDA, for texts that run through mx.fast.cuda_kernel. A simdgroup is a warp: both have 32 lanes.
//
// What macros cannot say is rewritten in the text before (kernels/cuda.py). What is here is what the texts
// of this folder use, with what they rely on, and no more.

#define device
#define constant
#define thread
#define METAL_FUNC __device__ inline

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef __nv_bfloat16 bfloat;
typedef __half2 half2;
typedef __nv_bfloat162 bfloat2;

namespace metal {}

// Constructors, as function-like macros: the types' own names stay.
#define int3(v) make_int3(int((v).x), int((v).y), int((v).z))
#define uint2(x, y) make_uint2(x, y)
#define ulong2(x, y) make_ulong2(x, y)

// Threads count along x first, in a block and in a warp.
#define thread_index_in_threadgroup ((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x)
#define thread_index_in_simdgroup (thread_index_in_threadgroup % 32)
#define simdgroup_index_in_threadgroup (thread_index_in_threadgroup / 32)
#define threadgroup_position_in_grid blockIdx
#define threadgroups_per_grid gridDim
#define thread_position_in_grid                                                                    \
  make_uint3(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y,         \
             blockIdx.z * blockDim.z + threadIdx.z)

enum class mem_flags { mem_none, mem_device, mem_threadgroup };

METAL_FUNC void threadgroup_barrier(mem_flags) {
  __syncthreads();
}

METAL_FUNC void simdgroup_barrier(mem_flags) {
  __syncwarp();
}

template <typename V>
METAL_FUNC V simd_shuffle_xor(V value, ushort mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

METAL_FUNC float simd_sum(float value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, apart);
  }
  return value;
}

template <typename To, typename From>
METAL_FUNC To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// fma of pairs, which CUDA has under names of their own.
METAL_FUNC half2 fma(half2 a, half2 b, half2 c) {
  return __hfma2(a, b, c);
}

// As in words.metal, which the compiler does not see through.
#define HALVES

METAL_FUNC uint low_halves(uint first, uint second) {
  return __byte_perm(first, second, 0x5410);
}

METAL_FUNC uint high_halves(uint first, uint second) {
  return __byte_perm(first, second, 0x7632);
}
