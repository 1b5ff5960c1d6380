// Which lane of a simdgroup holds which element of a cooperative tensor. Metal leaves it open, and it differs between GPUs:
// a kernel has to ask, or to check what it assumes. So there are several layouts here, and a kernel is to be right, or to
// refuse, under each; MSL_TENSOR_LAYOUT chooses one.
#pragma once

#ifndef MSL_TENSOR_LAYOUT
#define MSL_TENSOR_LAYOUT 0
#endif

namespace msl_host {

struct tensor_place {
  int row, column;
};
// A lane, and as which of its valid elements, counted from 0, it holds a place.
struct tensor_holder {
  uint lane;
  int index;
};

// Layouts 0 and 1 cut a matrix into 16x16 fragments, row by row, of which a lane holds eight elements each. They say where
// in a fragment element i of a lane is, and who holds a place in it.
//
// 0: the layout that MLX's kernels encode (steel/gemm/nax.h, BaseNAXFrag::get_coord): rows r and r + 8, four columns from c.
struct fragment_rows_of_four {
  static tensor_place place(uint lane, int i) {
    const int row = ((lane / 4) & 4) | ((lane / 2) & 3), column = (((lane / 4) & 2) | (lane & 1)) * 4;
    return tensor_place{row + i / 4 * 8, column + i % 4};
  }
  static tensor_holder holder(int row, int column) {
    const uint lane = uint((row & 4) << 2 | (column & 8) | (row & 3) << 1 | (column >> 2 & 1));
    return tensor_holder{lane, row / 8 * 4 + column % 4};
  }
};
// 1: columns c, c + 1, c + 8, c + 9 of rows r and r + 8, as has been seen on GPUs without neural accelerators.
struct fragment_rows_of_two {
  static tensor_place place(uint lane, int i) {
    const int row = int(lane / 4), column = int(lane % 4) * 2;
    return tensor_place{row + i / 4 * 8, column + i % 4 / 2 * 8 + i % 2};
  }
  static tensor_holder holder(int row, int column) {
    return tensor_holder{uint(row % 8 * 4 + column % 8 / 2), row / 8 * 4 + column / 8 * 2 + column % 2};
  }
};

template <int Rows, int Columns, class Fragment>
struct fragmented {
  static constant constexpr const int count = Rows * Columns / int(MSL_LANES);
  static constant constexpr const int capacity = count;
  static constexpr bool valid(int) { return true; }
  static constexpr int element(int index) { return index; }
  static tensor_place place(uint lane, int i) {
    const tensor_place at = Fragment::place(lane, i % 8);
    return tensor_place{i / 8 / (Columns / 16) * 16 + at.row, i / 8 % (Columns / 16) * 16 + at.column};
  }
  static tensor_holder holder(int row, int column) {
    const tensor_holder at = Fragment::holder(row % 16, column % 16);
    return tensor_holder{at.lane, (row / 16 * (Columns / 16) + column / 16) * 8 + at.index};
  }
};

// 2: no lane holds neighbours: element i of lane l is number i * 32 + l of the matrix, row by row.
template <int Rows, int Columns>
struct scattered {
  static constant constexpr const int count = Rows * Columns / int(MSL_LANES);
  static constant constexpr const int capacity = count;
  static constexpr bool valid(int) { return true; }
  static constexpr int element(int index) { return index; }
  static tensor_place place(uint lane, int i) {
    const int at = i * int(MSL_LANES) + int(lane);
    return tensor_place{at / Columns, at % Columns};
  }
  static tensor_holder holder(int row, int column) {
    const uint at = uint(row * Columns + column);
    return tensor_holder{at % MSL_LANES, int(at / MSL_LANES)};
  }
};

// 3: layout 0 with every second element invalid.
template <int Rows, int Columns>
struct with_gaps {
  using dense = fragmented<Rows, Columns, fragment_rows_of_four>;
  static constant constexpr const int count = dense::count;
  static constant constexpr const int capacity = 2 * count;
  static constexpr bool valid(int i) { return i % 2 == 0; }
  static constexpr int element(int index) { return 2 * index; }
  static tensor_place place(uint lane, int i) { return dense::place(lane, i / 2); }
  static tensor_holder holder(int row, int column) { return dense::holder(row, column); }
};

#if MSL_TENSOR_LAYOUT == 0
template <int Rows, int Columns>
using tensor_layout = fragmented<Rows, Columns, fragment_rows_of_four>;
#elif MSL_TENSOR_LAYOUT == 1
template <int Rows, int Columns>
using tensor_layout = fragmented<Rows, Columns, fragment_rows_of_two>;
#elif MSL_TENSOR_LAYOUT == 2
template <int Rows, int Columns>
using tensor_layout = scattered<Rows, Columns>;
#else
template <int Rows, int Columns>
using tensor_layout = with_gaps<Rows, Columns>;
#endif

}  // namespace msl_host
