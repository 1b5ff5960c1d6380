#include "fences.h"

#include <stdlib.h>
#include <string.h>

#include "problems.h"

namespace msl {

// A list that grows; a kernel with fences makes a few entries a threadgroup.
template <class T>
struct List {
  T *items;
  u32 count, room;

  T &add() {
    if (count == room) {
      room = room ? room * 2 : 64;
      items = (T *)realloc(items, room * sizeof(T));
      if (!items) abort();  // the checker cannot say that there is no memory without any
    }
    memset(&items[count], 0, sizeof(T));
    return items[count++];
  }
};

// Threads of one threadgroup that passed a fence in one span of the device clock, and where their simdgroups were.
struct Fence {
  u32 group_start;            // device clock at the start of the threadgroup, which names it
  u32 clock;
  u32 barriers;               // the threadgroup's barriers before it
  u32 release;                // for an acquire: which release was seen
  u32 lanes[MAX_SIMDGROUPS];
  u32 epoch[MAX_SIMDGROUPS];  // latest, where a lane is set
};

struct Link {                 // the releases seen at a location: a chain of links, the latest first; 0 is the end
  u32 release, next;
};

struct Seen {                 // an atomic operation that an acquire fence may follow
  u32 thread, barriers, released;
};

static List<Fence> releases, acquires;
static List<Link> links;
static List<Seen> seen;

void begin_fences() {
  releases.count = links.count = 0;
  links.add();
  begin_group_fences();
}

void begin_group_fences() { acquires.count = seen.count = 0; }

static void pass(Worker *w, List<Fence> *fences, u32 release) {
  const Fiber *me = w->current;
  Fence *fence = nullptr;
  for (u32 i = fences->count; i-- > 0 && !fence;) {
    Fence &known = fences->items[i];
    if (known.group_start != w->group_start[DEVICE]) break;
    if (known.clock == w->clock[DEVICE] && known.barriers == w->barriers && known.release == release) fence = &known;
  }
  if (!fence) {
    fence = &fences->add();
    fence->group_start = w->group_start[DEVICE];
    fence->clock = w->clock[DEVICE];
    fence->barriers = w->barriers;
    fence->release = release;
  }
  fence->lanes[me->simdgroup] |= 1u << me->lane;
  fence->epoch[me->simdgroup] = w->simdgroups[me->simdgroup].epoch[DEVICE];
}

static bool has_thread(const Fence &fence, u32 thread) {
  return fence.lanes[thread / MSL_LANES] >> thread % MSL_LANES & 1;
}

// Whether the access came before the fence in some thread that passed it, or before a barrier that such a thread passed
// first. Accesses of the same thread after the fence, in the same span, are taken for earlier ones.
static bool before(u32 clock, u32 thread, u32 epoch, const Fence &fence) {
  if (clock != fence.clock) return clock >= fence.group_start && clock < fence.clock;
  u32 simdgroup = thread / MSL_LANES;
  return has_thread(fence, thread) || (fence.lanes[simdgroup] && epoch < fence.epoch[simdgroup]);
}

// Whether what the running thread does now comes after the fence, likewise.
static bool after(const Worker *w, const Fence &fence) {
  if (fence.clock != w->clock[DEVICE]) return true;
  const Fiber *me = w->current;
  return has_thread(fence, me->index) ||
         (fence.lanes[me->simdgroup] && fence.epoch[me->simdgroup] < w->simdgroups[me->simdgroup].epoch[DEVICE]);
}

static void link(u32 *released, u32 release) {
  for (u32 i = *released; i; i = links.items[i].next)
    if (links.items[i].release == release) return;
  Link &added = links.add();
  added = {release, *released};
  *released = links.count - 1;
}

void synchronise_through(Worker *w, u32 *released, bool write) {
  if (*released) {
    Seen &operation = seen.add();
    operation = {w->current->index, w->barriers, *released};
  }
  if (!write) return;
  for (u32 i = releases.count; i-- > 0;) {
    const Fence &fence = releases.items[i];
    if (fence.group_start != w->group_start[DEVICE]) break;
    if (fence.barriers < w->barriers || has_thread(fence, w->current->index)) link(released, i);
  }
  // What this threadgroup has acquired it passes on.
  for (u32 i = 0; i < acquires.count; i++)
    if (after(w, acquires.items[i])) link(released, acquires.items[i].release);
}

static void acquire(Worker *w) {
  for (u32 i = 0; i < seen.count; i++) {
    const Seen operation = seen.items[i];
    if (operation.thread != w->current->index && operation.barriers >= w->barriers) continue;
    for (u32 at = operation.released; at; at = links.items[at].next) pass(w, &acquires, links.items[at].release);
  }
}

bool synchronised(Worker *w, u32 clock, u32 thread, u32 epoch) {
  for (u32 i = 0; i < acquires.count; i++) {
    const Fence &fence = acquires.items[i];
    if (before(clock, thread, epoch, releases.items[fence.release]) && after(w, fence)) return true;
  }
  return false;
}

bool synchronised_set(Worker *w, u32 clock, u32 simdgroups, u32 epoch, u32 lanes) {
  for (u32 simdgroup = 0; simdgroup < MAX_SIMDGROUPS; simdgroup++) {
    if (!(simdgroups >> simdgroup & 1)) continue;
    // Which lanes of several simdgroups read is not remembered: then all must be ordered.
    bool one = simdgroups == 1u << simdgroup;
    for (u32 lane = 0; lane < MSL_LANES; lane++) {
      if (one && !(lanes >> lane & 1)) continue;
      if (!synchronised(w, clock, simdgroup * MSL_LANES + lane, one ? epoch : ~0u)) return false;
    }
  }
  return true;
}

}  // namespace msl

using namespace msl;

void __msl_fence(u32 flags, u32 order, u32 scope) {
  Worker *w = worker;
  if (!w->check || !(flags & MSL_MEM_DEVICE) || scope < MSL_SCOPE_DEVICE) return;
  if (order != MSL_ORDER_RELAXED && order != MSL_ORDER_RELEASE) acquire(w);
  if (order != MSL_ORDER_RELAXED && order != MSL_ORDER_ACQUIRE) pass(w, &releases, 0);
}
