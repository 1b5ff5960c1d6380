// Recording what is wrong with a kernel.
#pragma once

#include "core.h"

namespace msl {

// Records a problem of the running thread, at `code` (an address in the kernel, 0 where unknown) and perhaps `other`.
// One problem a kind and pair of addresses: a faulty line is met by every thread.
MSL_RARE void report(Worker *w, Kind kind, u64 code, u64 other, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

// The same, and the launch ends: the running threadgroup is abandoned, no other is begun.
[[noreturn]] MSL_RARE void fail(Worker *w, Kind kind, u64 code, u64 other, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

// Records a problem before there are workers.
void report_launch(Launch *launch, Kind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

}  // namespace msl
