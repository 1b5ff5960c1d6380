// What a thread may know about where it is.

#include "core.h"

using namespace msl;

static u32 up(u32 threads, u32 to) { return (threads + to - 1) / to; }

u32 __msl_attr(u32 index) {
  const Worker *w = worker;
  const Fiber *me = w->current;
  if (index == MSL_THREAD_INDEX_IN_SIMDGROUP) return me->lane;  // asked for at every shuffle
  if (index < MSL_THREAD_POSITION_IN_GRID) {
    u32 launched = w->launched[0] * w->launched[1] * w->launched[2];
    switch (index) {
      case MSL_SIMDGROUP_INDEX_IN_THREADGROUP: return me->simdgroup;
      case MSL_THREAD_INDEX_IN_THREADGROUP: return me->index;
      case MSL_SIMDGROUPS_PER_THREADGROUP: return w->simdgroup_count;
      case MSL_DISPATCH_SIMDGROUPS_PER_THREADGROUP: return up(launched, MSL_LANES);
      case MSL_THREADS_PER_SIMDGROUP: return MSL_LANES;
      case MSL_QUADGROUP_INDEX_IN_THREADGROUP: return me->index / 4;
      case MSL_QUADGROUPS_PER_THREADGROUP: return up(w->threads, 4);
      case MSL_THREAD_INDEX_IN_QUADGROUP: return me->index % 4;
      case MSL_DISPATCH_QUADGROUPS_PER_THREADGROUP: return up(launched, 4);
      default: return 0;
    }
  }
  u32 axis = index % 3;  // the three-component attributes begin at multiples of three
  switch (index - axis) {
    case MSL_THREAD_POSITION_IN_GRID: return w->group_position[axis] * w->launched[axis] + me->position[axis];
    case MSL_THREAD_POSITION_IN_THREADGROUP: return me->position[axis];
    case MSL_THREADGROUP_POSITION_IN_GRID: return w->group_position[axis];
    case MSL_THREADGROUPS_PER_GRID: return w->groups[axis];
    case MSL_THREADS_PER_GRID: return w->launch->grid[axis];
    case MSL_THREADS_PER_THREADGROUP: return w->size[axis];
    case MSL_DISPATCH_THREADS_PER_THREADGROUP: return w->launched[axis];
    default: return 0;  // the grid's origin among them
  }
}
