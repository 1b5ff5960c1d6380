// Barriers and fences.
#pragma once

namespace metal {

enum class mem_flags : uint {
  mem_none = MSL_MEM_NONE,
  mem_device = MSL_MEM_DEVICE,
  mem_threadgroup = MSL_MEM_THREADGROUP,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16,
};
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
constexpr mem_flags operator&(mem_flags a, mem_flags b) { return mem_flags(uint(a) & uint(b)); }

enum memory_order : uint {
  memory_order_relaxed = MSL_ORDER_RELAXED,
  memory_order_acquire = MSL_ORDER_ACQUIRE,
  memory_order_release = MSL_ORDER_RELEASE,
  memory_order_acq_rel = MSL_ORDER_ACQ_REL,
  memory_order_seq_cst = MSL_ORDER_SEQ_CST,
};
enum thread_scope : uint {
  thread_scope_thread = MSL_SCOPE_THREAD,
  thread_scope_simdgroup = MSL_SCOPE_SIMDGROUP,
  thread_scope_threadgroup = MSL_SCOPE_THREADGROUP,
  thread_scope_device = MSL_SCOPE_DEVICE,
};

MSL_COLLECTIVE void threadgroup_barrier(mem_flags flags) { __msl_tg_barrier(uint(flags)); }
MSL_COLLECTIVE void simdgroup_barrier(mem_flags flags) { __msl_sg_barrier(uint(flags)); }
MSL_COLLECTIVE void atomic_thread_fence(mem_flags flags, memory_order order,
                                        thread_scope scope = thread_scope_device) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  __msl_fence(uint(flags), uint(order), uint(scope));
}

}  // namespace metal
