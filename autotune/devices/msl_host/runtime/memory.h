// Memory that kernels see: guarded buffers and threadgroup variables.
#pragma once

#include "core.h"

namespace msl {

enum : u64 {
  GUARD = 64 << 20,             // address space on either side of a buffer, so that far accesses fault too
  ARENA = 64 << 20,             // address space for a worker's threadgroup variables
  VARIABLE_GUARD = 64 << 10,    // between threadgroup variables: more than a threadgroup may have
  POISON = 0xFB,                // 0xFBFBFBFB is -2.6e36 as a float, 0xFBFB is -65376 as a half: finite, so that a
                                // maximum or a comparison does not swallow it as it would a NaN
};

// Copies the arguments in. False where there is no memory.
bool create_buffers(Launch *launch);

// Copies what is writable out and frees.
void destroy_buffers(Launch *launch);

// Forgets the threadgroup variables of the last launch.
bool prepare_arena(Worker *w);

// Before each threadgroup.
void poison_variables(Worker *w);

// The buffer or variable whose bytes, or else whose guards, hold `address`; null where there is none.
Buffer *find_buffer(u64 address);
Variable *find_variable(Worker *w, u64 address);

}  // namespace msl
