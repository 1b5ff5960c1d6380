#include "shadow.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "fences.h"
#include "problems.h"

namespace msl {

enum : u32 { COARSEST = 16, ATOMIC_WORD = 4 };

static u64 words(u64 bytes) { return (bytes + ATOMIC_WORD - 1) / ATOMIC_WORD; }

// Untouched pages of a mapping cost nothing, and the kernel hands them out filled with zeros: "never".
static void *map(u64 bytes) {
  void *memory = mmap(nullptr, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

Shadow *create_shadow(u64 base, u64 bytes) {
  Shadow *shadow = (Shadow *)calloc(1, sizeof(Shadow));
  if (!shadow) return nullptr;
  *shadow = {base, bytes, COARSEST, (Cell *)map(bytes * sizeof(Cell)), nullptr};
  if (shadow->cells) return shadow;
  free(shadow);
  return nullptr;
}

void destroy_shadow(Shadow *shadow) {
  if (!shadow) return;
  munmap(shadow->cells, shadow->bytes * sizeof(Cell) + 1);
  if (shadow->atomics) munmap(shadow->atomics, words(shadow->bytes) * sizeof(AtomicCell) + 1);
  free(shadow);
}

// Cells begin coarse and are split when a smaller or differently aligned access comes: a cell never stands for bytes
// with different histories. Most memory is accessed in one size only, so most cells stay as coarse as that.
static MSL_RARE void refine(Shadow *shadow, u64 offset, u64 bytes) {
  u32 coarse = shadow->granule;
  u64 cells = (shadow->bytes + coarse - 1) / coarse;
  u32 fine = coarse;
  while ((offset | bytes) & (fine - 1)) fine /= 2;
  u32 parts = coarse / fine;
  u64 fine_cells = (shadow->bytes + fine - 1) / fine;
  for (u64 i = cells; i-- > 0;) {  // from the end, since it is done in place
    Cell cell = shadow->cells[i];
    for (u32 part = parts; part-- > 0;)
      if (i * parts + part < fine_cells) shadow->cells[i * parts + part] = cell;
  }
  shadow->granule = fine;
}

// The state of the running thread that every cell of an access is compared with.
struct Now {
  Worker *w;
  Space space;
  u32 clock, start, thread, simdgroup, simdgroup_bit, lane_bit, epoch, code;
};

static Now now(Worker *w, Space space, u64 code) {
  const Fiber *me = w->current;
  return {w,
          space,
          w->clock[space],
          w->group_start[space],
          me->index,
          me->simdgroup,
          1u << me->simdgroup,
          1u << me->lane,
          w->simdgroups[me->simdgroup].epoch[space],
          (u32)(code - w->code_low)};
}

static bool write_is_ordered(const Now &n, const Cell &cell) {
  if (!cell.write_clock) return true;
  if (cell.write_clock == n.clock)
    return cell.write_thread == n.thread ||
           (cell.write_thread / MSL_LANES == n.simdgroup && cell.write_epoch != n.epoch);
  if (cell.write_clock >= n.start) return true;
  return n.space == THREADGROUP ||
         synchronised(n.w, cell.write_clock, cell.write_thread, cell.write_epoch);
}

static bool readers_are_ordered(const Now &n, const Readers &readers) {
  if (readers.clock == n.clock && n.clock) {
    if (readers.simdgroups & ~n.simdgroup_bit) return false;
    if (readers.epoch == n.epoch && readers.lanes & ~n.lane_bit) return false;
  }
  if (n.space == THREADGROUP) return true;
  if (readers.clock && readers.clock < n.start &&
      !synchronised_set(n.w, readers.clock, readers.simdgroups, readers.epoch, readers.lanes))
    return false;
  // Of several earlier threadgroups one is remembered. Without fences any of them is a conflict; with fences the ones
  // before it are taken to be synchronised as it is.
  return !readers.earlier || synchronised_set(n.w, readers.earlier, ~0u, 0, 0);
}

static void remember(const Now &n, Readers &readers) {
  readers.code = n.code;
  if (readers.clock != n.clock) {
    if (n.space == DEVICE && readers.clock && readers.clock < n.start) readers.earlier = readers.clock;
    readers.clock = n.clock;
    readers.simdgroups = n.simdgroup_bit;
    readers.epoch = n.epoch;
    readers.lanes = n.lane_bit;
  } else if (readers.simdgroups != n.simdgroup_bit) {
    readers.simdgroups |= n.simdgroup_bit;
  } else if (readers.epoch != n.epoch) {
    readers.epoch = n.epoch;
    readers.lanes = n.lane_bit;
  } else {
    readers.lanes |= n.lane_bit;
  }
}

static const char *verb(Access access) {
  switch (access) {
    case Access::read: return "reads";
    case Access::write: return "writes";
    case Access::atomic_load: return "atomically reads";
    default: return "atomically writes";
  }
}

static MSL_RARE void report_write_race(const Now &n, Where where, u64 offset, const Cell &cell, Access access) {
  bool elsewhere = cell.write_clock < n.start;
  report(n.w, Kind::race, n.w->code_low + n.code, n.w->code_low + cell.write_code,
         "race on %s %u, byte %llu: thread %u %s what thread %u%s wrote, with %s between that orders it", where.what,
         where.number, (unsigned long long)offset, n.thread, verb(access), cell.write_thread,
         elsewhere ? " of another threadgroup" : "", elsewhere ? "nothing" : "no barrier");
}

static MSL_RARE void report_readers_race(const Now &n, Where where, u64 offset, const Readers &readers, bool atomic,
                                         Access access) {
  u64 code = n.w->code_low + readers.code;
  const char *did = atomic ? "accessed atomically" : "read";
  if (readers.clock < n.start || readers.earlier) {
    report(n.w, Kind::race, n.w->code_low + n.code, code,
           "race on %s %u, byte %llu: thread %u %s what another threadgroup %s, with nothing between that orders it",
           where.what, where.number, (unsigned long long)offset, n.thread, verb(access), did);
    return;
  }
  u32 others = readers.simdgroups & ~n.simdgroup_bit;
  u32 simdgroup = others ? (u32)__builtin_ctz(others) : n.simdgroup;
  report(n.w, Kind::race, n.w->code_low + n.code, code,
         "race on %s %u, byte %llu: thread %u (simdgroup %u) %s what another thread of simdgroup %u %s, with no "
         "barrier between that orders it",
         where.what, where.number, (unsigned long long)offset, n.thread, n.simdgroup, verb(access), simdgroup, did);
}

static MSL_RARE void report_uninitialised(const Now &n, Where where, u64 offset) {
  report(n.w, Kind::uninitialised, n.w->code_low + n.code, 0,
         "thread %u reads %s %u, byte %llu, which no thread of the threadgroup has written", n.thread, where.what,
         where.number, (unsigned long long)offset);
}

// An access's two faces: what it must be ordered after among plain accesses, and among atomic ones.
static bool is_atomic(Access access) { return access >= Access::atomic_load; }
static bool is_read(Access access) { return access != Access::write && access != Access::atomic_store; }
static bool is_write(Access access) { return access != Access::read && access != Access::atomic_load; }

static bool written_atomically(const Now &n, const Shadow *shadow, u64 offset) {
  return shadow->atomics && shadow->atomics[offset / ATOMIC_WORD].stores.clock >= n.start;
}

static void check_atomic_words(const Now &n, Shadow *shadow, Where where, u64 offset, u64 bytes, Access access) {
  for (u64 word = offset / ATOMIC_WORD; word <= (offset + bytes - 1) / ATOMIC_WORD; word++) {
    AtomicCell &cell = shadow->atomics[word];
    if (is_atomic(access)) {
      remember(n, access == Access::atomic_load ? cell.loads : cell.stores);
      if (n.space == DEVICE) synchronise_through(n.w, &cell.released, is_write(access));
      continue;
    }
    if (!readers_are_ordered(n, cell.stores)) report_readers_race(n, where, offset, cell.stores, true, access);
    if (access == Access::write && !readers_are_ordered(n, cell.loads))
      report_readers_race(n, where, offset, cell.loads, true, access);
  }
}

void check_access(Worker *w, Shadow *shadow, Space space, Where where, u64 address, u64 bytes, Access access,
                  u64 code) {
  u64 offset = address - shadow->base;
  if (!MSL_LIKELY(!((offset | bytes) & (shadow->granule - 1)))) refine(shadow, offset, bytes);
  const Now n = now(w, space, code);
  if (is_atomic(access) && !shadow->atomics) {
    shadow->atomics = (AtomicCell *)map(words(shadow->bytes) * sizeof(AtomicCell));
    if (!shadow->atomics) fail(w, Kind::failure, code, 0, "no memory for the checker");
  }
  u64 first = offset / shadow->granule, last = (offset + bytes - 1) / shadow->granule;
  for (u64 i = first; i <= last; i++) {
    Cell &cell = shadow->cells[i];
    if (!MSL_LIKELY(write_is_ordered(n, cell))) report_write_race(n, where, i * shadow->granule, cell, access);
    if (is_write(access)) {
      if (!MSL_LIKELY(readers_are_ordered(n, cell.readers)))
        report_readers_race(n, where, i * shadow->granule, cell.readers, false, access);
    }
    if (is_read(access) && space == THREADGROUP && cell.write_clock < n.start &&
        !written_atomically(n, shadow, i * shadow->granule))
      report_uninitialised(n, where, i * shadow->granule);
    if (access == Access::write) {
      // Whatever is ordered after this write is ordered after the reads before it, so they can be forgotten.
      cell = {n.clock, n.thread, n.epoch, n.code, {}};
    } else if (access == Access::read) {
      remember(n, cell.readers);
    }
  }
  if (!MSL_LIKELY(!shadow->atomics)) check_atomic_words(n, shadow, where, offset, bytes, access);
}

u64 count_unwritten(const Shadow *shadow) {
  u64 unwritten = 0;
  for (u64 offset = 0; offset < shadow->bytes; offset += shadow->granule) {
    bool written = shadow->cells[offset / shadow->granule].write_clock ||
                   (shadow->atomics && shadow->atomics[offset / ATOMIC_WORD].stores.clock);
    u64 left = shadow->bytes - offset;
    if (!written) unwritten += left < shadow->granule ? left : shadow->granule;
  }
  return unwritten;
}

}  // namespace msl
