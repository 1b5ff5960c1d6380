// The runtime library's side of things, and what the headers build on it.
#pragma once

#include "../../runtime/abi.h"

// Numbers that the kernel's author sees when a launch ends with __msl_fail.
enum {
  MSL_FAIL_LANE = 1,               // a simdgroup operation names a lane that does not exist
  MSL_FAIL_PARTIAL_SIMDGROUP = 2,  // a matrix operation in a simdgroup some of whose lanes have ended or never were
  MSL_FAIL_TENSOR_ELEMENT = 3,     // an element of a cooperative tensor beyond its capacity
};

// A variable in threadgroup memory, declared in a function; translate.py writes it. Metal has one per function instance,
// which __PRETTY_FUNCTION__ tells apart.
#define MSL_THREADGROUP_VARIABLE(name, dimensions, ...)                                      \
  typedef __VA_ARGS__ msl_type_of_##name dimensions;                                         \
  threadgroup msl_type_of_##name& name = *reinterpret_cast<threadgroup msl_type_of_##name*>( \
      __msl_tg_alloc(sizeof(msl_type_of_##name), alignof(msl_type_of_##name), __COUNTER__,   \
                     (unsigned long)&__PRETTY_FUNCTION__[0]))
