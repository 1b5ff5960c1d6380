// Collectives, computed once for all 32 lanes instead of 32 times.

#include "collectives.h"

namespace msl {

static inline float *floats(u8 *slots, u32 lane) { return (float *)(slots + lane * MSL_SLOT); }

static void matrix_product(u8 *slots) {
  typedef float Row __attribute__((vector_size(32), aligned(4)));
  float a[8][8], b[8][8];
  for (u32 lane = 0; lane < MSL_LANES; lane++) {
    const float *in = floats(slots, lane);
    u32 row = (lane / 4 & 4) + lane / 2 % 4, column = (lane / 4 & 2) * 2 + lane % 2 * 2;
    a[row][column] = in[0];
    a[row][column + 1] = in[1];
    b[row][column] = in[2];
    b[row][column + 1] = in[3];
  }
  float d[8][8];
  for (u32 i = 0; i < 8; i++) {
    Row sum = a[i][0] * *(Row *)b[0];
    for (u32 k = 1; k < 8; k++) sum += a[i][k] * *(Row *)b[k];
    *(Row *)d[i] = sum;
  }
  for (u32 lane = 0; lane < MSL_LANES; lane++) {
    float *out = floats(slots, lane) + 4;
    u32 row = (lane / 4 & 4) + lane / 2 % 4, column = (lane / 4 & 2) * 2 + lane % 2 * 2;
    out[0] = d[row][column];
    out[1] = d[row][column + 1];
  }
}

static void sum_float(u8 *slots) {
  float value[MSL_LANES];
  for (u32 lane = 0; lane < MSL_LANES; lane++) value[lane] = *floats(slots, lane);
  for (u32 half = MSL_LANES / 2; half; half /= 2)
    for (u32 lane = 0; lane < half; lane++) value[lane] += value[lane + half];
  floats(slots, 0)[1] = value[0];
}

void collective(u32 op, u8 *slots) {
  if (op == MSL_OP_MATRIX_PRODUCT) matrix_product(slots);
  if (op == MSL_OP_SUM_FLOAT) sum_float(slots);
}

}  // namespace msl
