// What all parts of the runtime share: the launch, the worker that runs threadgroups, its fibers and simdgroups.
//
// Every thread of a threadgroup is a fiber: a stack and a saved stack pointer. A worker is one OS thread that runs one
// threadgroup at a time, from its first thread to its last; fibers leave off only where the kernel synchronises
// (exchanges and barriers), so between two such places a thread runs alone. Workers share nothing but the launch.
//
// The runtime is built without the C++ library, so that a kernel's process loads nothing beyond libc.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "abi.h"

namespace msl {

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

enum {
  MAX_SIMDGROUPS = MSL_MAX_THREADS / MSL_LANES,
  MAX_VARIABLES = 128,   // threadgroup variables of a kernel
  MAX_PROBLEMS = 32,     // problems recorded in a launch
  MAX_WORKERS = 64,
  PAGE = 4096,           // granularity of guards; a multiple of it is used where pages are larger
};

// ---- What Python passes in and gets back. native.py mirrors these layouts.

enum class Kind : u32 {
  race = 1,
  uninitialised,
  out_of_bounds,
  read_only,
  misaligned,
  divergence,
  early_return,
  deadlock,
  threadgroup_memory,
  threads,
  stack_overflow,
  fault,
  failure,
};

struct Problem {
  u32 kind;
  u32 fatal;            // the launch ended here
  u32 thread;           // index in its threadgroup, ~0 where there is none
  u32 threadgroup[3];
  u64 code[2];          // offsets in the kernel's shared object: this access, the other one; 0 where unknown
  char message[240];
};

struct Argument {
  void *data;           // the caller's array: copied in before the launch, copied out after it where writable
  u64 bytes;
  u32 writable;
  u32 align;            // of the address that the kernel sees
  u64 unwritten;        // out, in check mode: bytes of a writable buffer that no thread wrote
};

enum class Order : u32 { in_order, reverse, random };

struct Launch {
  void (*entry)(u64 *);
  Argument *arguments;
  u32 argument_count;
  u32 grid[3];
  u32 threadgroup[3];
  u32 order;
  u64 seed;
  u32 check;
  u32 strict;
  u32 poison;
  u32 threads;
  u32 threadgroup_memory;
  u32 guard_start;       // buffers begin right after a guard page instead of ending right before one
  // Out.
  u64 switches;
  u32 threadgroup_bytes;
  u32 problem_count;     // MAX_PROBLEMS + 1 stands for more
  Problem problems[MAX_PROBLEMS];
};

// ---- Memory that kernels see.

struct Shadow;

struct Buffer {
  u64 low, high;         // the kernel's bytes
  u64 map, map_bytes;    // the whole reservation, guards included
  u32 writable;
  Shadow *shadow;        // null for read-only buffers: reads alone cannot race
};

struct Variable {        // a threadgroup variable
  u32 id, size;
  u64 key, address;
  Shadow *shadow;
};

// ---- Execution.

enum class Wait : u32 { none, exchange, simdgroup_barrier };

enum Space { DEVICE, THREADGROUP };  // address spaces that barriers order

struct Fiber {
  void *stack_pointer;
  u64 site;              // where it waits: the return address of its synchronising call
  u32 index, lane, simdgroup;
  u32 position[3];       // in the threadgroup
};

// Lanes are bits. A live lane is in exactly one of: running, ready, waiting (for its simdgroup), at_barrier.
struct Simdgroup {
  u32 live, ready, waiting, at_barrier;
  u32 active;            // lanes of the last exchange
  u32 parity;            // which of the two sets of slots the next exchange uses
  Wait wait;             // what the first of the waiting lanes waits for, and where
  u32 op, flags;
  u64 site;
  u32 epoch[2];          // by Space: simdgroup barriers passed that order it
};

struct Worker {
  Fiber *current;
  void *main_stack_pointer;   // of run_threadgroup, while fibers run
  Launch *launch;
  u64 code_low, code_high;    // the kernel's shared object
  u64 *addresses;             // of the buffers, as the kernel gets them
  Order order;
  bool check;

  // The threadgroup that runs.
  u32 group;                  // its serial number in the grid
  u32 group_position[3];
  u32 groups[3];              // threadgroups in the grid
  u32 launched[3];            // threads of a full threadgroup
  u32 size[3];                // threads of this one
  u32 threads, live, simdgroup_count;
  u32 ready_groups;           // simdgroups with a ready lane, as bits
  bool aborted;               // it met a fatal problem

  // Its threadgroup barrier.
  u32 arrived, barrier_flags;
  u64 barrier_site;
  u32 barrier_thread;         // who came first
  bool returned;              // a thread has returned
  u32 barriers;               // passed so far

  // Check mode: clocks by Space, which tick at barriers and between threadgroups, so that a value names one span of
  // one threadgroup. 0 is before everything.
  u32 clock[2];
  u32 group_start[2];

  u64 random;
  u64 switches;

  Variable variables[MAX_VARIABLES];
  u32 variable_count, variable_bytes;
  u64 arena, arena_used;

  u64 stacks;
  u32 stacks_ready;
  u64 signal_stack;

  Fiber fibers[MSL_MAX_THREADS];
  Simdgroup simdgroups[MAX_SIMDGROUPS];
  u8 *slots;                  // [simdgroup][2][lane][MSL_SLOT]
};

// The worker of this OS thread while it runs kernels. Fibers never change OS threads, so its address may be kept across
// a switch. initial-exec: one instruction to reach, where a shared library's default is a call.
extern __thread Worker *worker __attribute__((tls_model("initial-exec")));

// The process runs one launch at a time; these are its buffers.
extern Buffer *buffers;
extern u32 buffer_count;

#define MSL_LIKELY(x) __builtin_expect(!!(x), 1)
#define MSL_RARE __attribute__((noinline, cold))

// Where a synchronising call or an instrumented access was made. One less than the return address: inside the call.
#define MSL_CALLER ((u64)__builtin_return_address(0) - 1)

}  // namespace msl
