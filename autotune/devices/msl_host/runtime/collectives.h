#pragma once

#include "core.h"

namespace msl {

// Computes the collective `op` (abi.h) over the 32 slots in place; does nothing for a plain exchange.
void collective(u32 op, u8 *slots);

}  // namespace msl
