// Faults of kernels: what would kill the process is recorded instead.
#pragma once

#include <signal.h>

namespace msl {

enum { CAUGHT = 5 };

struct Handlers {
  struct sigaction before[CAUGHT];
};

// Takes the handlers of SIGSEGV and the like, and gives them back.
void install_handlers(Handlers *handlers);
void restore_handlers(const Handlers *handlers);

}  // namespace msl
