// Stacks, the context switch and the choice of who runs next.
#pragma once

#include "core.h"

namespace msl {

enum : u64 {
  STACK = 256 << 10,
  STACK_GUARD = 64 << 10,   // below each stack; large, so that a big frame cannot step over it
  STACK_STRIDE = STACK + STACK_GUARD,
};

inline u64 stack_low(const Worker *w, u32 thread) { return w->stacks + thread * STACK_STRIDE + STACK_GUARD; }

// Saves the callee-saved registers on the stack, stores the stack pointer in *save and continues at `target`.
extern "C" void msl_switch(void **save, void *target) __attribute__((visibility("hidden")));

// Makes stacks for `threads` fibers.
void prepare_stacks(Worker *w, u32 threads);

// Lets `thread` begin in `main` when it is first switched to.
void start_fiber(Worker *w, u32 thread, void (*main)());

inline u32 random_number(Worker *w) {  // xorshift64*
  w->random ^= w->random >> 12;
  w->random ^= w->random << 25;
  w->random ^= w->random >> 27;
  return (u32)((w->random * 0x2545F4914F6CDD1Dull) >> 32);
}

// A set bit of `mask`: the lowest, the highest, or the first one from a random position on. The last is not uniform
// where bits are sparse; any choice is a legal schedule.
inline u32 choose(Worker *w, u32 mask) {
  switch (w->order) {
    case Order::in_order: return (u32)__builtin_ctz(mask);
    case Order::reverse: return 31 - (u32)__builtin_clz(mask);
    default: {
      u32 by = random_number(w) & 31;
      u32 rotated = mask >> by | mask << ((32 - by) & 31);
      return ((u32)__builtin_ctz(rotated) + by) & 31;
    }
  }
}

MSL_RARE void nobody_can_run(Worker *w);

inline void make_ready(Worker *w, u32 simdgroup, u32 lanes) {
  w->simdgroups[simdgroup].ready |= lanes;
  w->ready_groups |= 1u << simdgroup;
}

// The next fiber to run, taken out of its simdgroup's ready lanes; null if there is none. In order and in reverse this
// runs one simdgroup until it can run no further, which keeps 32 stacks in the cache instead of a whole threadgroup's.
inline Fiber *take_next(Worker *w) {
  if (!MSL_LIKELY(w->ready_groups)) return nullptr;
  u32 simdgroup = choose(w, w->ready_groups);
  Simdgroup &group = w->simdgroups[simdgroup];
  u32 lane = choose(w, group.ready);
  group.ready &= ~(1u << lane);
  if (!group.ready) w->ready_groups &= ~(1u << simdgroup);
  return &w->fibers[simdgroup * MSL_LANES + lane];
}

// Leaves the running fiber, which waits or has returned, for the next one.
inline void run_next(Worker *w, Fiber *me) {
  Fiber *next = take_next(w);
  if (!MSL_LIKELY(next)) nobody_can_run(w);
  if (next == me) return;
  w->current = next;
  w->switches++;
  msl_switch(&me->stack_pointer, next->stack_pointer);
}

// Leaves the threadgroup for good, from any fiber or from a signal handler on its behalf.
[[noreturn]] void leave(Worker *w);

}  // namespace msl
