#include "fibers.h"

#include <string.h>
#include <sys/mman.h>

namespace msl {

__thread Worker *worker __attribute__((tls_model("initial-exec")));

// Only what a called function must preserve is saved; everything else is dead at a call. The floating-point control
// registers are left out: no kernel changes them.
#if defined(__x86_64__)
asm(R"(
.text
.globl msl_switch
.hidden msl_switch
.type msl_switch, @function
msl_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size msl_switch, .-msl_switch
)");
enum { SAVED_WORDS = 8, RETURN_WORD = 6 };  // one word above the return address keeps the stack aligned at entry
#elif defined(__aarch64__)
asm(R"(
.text
.globl msl_switch
.hidden msl_switch
.type msl_switch, %function
msl_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size msl_switch, .-msl_switch
)");
enum { SAVED_WORDS = 20, RETURN_WORD = 11 };
#else
#error "The MSL host has a context switch for x86-64 and aarch64 only."
#endif

void prepare_stacks(Worker *w, u32 threads) {
  if (!w->stacks) {
    void *map = mmap(nullptr, MSL_MAX_THREADS * STACK_STRIDE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
    if (map == MAP_FAILED) return;
    w->stacks = (u64)map;
  }
  for (; w->stacks_ready < threads; w->stacks_ready++)
    mprotect((void *)stack_low(w, w->stacks_ready), STACK, PROT_READ | PROT_WRITE);
}

void start_fiber(Worker *w, u32 thread, void (*main)()) {
  // Stacks are coloured: they begin at different offsets within a page, or the same frame of every fiber would fall
  // into the same few sets of the first-level cache.
  u64 colour = thread % 128 * 320;
  u64 *top = (u64 *)(stack_low(w, thread) + STACK - 64 - colour) - SAVED_WORDS;
  memset(top, 0, SAVED_WORDS * sizeof(u64));
  top[RETURN_WORD] = (u64)main;
  w->fibers[thread].stack_pointer = top;
}

void leave(Worker *w) {
  void *dead;
  w->current = nullptr;
  msl_switch(&dead, w->main_stack_pointer);
  __builtin_unreachable();
}

}  // namespace msl
