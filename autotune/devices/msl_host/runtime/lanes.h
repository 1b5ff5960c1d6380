#pragma once

namespace msl {

// What a fiber runs: one thread of the kernel, from its first instruction until nothing of the threadgroup is left.
void fiber_main();

}  // namespace msl
