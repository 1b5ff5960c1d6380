// Where lanes and threads meet: exchanges and simdgroup barriers, threadgroup barriers, and the end of a thread.

#include "lanes.h"

#include <string.h>

#include "collectives.h"
#include "fibers.h"
#include "problems.h"

namespace msl {

static const char *name(Wait wait) { return wait == Wait::exchange ? "simdgroup function" : "simdgroup_barrier"; }

static u8 *slots_of(Worker *w, const Simdgroup &group, u32 simdgroup) {
  return w->slots + (simdgroup * 2 + group.parity) * (MSL_LANES * MSL_SLOT);
}

static void tick(u32 *epoch, u32 flags) {
  if (flags & MSL_MEM_DEVICE) epoch[DEVICE]++;
  if (flags & MSL_MEM_THREADGROUP) epoch[THREADGROUP]++;
}

// MSL: the barrier "must be encountered by all threads in a threadgroup (or SIMD-group) executing the kernel". Whether
// a thread that has returned still executes the kernel is left open; hardware has been seen to let the others pass.
// strict reads the sentence as: all that began.
static MSL_RARE void report_early_return(Worker *w, u64 site, const char *barrier, u32 missing) {
  report(w, Kind::early_return, site, 0, "%s passed by some threads only: thread %u has returned", barrier, missing);
}

// All live lanes of the simdgroup wait at one place: lets them go on.
static void finish_simdgroup(Worker *w, u32 simdgroup) {
  Simdgroup &group = w->simdgroups[simdgroup];
  u32 lanes = group.waiting;
  if (group.wait == Wait::exchange) {
    group.active = lanes;
    if (lanes == ~0u) collective(group.op, slots_of(w, group, simdgroup));
    group.parity ^= 1;
  } else {
    tick(group.epoch, group.flags);
    u32 begun = w->threads - simdgroup * MSL_LANES;
    u32 gone = (begun >= MSL_LANES ? ~0u : (1u << begun) - 1) & ~lanes;
    if (gone && w->launch->strict)
      report_early_return(w, group.site, "simdgroup_barrier", simdgroup * MSL_LANES + (u32)__builtin_ctz(gone));
  }
  group.waiting = 0;
  make_ready(w, simdgroup, lanes);
}

static MSL_RARE void fail_divergent(Worker *w, Fiber *me, const Simdgroup &group, Wait wait, u64 site) {
  u32 other = (u32)__builtin_ctz(group.waiting);
  fail(w, Kind::divergence, site, group.site,
       "lanes of one simdgroup wait at different places: lane %u at a %s, lane %u at a %s. In Metal each would be done "
       "by the active lanes alone; the host needs all live lanes", me->lane, name(wait), other, name(group.wait));
}

// The running lane waits for its simdgroup. Two lanes that wait at different places would wait for each other for ever.
static inline void wait_for_simdgroup(Worker *w, Fiber *me, Wait wait, u32 flags, u64 site) {
  Simdgroup &group = w->simdgroups[me->simdgroup];
  if (!group.waiting) {
    group.wait = wait;
    group.site = site;
    group.flags = ~0u;
  } else if (!MSL_LIKELY(group.site == site)) {
    fail_divergent(w, me, group, wait, site);
  }
  group.flags &= flags;  // a barrier orders what all who pass it agree on
  group.waiting |= 1u << me->lane;
  if (group.waiting == group.live) finish_simdgroup(w, me->simdgroup);
  run_next(w, me);
}

static MSL_RARE void report_two_barriers(Worker *w, u64 site) {
  if (!w->launch->strict) return;
  fail(w, Kind::divergence, site, w->barrier_site,
       "threads of one threadgroup wait at different threadgroup_barriers: thread %u here, thread %u there",
       w->current->index, w->barrier_thread);
}

static void finish_threadgroup_barrier(Worker *w) {
  if (w->barrier_flags & MSL_MEM_DEVICE) w->clock[DEVICE]++;
  if (w->barrier_flags & MSL_MEM_THREADGROUP) w->clock[THREADGROUP]++;
  w->barriers++;
  if (w->returned && w->launch->strict) {
    u32 missing = 0;
    while (w->simdgroups[missing / MSL_LANES].at_barrier >> missing % MSL_LANES & 1) missing++;
    report_early_return(w, w->barrier_site, "threadgroup_barrier", missing);
  }
  w->arrived = 0;
  for (u32 i = 0; i < w->simdgroup_count; i++) {
    Simdgroup &group = w->simdgroups[i];
    if (group.at_barrier) make_ready(w, i, group.at_barrier);
    group.at_barrier = 0;
  }
}

// No lane is ready and some live: who waits where? Some simdgroup then has lanes at a threadgroup barrier and others at
// a simdgroup function, since a simdgroup that waits at one place goes on.
void nobody_can_run(Worker *w) {
  for (u32 i = 0; i < w->simdgroup_count; i++) {
    Simdgroup &group = w->simdgroups[i];
    if (!group.waiting || !group.at_barrier) continue;
    u32 waiting = (u32)__builtin_ctz(group.waiting), at_barrier = (u32)__builtin_ctz(group.at_barrier);
    Fiber &other = w->fibers[i * MSL_LANES + at_barrier];
    w->current = &w->fibers[i * MSL_LANES + waiting];
    fail(w, Kind::divergence, group.site, other.site,
         "lanes of one simdgroup wait at different places: lane %u at a %s, lane %u at a threadgroup_barrier", waiting,
         name(group.wait), at_barrier);
  }
  fail(w, Kind::deadlock, w->barrier_site, 0, "no thread can go on: %u of %u live threads are at a threadgroup_barrier",
       w->arrived, w->live);
}

void fiber_main() {
  Worker *w = worker;
  w->launch->entry(w->addresses);
  Fiber *me = w->current;
  Simdgroup &group = w->simdgroups[me->simdgroup];
  group.live &= ~(1u << me->lane);
  w->live--;
  w->returned = true;
  if (group.waiting && group.waiting == group.live) finish_simdgroup(w, me->simdgroup);
  if (!w->live) leave(w);
  if (w->arrived == w->live) finish_threadgroup_barrier(w);
  run_next(w, me);
  __builtin_unreachable();
}

}  // namespace msl

using namespace msl;

void __msl_sg_barrier(u32 flags) {
  Worker *w = worker;
  if (!flags && !w->check) return;
  Fiber *me = w->current;
  wait_for_simdgroup(w, me, Wait::simdgroup_barrier, flags, MSL_CALLER);
}

u64 __msl_xchg(u64 value, u32 size, u32 op) {
  Worker *w = worker;
  Fiber *me = w->current;
  Simdgroup &group = w->simdgroups[me->simdgroup];
  u8 *slots = slots_of(w, group, me->simdgroup);
  u8 *mine = slots + me->lane * MSL_SLOT;
  if (size == 4) {
    memcpy(mine, (void *)value, 4);  // a move; the general one is a call
  } else {
    if (size > MSL_SLOT)
      fail(w, Kind::failure, MSL_CALLER, 0, "an exchange of %u bytes a lane, at most %u fit", size, MSL_SLOT);
    memcpy(mine, (void *)value, size);
  }
  group.op = op;
  wait_for_simdgroup(w, me, Wait::exchange, 0, MSL_CALLER);
  return (u64)slots;
}

u32 __msl_active() {
  Worker *w = worker;
  return w->simdgroups[w->current->simdgroup].active;
}

void __msl_tg_barrier(u32 flags) {
  Worker *w = worker;
  Fiber *me = w->current;
  me->site = MSL_CALLER;
  if (!w->arrived) {
    w->barrier_site = me->site;
    w->barrier_flags = ~0u;
    w->barrier_thread = me->index;
  } else if (!MSL_LIKELY(w->barrier_site == me->site)) {
    report_two_barriers(w, me->site);
  }
  w->barrier_flags &= flags;
  w->simdgroups[me->simdgroup].at_barrier |= 1u << me->lane;
  if (++w->arrived == w->live) finish_threadgroup_barrier(w);
  run_next(w, me);
}

void __msl_fail(u32 code) { fail(worker, Kind::failure, MSL_CALLER, 0, "the kernel gave up with code %u", code); }
