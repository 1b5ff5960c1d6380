#include "faults.h"

#include <stddef.h>
#include <ucontext.h>

#include "fibers.h"
#include "memory.h"
#include "problems.h"

namespace msl {

static const int caught[CAUGHT] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
static Handlers *installed;

static u64 program_counter(const ucontext_t *context) {
#if defined(__x86_64__)
  return (u64)context->uc_mcontext.gregs[REG_RIP];
#else
  return (u64)context->uc_mcontext.pc;
#endif
}

static const char *verb(const ucontext_t *context) {
#if defined(__x86_64__)
  return context->uc_mcontext.gregs[REG_ERR] & 2 ? "write" : "read";
#else
  (void)context;
  return "access";  // aarch64 says which only in an extension record
#endif
}

[[noreturn]] static void fail_at_address(Worker *w, u64 address, const char *verb, u64 code) {
  if (address - w->stacks < MSL_MAX_THREADS * STACK_STRIDE)
    fail(w, Kind::stack_overflow, code, 0, "thread %u needs more than %llu bytes of stack",
         (u32)((address - w->stacks) / STACK_STRIDE), (unsigned long long)STACK);
  if (Variable *variable = find_variable(w, address))
    fail(w, Kind::out_of_bounds, code, 0, "%s outside threadgroup variable %u: at byte %lld of its %u", verb,
         variable->id, (long long)(address - variable->address), variable->size);
  if (Buffer *buffer = find_buffer(address)) {
    u32 number = (u32)(buffer - buffers);
    i64 offset = (i64)(address - buffer->low);
    u64 bytes = buffer->high - buffer->low;
    if (!buffer->writable && (u64)offset < bytes)
      fail(w, Kind::read_only, code, 0, "write to read-only buffer %u, byte %lld", number, (long long)offset);
    fail(w, Kind::out_of_bounds, code, 0, "%s outside buffer %u: at byte %lld of its %llu", verb, number,
         (long long)offset, (unsigned long long)bytes);
  }
  fail(w, Kind::fault, code, 0, "%s at 0x%llx, in no buffer and no threadgroup variable", verb,
       (unsigned long long)address);
}

// Runs on the worker's signal stack and leaves it for the worker's own, which the kernel (Linux) allows: it looks at
// the stack pointer alone to tell whether a signal stack is in use. The kernel (Metal) holds no lock that this drops.
static void handle(int signal, siginfo_t *information, void *raw) {
  Worker *w = worker;
  if (!w || !w->current) {
    // Not ours: back to whoever had the signal before us, and let it happen again.
    restore_handlers(installed);
    return;
  }
  const ucontext_t *context = (const ucontext_t *)raw;
  u64 code = program_counter(context);
  if (signal == SIGFPE) fail(w, Kind::fault, code, 0, "integer division by zero or overflow");
  if (signal == SIGILL || signal == SIGTRAP)
    fail(w, Kind::fault, code, 0, "a trap: code that cannot be reached, or undefined behaviour");
  if (signal == SIGSEGV && information->si_code == SI_KERNEL)
    fail(w, Kind::fault, code, 0, "a vector access that is not aligned, or an address out of any range");
  fail_at_address(w, (u64)information->si_addr, verb(context), code);
}

void install_handlers(Handlers *handlers) {
  installed = handlers;
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler is left without returning
  for (int i = 0; i < CAUGHT; i++) sigaction(caught[i], &action, &handlers->before[i]);
}

void restore_handlers(const Handlers *handlers) {
  for (int i = 0; i < CAUGHT; i++) sigaction(caught[i], &handlers->before[i], nullptr);
}

}  // namespace msl
