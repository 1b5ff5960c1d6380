// Metal's keywords as clang's: address spaces become OpenCL's, words that only OpenCL reserves become identifiers.
#pragma once

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable

#define local msl_identifier_local
#define global msl_identifier_global
#define generic msl_identifier_generic
#define pipe msl_identifier_pipe
#define read_only msl_identifier_read_only
#define write_only msl_identifier_write_only
#define read_write msl_identifier_read_write
#define addrspace_cast msl_identifier_addrspace_cast
// Types that clang declares in OpenCL, and that are Metal's own in its namespace.
#define atomic_int msl_identifier_atomic_int
#define atomic_uint msl_identifier_atomic_uint
#define atomic_ulong msl_identifier_atomic_ulong
#define atomic_float msl_identifier_atomic_float

#define device __global
#define constant __constant
#define threadgroup __local
#define thread __private

// A kernel is an ordinary function here: an OpenCL kernel could not be a template. `coherent` orders caches, of which
// the CPU's are coherent anyway.
#define kernel
#define coherent(scope)

#define METAL_FUNC inline

#define __METAL__ 1
#define __METAL_VERSION__ 400
#define __METAL_MACOS__ 1
#define __HAVE_BFLOAT__ 1
#define __HAVE_SIMDGROUP_MATRIX__ 1
#define __HAVE_TENSOR__ 1
#define __METAL_MAYBE_FAST_MATH__ 0
#define __METAL_FAST_MATH__ 1
#define __METAL_PRECISE_MATH__ 0

// Says that a source is compiled for the CPU.
#define MSL_HOST 1

// Functions with a simdgroup operation or a barrier in them are inlined into their callers, so that every call in the
// source has a return address of its own: that is how the runtime tells one call from another.
#define MSL_COLLECTIVE __attribute__((always_inline)) inline
