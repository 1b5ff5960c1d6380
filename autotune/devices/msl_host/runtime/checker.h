#pragma once

#include "core.h"
#include "shadow.h"

namespace msl {

// Checks an access of the running thread: that it lies in memory the kernel was given, and in order.
void access_memory(u64 address, u64 bytes, Access access, u64 code);

}  // namespace msl
