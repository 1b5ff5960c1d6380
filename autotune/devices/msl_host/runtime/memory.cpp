#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "problems.h"
#include "shadow.h"

namespace msl {

Buffer *buffers;
u32 buffer_count;

static u64 round_up(u64 value, u64 to) { return (value + to - 1) / to * to; }

static u64 page() { return (u64)sysconf(_SC_PAGESIZE); }

static u64 reserve(u64 bytes) {
  void *map = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return map == MAP_FAILED ? 0 : (u64)map;
}

// The data ends at a guard, but for what the alignment of its beginning leaves over (exact bounds are check mode's), or
// begins right after one. Read-only buffers are write-protected, so that a write to them faults in every mode.
static bool create_buffer(const Argument &argument, bool guard_start, bool check, Buffer *buffer) {
  u64 room = round_up(argument.bytes ? argument.bytes : 1, page());
  buffer->map_bytes = room + 2 * GUARD;
  buffer->map = reserve(buffer->map_bytes);
  if (!buffer->map) return false;
  u64 first = buffer->map + GUARD;
  if (mprotect((void *)first, room, PROT_READ | PROT_WRITE)) return false;
  buffer->low = guard_start ? first : (first + room - argument.bytes) / argument.align * argument.align;
  buffer->high = buffer->low + argument.bytes;
  buffer->writable = argument.writable;
  memset((void *)first, POISON, buffer->low - first);
  memset((void *)buffer->high, POISON, first + room - buffer->high);
  memcpy((void *)buffer->low, argument.data, argument.bytes);
  if (!argument.writable) return !mprotect((void *)first, room, PROT_READ);
  buffer->shadow = check ? create_shadow(buffer->low, argument.bytes) : nullptr;
  return !check || buffer->shadow;
}

bool create_buffers(Launch *launch) {
  buffers = (Buffer *)calloc(launch->argument_count + 1, sizeof(Buffer));
  for (buffer_count = 0; buffers && buffer_count < launch->argument_count;) {
    const Argument &argument = launch->arguments[buffer_count];
    Buffer *buffer = &buffers[buffer_count++];
    if (!create_buffer(argument, launch->guard_start, launch->check, buffer)) return false;
  }
  return buffers;
}

void destroy_buffers(Launch *launch) {
  for (u32 i = 0; i < buffer_count; i++) {
    Buffer &buffer = buffers[i];
    if (!buffer.map) continue;
    if (buffer.low && buffer.writable) {
      memcpy(launch->arguments[i].data, (void *)buffer.low, launch->arguments[i].bytes);
      if (buffer.shadow) launch->arguments[i].unwritten = count_unwritten(buffer.shadow);
    }
    destroy_shadow(buffer.shadow);
    munmap((void *)buffer.map, buffer.map_bytes);
  }
  free(buffers);
  buffers = nullptr;
  buffer_count = 0;
}

Buffer *find_buffer(u64 address) {
  for (u32 i = 0; i < buffer_count; i++)
    if (address - buffers[i].map < buffers[i].map_bytes) return &buffers[i];
  return nullptr;
}

bool prepare_arena(Worker *w) {
  for (u32 i = 0; i < w->variable_count; i++) destroy_shadow(w->variables[i].shadow);
  w->variable_count = 0;
  w->variable_bytes = 0;
  if (!w->arena) {
    w->arena = reserve(ARENA);
    return w->arena;
  }
  if (w->arena_used && mprotect((void *)w->arena, w->arena_used, PROT_NONE)) return false;
  w->arena_used = 0;
  return true;
}

void poison_variables(Worker *w) {
  if (!w->launch->poison) return;
  for (u32 i = 0; i < w->variable_count; i++)
    memset((void *)w->variables[i].address, POISON, w->variables[i].size);
}

Variable *find_variable(Worker *w, u64 address) {
  Variable *nearest = nullptr;
  if (address - w->arena >= ARENA) return nullptr;
  for (u32 i = 0; i < w->variable_count; i++)
    if (address + VARIABLE_GUARD / 2 >= w->variables[i].address) nearest = &w->variables[i];
  return nearest;
}

static u64 create_variable(Worker *w, u32 size, u32 align, u32 id, u64 key, u64 site) {
  const Launch *launch = w->launch;
  w->variable_bytes += (u32)round_up(size, 16);
  if (w->variable_bytes > launch->threadgroup_memory)
    fail(w, Kind::threadgroup_memory, site, 0, "threadgroup memory: %u bytes, the limit is %u", w->variable_bytes,
         launch->threadgroup_memory);
  u64 room = round_up(size, page());
  u64 first = w->arena + w->arena_used + VARIABLE_GUARD;
  w->arena_used += VARIABLE_GUARD + room;
  if (w->variable_count == MAX_VARIABLES || w->arena_used + VARIABLE_GUARD > ARENA ||
      mprotect((void *)first, room, PROT_READ | PROT_WRITE))
    fail(w, Kind::failure, site, 0, "too many threadgroup variables");
  if (align < 16) align = 16;  // what Metal gives them; kernels cast arrays of small types to vectors
  Variable &variable = w->variables[w->variable_count++];
  variable = {id, size, key, (first + room - size) / align * align, nullptr};
  if (launch->poison) memset((void *)first, POISON, room);
  if (launch->check && !(variable.shadow = create_shadow(variable.address, size)))
    fail(w, Kind::failure, site, 0, "no memory for the checker");
  return variable.address;
}

}  // namespace msl

using namespace msl;

// Variables stay where they are for the whole launch: they are made by the first threadgroup that names them.
u64 __msl_tg_alloc(u32 size, u32 align, u32 id, u64 key) {
  Worker *w = worker;
  for (u32 i = 0; i < w->variable_count; i++) {
    const Variable &variable = w->variables[i];
    if (variable.id == id && variable.size == size && variable.key == key) return variable.address;
  }
  return create_variable(w, size, align, id, key, MSL_CALLER);
}
