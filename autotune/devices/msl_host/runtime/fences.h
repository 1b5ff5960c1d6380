// Ordering between threadgroups, for check mode: fences around atomic operations, as in a split-K product whose last
// threadgroup to finish adds up what the others left in device memory.
//
// The rule is that of C++ and of Metal's specification: what a thread did before a release fence and a later atomic
// write to M is ordered before what another does after an atomic read of M that sees the write, and an acquire fence.
// Threadgroups run one after the other here and every update sees the one before it, so all earlier releases at M are
// seen. Two liberties are taken, both for what kernels do in practice: a threadgroup barrier of any kind between a
// fence and an atomic operation joins them although different threads made them, and an atomic store counts as an
// update, which sees the releases before it and does not end their chain. Fences order nothing *within* a threadgroup
// here; barriers do that.
#pragma once

#include "core.h"

namespace msl {

void begin_fences();        // before a launch
void begin_group_fences();  // before each threadgroup

// An atomic operation of the running thread on a location of device memory. `released` is the location's, 0 at first:
// which releases an acquire after this operation sees.
void synchronise_through(Worker *w, u32 *released, bool write);

// Whether an access of an earlier threadgroup, at a device clock, by a thread in an epoch of its simdgroup, is ordered
// before the running thread's next access.
bool synchronised(Worker *w, u32 clock, u32 thread, u32 epoch);

// The same for a set of readers (shadow.h).
bool synchronised_set(Worker *w, u32 clock, u32 simdgroups, u32 epoch, u32 lanes);

}  // namespace msl
