// y = the sum of the slices' partial results in float32, then what is added to a product, then one rounding: the second
// launch of split-K kernels. The declarations serve kernels that need no second launch too.
//
// `partials` is (slices, rows, N), rows counting M of every product of a batch; y is (rows, N). One thread an element,
// partials added in the order of K: the result does not depend on timing.
//
// Inputs: sizes (rows, N, slices), partials, and with EPILOGUE factors (alpha, beta in float32) and c, whose strides
// are read: (N,), (1, N), or an array of y's shape. Output: y.
// Constants: EPILOGUE (1 where there is a c); T is the type of y.

// Where element `index` of the axes first .. last, counted row by row, lies from the array's start, in elements. An
// index beyond the axes' product wraps around, which is what broadcasts a row or a matrix over the products of a batch.
METAL_FUNC long offset_of(int index, int first, int last, const constant int* shape, const constant int64_t* strides) {
  long offset = 0;
  for (int axis = last; axis >= first && index > 0; axis--) {
    offset += index % shape[axis] * strides[axis];
    index /= shape[axis];
  }
  return offset;
}

// alpha * sum + beta * c at (row, column). By BLAS's rule a c whose factor is zero is not read: it may hold anything.
template <typename P>
METAL_FUNC float finished(float sum, float alpha, float beta, P c, int row, int column, const constant int* shape,
                          const constant int64_t* strides, int ndim) {
  sum *= alpha;
  if (beta != 0.0f) {
    sum += beta * float(c[offset_of(row, 0, ndim - 2, shape, strides) + column * strides[ndim - 1]]);
  }
  return sum;
}

//! body
  const int rows = sizes[0], N = sizes[1], slices = sizes[2];
  const int row = thread_position_in_grid.y, column = thread_position_in_grid.x;
  if (row >= rows || column >= N) {
    return;
  }
  const long at = long(row) * N + column;
  float sum = 0.0f;
  for (int s = 0; s < slices; s++) {
    sum += partials[long(s) * rows * N + at];
  }
#if EPILOGUE
  sum = finished(sum, factors[0], factors[1], c, row, column, c_shape, c_strides, c_ndim);
#endif
  y[at] = T(sum);
