// A launch: its threadgroups in the schedule's order, over as many OS threads as asked for.

#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core.h"
#include "faults.h"
#include "fences.h"
#include "fibers.h"
#include "lanes.h"
#include "memory.h"
#include "problems.h"

namespace msl {

enum { SIGNAL_STACK = 64 << 10 };

static Worker *workers[MAX_WORKERS];
static pthread_mutex_t launching = PTHREAD_MUTEX_INITIALIZER;

// What the workers of a launch share.
struct Shared {
  Launch *launch;
  u32 groups[3];
  u32 launched[3];
  u32 group_count;
  u32 *order;                 // of the threadgroups; null is in order
  u32 next;                   // the next one to begin, taken atomically
  bool stop;                  // a worker met a fatal problem
  u64 *addresses;
  u64 code_low, code_high;
};

struct Task {
  Shared *shared;
  Worker *worker;
  pthread_t thread;
};

static u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

// ---- One threadgroup.

static void place_threads(Worker *w) {
  for (u32 i = 0; i < w->threads; i++) {
    Fiber &fiber = w->fibers[i];
    fiber.index = i;
    fiber.lane = i % MSL_LANES;
    fiber.simdgroup = i / MSL_LANES;
    fiber.position[0] = i % w->size[0];
    fiber.position[1] = i / w->size[0] % w->size[1];
    fiber.position[2] = i / w->size[0] / w->size[1];
  }
}

// As dispatchThreads does: the last threadgroup along an axis has what is left of the grid.
static void place_group(Worker *w, u32 group) {
  const u32 *groups = w->groups;
  u32 position[3] = {group % groups[0], group / groups[0] % groups[1], group / groups[0] / groups[1]};
  bool same = true;
  w->group = group;
  for (int i = 0; i < 3; i++) {
    u32 size = smaller(w->launched[i], w->launch->grid[i] - position[i] * w->launched[i]);
    same = same && size == w->size[i];
    w->group_position[i] = position[i];
    w->size[i] = size;
  }
  if (same) return;  // most threadgroups are of one size, and then nothing about their threads changes
  w->threads = w->size[0] * w->size[1] * w->size[2];
  w->simdgroup_count = (w->threads + MSL_LANES - 1) / MSL_LANES;
  place_threads(w);
}

static void run_threadgroup(Worker *w, u32 group) {
  place_group(w, group);
  w->live = w->threads;
  w->arrived = 0;
  w->returned = false;
  w->ready_groups = 0;
  w->random = (w->launch->seed + 1) * 0x9E3779B97F4A7C15ull ^ (group + 1) * 0xD1B54A32D192ED03ull;
  if (!w->random) w->random = 1;
  for (int space = 0; space < 2; space++) w->group_start[space] = ++w->clock[space];
  if (w->check) begin_group_fences();
  poison_variables(w);
  for (u32 i = 0; i < w->simdgroup_count; i++) {
    u32 lanes = smaller(MSL_LANES, w->threads - i * MSL_LANES);
    w->simdgroups[i] = {};
    w->simdgroups[i].live = lanes == MSL_LANES ? ~0u : (1u << lanes) - 1;
    make_ready(w, i, w->simdgroups[i].live);
  }
  for (u32 i = 0; i < w->threads; i++) start_fiber(w, i, fiber_main);
  Fiber *first = take_next(w);
  w->current = first;
  w->switches++;
  msl_switch(&w->main_stack_pointer, first->stack_pointer);
  w->current = nullptr;
}

// ---- One worker.

static Worker *get_worker(u32 number) {
  if (workers[number]) return workers[number];
  u64 slots = MAX_SIMDGROUPS * 2 * MSL_LANES * MSL_SLOT;
  u64 bytes = sizeof(Worker) + slots + SIGNAL_STACK;
  void *map = mmap(nullptr, bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  Worker *w = (Worker *)((u64)map + slots + SIGNAL_STACK);
  w->slots = (u8 *)map;
  w->signal_stack = (u64)map + slots;
  return workers[number] = w;
}

static bool prepare_worker(Worker *w, const Shared *shared) {
  w->launch = shared->launch;
  w->order = (Order)shared->launch->order;
  w->check = shared->launch->check;
  w->addresses = shared->addresses;
  w->code_low = shared->code_low;
  w->code_high = shared->code_high;
  w->aborted = false;
  w->switches = 0;
  w->clock[DEVICE] = w->clock[THREADGROUP] = 0;
  w->barriers = 0;
  if (w->check) begin_fences();
  for (int i = 0; i < 3; i++) {
    w->groups[i] = shared->groups[i];
    w->launched[i] = shared->launched[i];
    w->size[i] = 0;
  }
  prepare_stacks(w, shared->launched[0] * shared->launched[1] * shared->launched[2]);
  return w->stacks && prepare_arena(w);
}

// Which worker runs a threadgroup is left to chance; nothing in a threadgroup depends on it.
static void run_worker(Shared *shared, Worker *w) {
  stack_t stack = {}, before;
  stack.ss_sp = (void *)w->signal_stack;
  stack.ss_size = SIGNAL_STACK;
  sigaltstack(&stack, &before);
  worker = w;
  while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
    u32 at = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED);
    if (at >= shared->group_count) break;
    run_threadgroup(w, shared->order ? shared->order[at] : at);
    if (w->aborted) __atomic_store_n(&shared->stop, true, __ATOMIC_RELAXED);
  }
  worker = nullptr;
  sigaltstack(&before, nullptr);
}

static void *run_task(void *raw) {
  Task *task = (Task *)raw;
  run_worker(task->shared, task->worker);
  return nullptr;
}

// The calling thread is worker 0. One that cannot be started is done without.
static bool run_workers(Shared *shared, u32 count) {
  Task tasks[MAX_WORKERS];
  u32 started = 1;
  for (u32 i = 0; i < count; i++) {
    Worker *w = get_worker(i);
    if (!w || !prepare_worker(w, shared)) return false;
    tasks[i] = {shared, w, 0};
  }
  for (; started < count; started++)
    if (pthread_create(&tasks[started].thread, nullptr, run_task, &tasks[started])) break;
  run_worker(shared, tasks[0].worker);
  for (u32 i = 1; i < started; i++) pthread_join(tasks[i].thread, nullptr);
  for (u32 i = 0; i < started; i++) {
    const Worker *w = tasks[i].worker;
    shared->launch->switches += w->switches;
    if (w->variable_bytes > shared->launch->threadgroup_bytes) shared->launch->threadgroup_bytes = w->variable_bytes;
  }
  return true;
}

// ---- The launch.

// Random: Fisher and Yates' shuffle.
static bool order_groups(Shared *shared) {
  Order order = (Order)shared->launch->order;
  u32 count = shared->group_count;
  if (order == Order::in_order) return true;
  shared->order = (u32 *)malloc(count * sizeof(u32));
  if (!shared->order) return false;
  for (u32 i = 0; i < count; i++) shared->order[i] = order == Order::reverse ? count - 1 - i : i;
  if (order == Order::reverse) return true;
  u64 state = shared->launch->seed * 2 + 1;
  for (u32 i = count; i > 1; i--) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    u32 with = (u32)((state >> 33) % i), kept = shared->order[i - 1];
    shared->order[i - 1] = shared->order[with];
    shared->order[with] = kept;
  }
  return true;
}

struct CodeRange {
  u64 inside, low, high;
};

static int find_code(struct dl_phdr_info *object, size_t, void *raw) {
  CodeRange *range = (CodeRange *)raw;
  u64 low = ~0ull, high = 0;
  bool found = false;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const auto &segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    u64 begin = object->dlpi_addr + segment.p_vaddr, end = begin + segment.p_memsz;
    found = found || (range->inside >= begin && range->inside < end);
    low = begin < low ? begin : low;
    high = end > high ? end : high;
  }
  if (!found) return 0;
  // Addresses are reported relative to the load address, which is what debug information counts from.
  range->low = object->dlpi_addr < low ? object->dlpi_addr : low;
  range->high = high;
  return 1;
}

static bool divide_grid(Launch *launch, Shared *shared) {
  u64 groups = 1, threads = 1;
  for (int i = 0; i < 3; i++) {
    u32 grid = launch->grid[i];
    if (!grid || !launch->threadgroup[i]) {
      report_launch(launch, Kind::threads, "an empty grid or threadgroup");
      return false;
    }
    shared->launched[i] = smaller(launch->threadgroup[i], grid);  // as MLX does
    shared->groups[i] = (u32)(((u64)grid + shared->launched[i] - 1) / shared->launched[i]);
    groups *= shared->groups[i];
    threads *= shared->launched[i];
    if (groups > ~0u || threads > ~0u) break;
  }
  if (threads > MSL_MAX_THREADS) {
    report_launch(launch, Kind::threads, "a threadgroup of %llu threads, the limit is %u", (unsigned long long)threads,
                  MSL_MAX_THREADS);
    return false;
  }
  if (groups >= 1u << 31) {
    report_launch(launch, Kind::threads, "%llu threadgroups are more than the host counts", (unsigned long long)groups);
    return false;
  }
  shared->group_count = (u32)groups;
  return true;
}

// Check mode runs on one OS thread: its clocks and cells are not locked, and its rule for what another threadgroup did
// (whatever is older than this threadgroup's start) needs threadgroups to run one after the other.
static u32 worker_count(const Launch *launch, const Shared *shared) {
  u32 wanted = launch->check ? 1 : smaller(launch->threads ? launch->threads : 1, MAX_WORKERS);
  return smaller(wanted, shared->group_count);
}

static void run(Launch *launch) {
  Shared shared = {};
  shared.launch = launch;
  if (!divide_grid(launch, &shared)) return;
  CodeRange range = {(u64)launch->entry, 0, 0};
  dl_iterate_phdr(find_code, &range);
  shared.code_low = range.low;
  shared.code_high = range.high;
  Handlers handlers;
  bool ready = create_buffers(launch) && order_groups(&shared);
  shared.addresses = (u64 *)calloc(launch->argument_count + 1, sizeof(u64));
  if (ready && shared.addresses) {
    for (u32 i = 0; i < buffer_count; i++) shared.addresses[i] = buffers[i].low;
    install_handlers(&handlers);
    ready = run_workers(&shared, worker_count(launch, &shared));
    restore_handlers(&handlers);
  }
  if (!ready || !shared.addresses) report_launch(launch, Kind::failure, "the host has no memory for this launch");
  free(shared.addresses);
  free(shared.order);
  destroy_buffers(launch);
}

}  // namespace msl

using namespace msl;

extern "C" __attribute__((visibility("default"))) void msl_launch(Launch *launch) {
  pthread_mutex_lock(&launching);
  run(launch);
  pthread_mutex_unlock(&launching);
}
