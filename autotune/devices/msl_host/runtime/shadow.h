// Shadow memory: who wrote and read each byte last, and whether an access now is ordered after them.
//
// Within a threadgroup accesses are ordered by barriers alone, which makes vector clocks unnecessary: an access bears
// the value of its space's clock (Worker::clock), which ticks at each threadgroup barrier that orders the space, and
// its simdgroup's epoch, which ticks at each such simdgroup barrier. Two accesses of one threadgroup are ordered if the
// clock has ticked between them, or if they are of one simdgroup and its epoch has. This is exact: for readers a cell
// keeps the *set* of simdgroups that read in the present span of the clock, and, while there is only one, the set of
// its lanes that read in the present epoch. A write conflicts with a reader of another simdgroup, or with another lane
// of its own in this epoch; no reader need be forgotten.
//
// Clocks are never reset, so a cell whose value is older than the threadgroup's start belongs to another threadgroup
// and the shadow of threadgroup memory needs no clearing.
#pragma once

#include "core.h"

namespace msl {

struct Readers {
  u32 clock;          // the span in which the sets below were read; 0 is never
  u32 simdgroups;     // that read, as bits
  u32 epoch;          // of the only simdgroup, where there is one
  u32 lanes;          // of it, that read in that epoch
  u32 earlier;        // clock of a read by an earlier threadgroup; 0 is none
  u32 code;           // offset of the latest read
};

struct Cell {         // 36 bytes, for each `granule` bytes of memory
  u32 write_clock;    // 0 is never
  u32 write_thread;   // index in the threadgroup
  u32 write_epoch;
  u32 write_code;
  Readers readers;
};

struct AtomicCell {   // for each four bytes of memory that see atomic operations
  Readers loads;
  Readers stores;     // updates too. A set like readers, since atomics do not conflict with each other
  u32 released;       // fences.h
};

struct Shadow {
  u64 base, bytes;
  u32 granule;        // bytes a cell stands for
  Cell *cells;
  AtomicCell *atomics;  // null until the first atomic access
};

enum class Access { read, write, atomic_load, atomic_store, atomic_update };

struct Where {        // what messages call the memory
  const char *what;
  u32 number;
};

Shadow *create_shadow(u64 base, u64 bytes);
void destroy_shadow(Shadow *shadow);

// Checks an access of `bytes` bytes at `address`, inside the shadow, against what went before, and remembers it.
void check_access(Worker *w, Shadow *shadow, Space space, Where where, u64 address, u64 bytes, Access access, u64 code);

// Bytes that nobody has written.
u64 count_unwritten(const Shadow *shadow);

}  // namespace msl
