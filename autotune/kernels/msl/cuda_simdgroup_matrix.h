// <metal_simdgroup_matrix> in CUDA: matrices of 8 x 8 in the registers of a warp.

// Products on the tensor cores: 16 rows of A, DEPTH deep, times 8 columns of B are added to C in float32. Each register
// of A and B is a pair of 16-bit elements, in the places that PTX defines for mma.m16n8k16 and mma.m16n8k8. Products are
// exact; sums are in float32 and may be truncated where IEEE would round.
METAL_FUNC void mma_16_deep(float (&c)[4], uint a0, uint a1, uint a2, uint a3, uint b0, uint b1, half2) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

METAL_FUNC void mma_16_deep(float (&c)[4], uint a0, uint a1, uint a2, uint a3, uint b0, uint b1, bfloat2) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

METAL_FUNC void mma_8_deep(float (&c)[4], uint a0, uint a1, uint b, half) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(b));
}

METAL_FUNC void mma_8_deep(float (&c)[4], uint a0, uint a1, uint b, bfloat) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(b));
}

// A simdgroup matrix: a lane has two neighbours of row lane / 4, as A and C of mma do. Products of 16-bit matrices use
// half of mma.m16n8k8 on the tensor cores; those of float32, which these have not, go through shuffles.
template <typename E, int R, int C>
struct simdgroup_matrix {
  static_assert(R == 8 && C == 8);
  E elements[2];
};

template <typename E, int R, int C>
METAL_FUNC simdgroup_matrix<E, R, C> make_filled_simdgroup_matrix(E value) {
  return {{value, value}};
}

// From threadgroup memory; with 16-bit elements, each row of eight has to be aligned to 16 bytes.
template <typename E>
METAL_FUNC void simdgroup_load(simdgroup_matrix<E, 8, 8>& to, const E* from, int pitch, ulong2 origin = {0, 0},
                               bool transposed = false) {
  const int lane = thread_index_in_simdgroup;
  from += origin.y * pitch + origin.x;
  if constexpr (sizeof(E) == 2) {
    const uint row = uint(__cvta_generic_to_shared(from + lane % 8 * pitch));
    uint pair;
    if (transposed) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(pair) : "r"(row) : "memory");
    } else {
      asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(pair) : "r"(row) : "memory");
    }
    memcpy(to.elements, &pair, sizeof(pair));
  } else {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = lane / 4, column = lane % 4 * 2 + i;
      to.elements[i] = transposed ? from[column * pitch + row] : from[row * pitch + column];
    }
  }
}

template <typename E>
METAL_FUNC void simdgroup_store(const simdgroup_matrix<E, 8, 8>& from, E* to, int pitch) {
  const int lane = thread_index_in_simdgroup;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    to[lane / 4 * pitch + lane % 4 * 2 + i] = from.elements[i];
  }
}

template <typename E>
METAL_FUNC void simdgroup_multiply_accumulate(simdgroup_matrix<float, 8, 8>& d, const simdgroup_matrix<E, 8, 8>& a,
                                              const simdgroup_matrix<E, 8, 8>& b,
                                              const simdgroup_matrix<float, 8, 8>& c) {
  if constexpr (sizeof(E) == 2) {
    uint left, right;
    memcpy(&left, a.elements, sizeof(left));
    memcpy(&right, b.elements, sizeof(right));
    // mma takes B by columns.
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(right));
    float sums[4] = {c.elements[0], c.elements[1], 0.0f, 0.0f};
    mma_8_deep(sums, left, 0, right, E(0.0f));
    d.elements[0] = sums[0];
    d.elements[1] = sums[1];
  } else {
    const int lane = thread_index_in_simdgroup;
    float sums[2] = {c.elements[0], c.elements[1]};
#pragma unroll
    for (int k = 0; k < 8; k++) {
      const float left = __shfl_sync(0xffffffffu, a.elements[k % 2], lane / 4 * 4 + k / 2);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        sums[i] = fmaf(left, __shfl_sync(0xffffffffu, b.elements[i], k * 4 + lane % 4), sums[i]);
      }
    }
    d.elements[0] = sums[0];
    d.elements[1] = sums[1];
  }
}

// What fragment.metal says of Metal's registers, said of a warp's: here a right fragment lies as its transpose does.
#define FRAGMENTS

METAL_FUNC int left_row(int lane) {
  return lane / 4;
}

METAL_FUNC int left_column(int lane) {
  return lane % 4 * 2;
}

METAL_FUNC int right_row(int lane, int i) {
  return lane % 4 * 2 + i;
}

METAL_FUNC int right_column(int lane, int) {
  return lane / 4;
}

// Fragments go two by two; the last of an odd number goes with itself, which costs no more than zeros would.
template <int COUNT, typename P>
METAL_FUNC void multiply_add(float (&sums)[COUNT][2], const P (&left)[COUNT][2], const P (&right)[2]) {
#pragma unroll
  for (int t = 0; t < COUNT; t += 2) {
    const int u = t + 1 < COUNT ? t + 1 : t;
    float c[4] = {sums[t][0], sums[t][1], sums[u][0], sums[u][1]};
    mma_16_deep(c, as_type<uint>(left[t][0]), as_type<uint>(left[u][0]), as_type<uint>(left[t][1]),
                as_type<uint>(left[u][1]), as_type<uint>(right[0]), as_type<uint>(right[1]), P());
    sums[t][0] = c[0];
    sums[t][1] = c[1];
    sums[u][0] = c[2 * (u - t)];
    sums[u][1] = c[2 * (u - t) + 1];
  }
}
