// The callbacks of clang's ThreadSanitizer pass, which come before each access of a kernel built for check mode.

#include "checker.h"

#include <string.h>

#include "fibers.h"
#include "memory.h"
#include "problems.h"
#include "shadow.h"

namespace msl {

static bool reads(Access access) { return access == Access::read || access == Access::atomic_load; }
static const Access atomic_accesses[] = {Access::atomic_load, Access::atomic_store, Access::atomic_update};

// An access outside everything ends the launch: it would fault, or spoil what it hits.
static MSL_RARE void fail_out_of_bounds(Worker *w, u64 address, u64 bytes, Access access, u64 code) {
  const char *verb = reads(access) ? "read" : "write";
  if (Variable *variable = find_variable(w, address))
    fail(w, Kind::out_of_bounds, code, 0, "%s of %llu bytes outside threadgroup variable %u: at byte %lld of its %u",
         verb, (unsigned long long)bytes, variable->id, (long long)(address - variable->address), variable->size);
  if (Buffer *buffer = find_buffer(address))
    fail(w, Kind::out_of_bounds, code, 0, "%s of %llu bytes outside buffer %u: at byte %lld of its %llu", verb,
         (unsigned long long)bytes, (u32)(buffer - buffers), (long long)(address - buffer->low),
         (unsigned long long)(buffer->high - buffer->low));
  fail(w, Kind::out_of_bounds, code, 0, "%s of %llu bytes at 0x%llx, in no buffer and no threadgroup variable", verb,
       (unsigned long long)bytes, (unsigned long long)address);
}

static bool inside(u64 address, u64 bytes, u64 low, u64 size) {
  return address - low < size && bytes <= size - (address - low);
}

void access_memory(u64 address, u64 bytes, Access access, u64 code) {
  Worker *w = worker;
  if (!w || !bytes) return;
  // Its own stack; what other threads have on theirs is out of bounds.
  if (address - stack_low(w, w->current->index) < STACK) return;
  for (u32 i = 0; i < w->variable_count; i++) {
    const Variable &variable = w->variables[i];
    if (!inside(address, bytes, variable.address, variable.size)) continue;
    check_access(w, variable.shadow, THREADGROUP, {"threadgroup variable", variable.id}, address, bytes, access, code);
    return;
  }
  for (u32 i = 0; i < buffer_count; i++) {
    const Buffer &buffer = buffers[i];
    if (!inside(address, bytes, buffer.low, buffer.high - buffer.low)) continue;
    if (buffer.shadow)
      check_access(w, buffer.shadow, DEVICE, {"buffer", i}, address, bytes, access, code);
    else if (!reads(access))
      fail(w, Kind::read_only, code, 0, "write to read-only buffer %u, byte %llu", i,
           (unsigned long long)(address - buffer.low));
    return;
  }
  bool slots = inside(address, bytes, (u64)w->slots, MAX_SIMDGROUPS * 2 * MSL_LANES * MSL_SLOT);
  bool constants = inside(address, bytes, w->code_low, w->code_high - w->code_low);
  if (!slots && !(constants && reads(access))) fail_out_of_bounds(w, address, bytes, access, code);
}

// The pass promises to call the aligned callbacks only where the program promises alignment; what breaks its promise
// works on a CPU, mostly, and not on a GPU.
static inline void aligned_access(void *pointer, u64 bytes, Access access, u64 code) {
  u64 address = (u64)pointer, alignment = bytes < 8 ? bytes : 8;
  if (!MSL_LIKELY(!(address & (alignment - 1))))
    report(worker, Kind::misaligned, code, 0, "%s of %llu bytes at an address that is no multiple of %llu",
           reads(access) ? "read" : "write", (unsigned long long)bytes, (unsigned long long)alignment);
  access_memory(address, bytes, access, code);
}

}  // namespace msl

using namespace msl;

#define MSL_EXPORT extern "C" __attribute__((visibility("default")))

#define MSL_CALLBACKS(bytes)                                                              \
  MSL_EXPORT void __tsan_read##bytes(void *p) {                                           \
    aligned_access(p, bytes, Access::read, MSL_CALLER);                                   \
  }                                                                                       \
  MSL_EXPORT void __tsan_write##bytes(void *p) {                                          \
    aligned_access(p, bytes, Access::write, MSL_CALLER);                                  \
  }                                                                                       \
  MSL_EXPORT void __tsan_read_write##bytes(void *p) {                                     \
    aligned_access(p, bytes, Access::read, MSL_CALLER);                                   \
    access_memory((u64)p, bytes, Access::write, MSL_CALLER);                              \
  }                                                                                       \
  MSL_EXPORT void __tsan_unaligned_read##bytes(void *p) {                                 \
    access_memory((u64)p, bytes, Access::read, MSL_CALLER);                               \
  }                                                                                       \
  MSL_EXPORT void __tsan_unaligned_write##bytes(void *p) {                                \
    access_memory((u64)p, bytes, Access::write, MSL_CALLER);                              \
  }                                                                                       \
  MSL_EXPORT void __tsan_unaligned_read_write##bytes(void *p) {                           \
    access_memory((u64)p, bytes, Access::read, MSL_CALLER);                               \
    access_memory((u64)p, bytes, Access::write, MSL_CALLER);                              \
  }
MSL_CALLBACKS(1)
MSL_CALLBACKS(2)
MSL_CALLBACKS(4)
MSL_CALLBACKS(8)
MSL_CALLBACKS(16)

MSL_EXPORT void __tsan_init() {}
MSL_EXPORT void __tsan_func_entry(void *) {}
MSL_EXPORT void __tsan_func_exit() {}

MSL_EXPORT void *__tsan_memcpy(void *to, const void *from, u64 bytes) {
  access_memory((u64)from, bytes, Access::read, MSL_CALLER);
  access_memory((u64)to, bytes, Access::write, MSL_CALLER);
  return memcpy(to, from, bytes);
}
MSL_EXPORT void *__tsan_memmove(void *to, const void *from, u64 bytes) {
  access_memory((u64)from, bytes, Access::read, MSL_CALLER);
  access_memory((u64)to, bytes, Access::write, MSL_CALLER);
  return memmove(to, from, bytes);
}
MSL_EXPORT void *__tsan_memset(void *to, int value, u64 bytes) {
  access_memory((u64)to, bytes, Access::write, MSL_CALLER);
  return memset(to, value, bytes);
}

void __msl_atomic_access(u64 address, u32 bytes, u32 kind) {
  Worker *w = worker;
  if (!w->check) return;
  access_memory(address, bytes, atomic_accesses[kind <= MSL_ATOMIC_UPDATE ? kind : 0], MSL_CALLER);
}
