// Stand-ins for the parts of MLX that its routing code calls and that need a GPU: arrays without data, a device that is
// only a name, kernels that are only names, and an encoder that writes down what is dispatched.
//
// compare.py puts MLX's own files below this one, with their includes taken out. STUBS_NEW_SPLITK is set where
// GEMMSpiltKParams has a swizzle.

#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

inline bool os_has_nax = false;
#define __builtin_available(...) (os_has_nax)
#define MLX_ENABLE_NAX 1

// ---- what was dispatched

struct Launch {
  std::string kernel;
  std::vector<unsigned long> grid;
  unsigned long threads;
};

inline std::vector<Launch> launches;

inline void note(const std::string& what) {
  launches.push_back({what, {0, 0, 0}, 0});
}

// ---- Metal

namespace NS {
using UInteger = unsigned long;
}

namespace MTL {

struct Size {
  unsigned long width = 1, height = 1, depth = 1;
  Size() = default;
  Size(unsigned long w, unsigned long h, unsigned long d) : width(w), height(h), depth(d) {}
};

enum DataType { DataTypeBool };

struct ComputePipelineState {
  std::string name;
  NS::UInteger maxTotalThreadsPerThreadgroup() const { return 1024; }
};

}  // namespace MTL

// ---- arrays and types

namespace mlx::core {

using Shape = std::vector<int>;
using Strides = std::vector<int64_t>;

struct Dtype {
  int id, bytes;
  int size() const { return bytes; }
  bool operator==(const Dtype& other) const { return id == other.id; }
  bool operator!=(const Dtype& other) const { return id != other.id; }
};

inline constexpr Dtype float32{0, 4}, float16{1, 2}, bfloat16{2, 2}, complex64{3, 8}, uint32{4, 4}, uint8{5, 1};

enum Category { floating, inexact, complexfloating };

inline bool issubdtype(Dtype dtype, Category category) {
  return category != complexfloating || dtype == complex64;
}

struct Device {
  static constexpr int gpu = 1;
};

struct Stream {
  int device = 0, index = 0;
};

struct Flags {
  bool row_contiguous;
};

struct Buffer {};

namespace allocator {
inline Buffer malloc(size_t) { return {}; }
}  // namespace allocator

struct array {
  array(float, Dtype dtype) : dtype_(dtype) {}
  array(Shape shape, Strides strides, Dtype dtype) : shape_(shape), strides_(strides), dtype_(dtype) {}
  array(Shape shape, Dtype dtype, std::nullptr_t, std::initializer_list<int>)
      : shape_(shape), strides_(row_strides(shape)), dtype_(dtype) {}
  array(Buffer, Shape shape, Dtype dtype) : array(shape, dtype, nullptr, {}) {}

  static Strides row_strides(const Shape& shape) {
    Strides strides(shape.size(), 1);
    for (int i = int(shape.size()) - 2; i >= 0; --i) strides[i] = strides[i + 1] * shape[i + 1];
    return strides;
  }

  size_t size() const { return std::accumulate(shape_.begin(), shape_.end(), size_t(1), std::multiplies<size_t>()); }
  size_t nbytes() const { return size() * dtype_.size(); }
  int ndim() const { return int(shape_.size()); }
  const Shape& shape() const { return shape_; }
  int shape(int i) const { return shape_[i < 0 ? i + ndim() : i]; }
  const Strides& strides() const { return strides_; }
  int64_t strides(int i) const { return strides_[i < 0 ? i + ndim() : i]; }
  Dtype dtype() const { return dtype_; }
  int64_t offset() const { return 0; }
  bool is_donatable() const { return true; }
  void set_data(Buffer) {}
  Flags flags() const {
    Strides rows = row_strides(shape_);
    for (int i = 0; i < ndim(); ++i)
      if (shape_[i] != 1 && strides_[i] != rows[i]) return {false};
    return {true};
  }

 private:
  Shape shape_;
  Strides strides_;
  Dtype dtype_;
};

inline std::string type_to_name(const Dtype& dtype) {
  return dtype == float32 ? "float32" : dtype == float16 ? "float16" : dtype == bfloat16 ? "bfloat16" : "complex64";
}
inline std::string type_to_name(const array& a) { return type_to_name(a.dtype()); }
inline std::string get_type_string(const Dtype& dtype) {
  return dtype == float32 ? "float" : type_to_name(dtype) + "_t";
}

// ---- device, kernels, encoder

namespace metal {

using MTLFCList = std::vector<std::tuple<const void*, MTL::DataType, NS::UInteger>>;

struct CommandEncoder {
  std::string kernel;
  void set_compute_pipeline_state(const MTL::ComputePipelineState* state) { kernel = state->name; }
  template <class... Any> void set_input_array(Any&&...) {}
  template <class... Any> void set_output_array(Any&&...) {}
  template <class... Any> void set_bytes(Any&&...) {}
  template <class... Any> void set_vector_bytes(Any&&...) {}
  template <class... Any> void add_temporary(Any&&...) {}
  template <class... Any> void add_temporaries(Any&&...) {}
  void dispatch_threadgroups(MTL::Size grid, MTL::Size group) {
    launches.push_back({kernel, {grid.width, grid.height, grid.depth}, group.width * group.height * group.depth});
  }
  void dispatch_threads(MTL::Size threads, MTL::Size group) {
    auto groups = [](unsigned long a, unsigned long b) { return (a + b - 1) / b; };
    dispatch_threadgroups(
        {groups(threads.width, group.width), groups(threads.height, group.height), groups(threads.depth, group.depth)},
        group);
  }
};

struct Device {
  std::string architecture;
  CommandEncoder encoder;
  const std::string& get_architecture() const { return architecture; }
  int get_architecture_gen() const {
    auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : 0; };
    size_t n = architecture.size();
    return 10 * digit(architecture[n - 3]) + digit(architecture[n - 2]);
  }
  CommandEncoder& get_command_encoder(int) { return encoder; }
  template <class... Any> void add_temporary(Any&&...) {}
  template <class... Any> void add_temporaries(Any&&...) {}
  MTL::ComputePipelineState* get_kernel(const std::string& name) {
    static MTL::ComputePipelineState state;
    state.name = name;
    return &state;
  }
};

inline Device& device(int) {
  static Device only;
  return only;
}
inline CommandEncoder& get_command_encoder(const Stream&) { return device(0).encoder; }

}  // namespace metal

using metal::CommandEncoder;

#define STUBS_KERNEL(getter)                                                                 \
  template <class... Any>                                                                    \
  MTL::ComputePipelineState* getter(metal::Device& d, const std::string& name, Any&&...) {   \
    return d.get_kernel(name);                                                               \
  }
STUBS_KERNEL(get_quantized_kernel)
STUBS_KERNEL(get_qmm_nax_kernel)
STUBS_KERNEL(get_gather_qmm_kernel)
STUBS_KERNEL(get_gather_qmm_nax_kernel)
STUBS_KERNEL(get_steel_gemm_fused_kernel)
STUBS_KERNEL(get_steel_gemm_fused_nax_kernel)
STUBS_KERNEL(get_steel_gemm_splitk_kernel)
STUBS_KERNEL(get_steel_gemm_splitk_nax_kernel)
STUBS_KERNEL(get_steel_gemm_splitk_accum_kernel)
STUBS_KERNEL(get_gemv_kernel)
STUBS_KERNEL(get_gemv_wide_kernel)

template <class... Any> std::string get_template_definition(Any&&...) { return ""; }

template <class... Words> void concatenate(std::string& text, Words... words) {
  std::ostringstream all;
  ((all << words), ...);
  text += all.str();
}

// ---- operations that are launched beside the product: a note each

enum class CopyType { Scalar, Vector, General };
template <class... Any> void copy_gpu(Any&&...) { note("copy"); }
inline array contiguous_copy_gpu(const array& a, const Stream&) {
  note("contiguous copy");
  return array(a.shape(), a.dtype(), nullptr, {});
}
template <class... Any> void all_reduce_dispatch(Any&&...) { note("all_reduce"); }
template <class... Any> void fill_gpu(Any&&...) {}
inline void binary_op_gpu(const std::vector<array>&, array&, const char*, const Stream&) {}
template <class... Any> void broadcast(Any&&...) {}

enum ReductionOpType { ContiguousStridedReduce };
struct ReductionPlan {
  ReductionPlan(ReductionOpType, Shape, Strides) {}
};
template <class... Any>
void strided_reduce_general_dispatch(
    const array& in, array&, const char*, const ReductionPlan&, const std::vector<int>&, Any&&...) {
  note("reduce " + std::to_string(in.nbytes()));
}

// Never more than one batch axis here, so nothing is ever collapsed.
inline std::tuple<Shape, std::vector<Strides>> collapse_contiguous_dims(
    const Shape& shape, const std::vector<Strides>& strides) {
  return {shape, strides};
}
inline MTL::Size get_block_dims(int, int, int) { return {1, 1, 1}; }
inline MTL::Size get_2d_grid_dims(const Shape&, const Strides&) { return {}; }

namespace env {
inline bool enable_tf32() { return std::getenv("MLX_ENABLE_TF32") == nullptr; }
}  // namespace env

// ---- the operations themselves

enum class QuantizationMode { Affine, Mxfp4, Mxfp8, Nvfp4 };
inline std::string quantization_mode_to_string(QuantizationMode mode) {
  return std::vector<std::string>{"affine", "mxfp4", "mxfp8", "nvfp4"}[int(mode)];
}

struct Primitive {
  Stream stream_;
  Stream& stream() { return stream_; }
};
struct Matmul : Primitive {
  void eval_gpu(const std::vector<array>& inputs, array& out);
};
struct AddMM : Primitive {
  float alpha_ = 1, beta_ = 1;
  void eval_gpu(const std::vector<array>& inputs, array& out);
};
struct QuantizedMatmul : Primitive {
  int group_size_, bits_;
  QuantizationMode mode_;
  bool transpose_;
  void eval_gpu(const std::vector<array>& inputs, array& out);
};

}  // namespace mlx::core

namespace mlx::steel {

struct GEMMParams {
  int M, N, K, lda, ldb, ldd, tiles_n, tiles_m;
  int64_t batch_stride_a, batch_stride_b, batch_stride_d;
  int swizzle_log, gemm_k_iterations_aligned, batch_ndim;
};
struct GEMMSpiltKParams {
  int M, N, K, lda, ldb, ldc, tiles_n, tiles_m, split_k_partitions, split_k_partition_stride, split_k_partition_size;
#ifdef STUBS_NEW_SPLITK
  int swizzle_log;
#endif
  int gemm_k_iterations_aligned;
};
struct GEMMAddMMParams {
  int ldc, fdc;
  int64_t batch_stride_c;
  float alpha, beta;
};

}  // namespace mlx::steel

namespace mlx::core {
using namespace mlx::steel;
}
