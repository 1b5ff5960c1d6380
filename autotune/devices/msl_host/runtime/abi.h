// The contract between compiled kernels and the runtime: the one place where both sides' names, numbers and layouts are
// written down. It is included by the runtime (C++) and by the kernels' headers (C++ for OpenCL), so it keeps to what
// both languages share. On the targets that matter `unsigned long` has 64 bits in both.
//
// A kernel is a shared object that exports
//
//     void __msl_entry(unsigned long *arguments);
//
// which runs ONE thread of the grid. arguments[i] is the address of buffer i, in the order of the launch.
#ifndef MSL_HOST_ABI_H
#define MSL_HOST_ABI_H

// A call that synchronises lanes must not be duplicated, merged or moved into a branch: its address is the identity of
// the place where lanes meet.
#if defined(__OPENCL_CPP_VERSION__)
#define MSL_CALL extern "C" __attribute__((convergent, noinline))
#else
#define MSL_CALL extern "C" __attribute__((visibility("default")))
#endif

enum {
  MSL_LANES = 32,           // threads in a simdgroup
  MSL_SLOT = 256,           // bytes of a lane's slot in an exchange, and the distance between two lanes' slots
  MSL_MAX_THREADS = 1024,   // threads in a threadgroup
};

// Bits of the barriers' and fences' `flags`, as in MSL's mem_flags. The others are accepted and order nothing here.
enum { MSL_MEM_NONE = 0, MSL_MEM_DEVICE = 1, MSL_MEM_THREADGROUP = 2 };

// MSL's memory_order and thread_scope, for __msl_fence.
enum { MSL_ORDER_RELAXED = 0, MSL_ORDER_ACQUIRE, MSL_ORDER_RELEASE, MSL_ORDER_ACQ_REL, MSL_ORDER_SEQ_CST };
enum { MSL_SCOPE_THREAD = 0, MSL_SCOPE_SIMDGROUP, MSL_SCOPE_THREADGROUP, MSL_SCOPE_DEVICE };

// What `op` says in an exchange. Every number not named here is a plain exchange (the number then only helps whoever
// reads a dump). A collective is computed once, by the last lane to arrive, and only where all 32 lanes take part:
// otherwise the slots hold what the lanes put there and the caller computes its own result, or calls __msl_fail.
enum {
  // D = A * B of 8x8 float matrices. In: floats 0..1 of a lane's slot are its two elements of A, 2..3 those of B.
  // Out: floats 4..5 are its two elements of D. Lane l holds the elements (row, column) and (row, column + 1) with
  // row = ((l / 4) & 4) + (l / 2) % 4 and column = ((l / 4) & 2) * 2 + (l % 2) * 2.
  MSL_OP_MATRIX_PRODUCT = 50,
  // Sum of one float a lane, pairwise: lane l adds lane l + 16, then l + 8, ... In: float 0 of each slot.
  // Out: float 1 of slot 0.
  MSL_OP_SUM_FLOAT = 120,
};

// Waits for all threads of the threadgroup / all lanes of the simdgroup, then orders their accesses to the address
// spaces in `flags`. Without check mode __msl_sg_barrier(MSL_MEM_NONE) does nothing: it orders no memory, so no program
// whose result is defined can tell.
MSL_CALL void __msl_tg_barrier(unsigned int flags);
MSL_CALL void __msl_sg_barrier(unsigned int flags);

// Copies `size` (at most MSL_SLOT) bytes at `value` into the lane's slot, waits for all live lanes of the simdgroup and
// returns the address of lane 0's slot; lane l's lies at + l * MSL_SLOT. The slots may be read until the lane's next
// exchange: two sets of slots take turns, so no second wait is needed. Orders no memory, as in Metal.
MSL_CALL unsigned long __msl_xchg(unsigned long value, unsigned int size, unsigned int op);

// The lanes that took part in the calling lane's last exchange, as a mask.
MSL_CALL unsigned int __msl_active(void);

// Address of a threadgroup variable, the same for all threads of the threadgroup. (id, size, key) names the variable.
MSL_CALL unsigned long __msl_tg_alloc(unsigned int size, unsigned int align, unsigned int id, unsigned long key);

// A thread's attribute; the three-component ones take three numbers, x first.
enum {
  MSL_THREAD_INDEX_IN_SIMDGROUP = 0,
  MSL_SIMDGROUP_INDEX_IN_THREADGROUP = 1,
  MSL_THREAD_INDEX_IN_THREADGROUP = 2,
  MSL_SIMDGROUPS_PER_THREADGROUP = 3,
  MSL_DISPATCH_SIMDGROUPS_PER_THREADGROUP = 4,
  MSL_THREADS_PER_SIMDGROUP = 5,
  MSL_QUADGROUP_INDEX_IN_THREADGROUP = 6,
  MSL_QUADGROUPS_PER_THREADGROUP = 7,
  MSL_THREAD_INDEX_IN_QUADGROUP = 8,
  MSL_DISPATCH_QUADGROUPS_PER_THREADGROUP = 9,
  MSL_THREAD_POSITION_IN_GRID = 12,
  MSL_THREAD_POSITION_IN_THREADGROUP = 15,
  MSL_THREADGROUP_POSITION_IN_GRID = 18,
  MSL_THREADGROUPS_PER_GRID = 21,
  MSL_THREADS_PER_GRID = 24,
  MSL_THREADS_PER_THREADGROUP = 27,           // of this threadgroup: smaller in a ragged last one
  MSL_DISPATCH_THREADS_PER_THREADGROUP = 30,  // as launched
  MSL_GRID_ORIGIN = 33,
  MSL_ATTRIBUTES = 36,
};
MSL_CALL unsigned int __msl_attr(unsigned int index);

// Ends the launch: the kernel met something that the host cannot compute. `code` is reported.
MSL_CALL void __msl_fail(unsigned int code);

// An atomic access is to be made. Call it before each atomic operation, in check mode or not.
// The operation itself must be a real atomic one (several OS threads run threadgroups at once outside check mode) and
// must not be instrumented: compile it with no_sanitize("thread") or with -mllvm -tsan-instrument-atomics=0.
enum { MSL_ATOMIC_LOAD = 0, MSL_ATOMIC_STORE = 1, MSL_ATOMIC_UPDATE = 2 };  // an update reads and writes
MSL_CALL void __msl_atomic_access(unsigned long address, unsigned int bytes, unsigned int kind);

// MSL's atomic_thread_fence.
MSL_CALL void __msl_fence(unsigned int flags, unsigned int order, unsigned int scope);

// In check mode the kernel is compiled with clang's ThreadSanitizer pass; its callbacks (__tsan_read4 and so on) are
// the runtime's. The pass leaves accesses that are not of 1, 2, 4, 8 or 16 bytes alone WITHOUT A WORD: whoever compiles
// adds the calls for those, or refuses the kernel. instrument.py does.

#endif
