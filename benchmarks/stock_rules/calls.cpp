// Reads calls, one a line, runs MLX's own routing code on each, and prints what it would have dispatched:
// `kernel grid_x grid_y grid_z threads`, with ` | ` between launches.

#include "routing.h"

using namespace mlx::core;

namespace {

array rows(int batch, int m, int n, Dtype dtype) {
  return array(batch > 1 ? Shape{batch, m, n} : Shape{m, n}, dtype, nullptr, {});
}

// An m x n matrix; a transposed one lies in memory as n x m.
array matrix(int batch, int m, int n, bool transposed, Dtype dtype) {
  if (!transposed) return rows(batch, m, n, dtype);
  Strides strides{1, m};
  if (batch > 1) strides.insert(strides.begin(), int64_t(m) * n);
  return array(batch > 1 ? Shape{batch, m, n} : Shape{m, n}, strides, dtype);
}

}  // namespace

int main() {
  std::string op, type, layout, mode, epilogue, architecture;
  int m, n, k, batch, bits, group, nax;
  while (std::cin >> op >> m >> n >> k >> batch >> type >> layout >> mode >> bits >> group >> epilogue >>
         architecture >> nax) {
    launches.clear();
    os_has_nax = nax;
    metal::device(0).architecture = architecture;
    Dtype dtype = type == "f32" ? float32 : type == "f16" ? float16 : bfloat16;
    array out = rows(batch, m, n, dtype);
    if (op == "quantized_matmul") {
      QuantizedMatmul product;
      product.bits_ = bits;
      product.group_size_ = group;
      product.transpose_ = layout == "nt";
      for (int each = 0; each < 4; ++each)
        if (quantization_mode_to_string(QuantizationMode(each)) == mode) product.mode_ = QuantizationMode(each);
      int height = product.transpose_ ? n : k, width = product.transpose_ ? k : n;
      std::vector<array> inputs{
          rows(batch, m, k, dtype), rows(batch, height, width * bits / 32, uint32), rows(batch, height, width / group, dtype)};
      if (mode == "affine") inputs.push_back(inputs.back());
      product.eval_gpu(inputs, out);
    } else {
      std::vector<array> inputs{matrix(batch, m, k, layout[0] == 't', dtype), matrix(batch, k, n, layout[1] == 't', dtype)};
      if (op == "matmul") {
        Matmul().eval_gpu(inputs, out);
      } else {
        bool row = epilogue == "row";
        inputs.push_back(row ? array(out.shape(), batch > 1 ? Strides{0, 0, 1} : Strides{0, 1}, dtype) : out);
        AddMM().eval_gpu(inputs, out);
      }
    }
    for (size_t i = 0; i < launches.size(); ++i) {
      const Launch& each = launches[i];
      std::cout << (i ? " | " : "") << each.kernel;
      for (auto axis : each.grid) std::cout << ' ' << axis;
      std::cout << ' ' << each.threads;
    }
    std::cout << '\n';
  }
}
