// y (M, N) = x (M, K) times the transpose of w (N, K), which is packed; see kernels/qmv_mma.py for the idea.
//
// A simdgroup computes TILES fragments of 8 rows of w for BLOCKS fragments of 8 rows of x. It goes through K group by
// group: the 8 columns of a left fragment are 8 runs of RUN weights of a group, and step s multiplies weight s of each
// run. So a lane's weights of a group, two runs, are neighbours in memory, its values of x too, and the codes of a pair
// are as far apart as a run is long. Which K is where in a product of fragments is free as long as both sides agree.
//
// A group's codes are summed as they are, exact in T, in float32; then its scale and bias come in: the bias times the
// sum of the group's x, which one more left fragment, of ones, gives.
//
// The simdgroups of a team share K: each has FLIGHT groups at a time, in use or on their way.
//
// Constants: those of packs.metal with VALUES = GROUP / 4, of fragment.metal, HALF (T is half, else bfloat), ROWS (8
// TILES), V (8 BLOCKS), SIMDGROUPS, SPLIT, FLIGHT; T is the type of x.

#define TILES (ROWS / 8)
#define BLOCKS (V / 8)
#define RUN (GROUP / 8)
#define TEAMS (SIMDGROUPS / SPLIT)
#define SUMS (2 * TILES * BLOCKS)
#define LEFTS (TILES + AFFINE)
#define ONES (HALF ? 0x3c003c00u : 0x3f803f80u)

#if AFFINE
#define BIASES biases
#else
#define BIASES scales
#endif

typedef float Sums[BLOCKS][TILES][2];
typedef T2 Left[LEFTS][2];

// The codes of weight s of both runs in the halves of a word, `left_out` bits higher than they are. `zero` is zero.
#if 16 % BITS == 0 && RUN * BITS % 16 == 0
METAL_FUNC uint codes_of(const thread uint* words, int s, int left_out, uint zero) {
  const int first = s * BITS / 16, second = first + RUN * BITS / 16;
  const uint both = first % 2 == 0 ? second % 2 == 0 ? low_halves(words[first / 2], words[second / 2])
                                                     : low_halves(words[first / 2], words[second / 2] >> 16)
                                   : high_halves(words[first / 2], words[second / 2]);
  return (both >> (s * BITS % 16 - left_out)) & ((((1u << BITS) - 1u) << left_out) * 0x10001u | zero);
}
#else
METAL_FUNC uint codes_of(const thread uint* words, int s, int left_out, uint zero) {
  return (code_of(words, s) | (code_of(words, RUN + s) << 16)) << left_out;
}
#endif

// Weight s of both runs as numbers of T, exactly; E2M1 and E4M3 codes without their group's scale.
METAL_FUNC T2 pair_of(const thread uint* words, int s, uint zero) {
#if AFFINE && HALF
  // 0x6400 is 1024, whose last place is worth one. In the low byte of a half codes stay where they are: a multiplication
  // that is there anyway shifts them.
  const int up = 8 % BITS == 0 ? s * BITS % 8 : 0;
  const uint one = uint(15 - up) << 10, offset = 0x8000u | (uint(25 - up) << 10);
  return fma(as_type<half2>(codes_of(words, s, up, zero) | 0x64006400u), as_type<half2>(one * 0x10001u),
             as_type<half2>(offset * 0x10001u));
#else
  const uint codes = codes_of(words, s, 0, zero);
#if AFFINE && BITS < 8
  // 0x4300 is 128, whose last place is worth one.
  return as_type<bfloat2>(codes | 0x43004300u) - as_type<bfloat2>(0x43004300u);
#elif AFFINE
  const float low = as_type<float>(0x4b000000u | (codes & 0xffffu)) - 8388608.0f;
  const float high = as_type<float>(0x4b000000u | (codes >> 16)) - 8388608.0f;
  return as_type<bfloat2>(high_halves(as_type<uint>(low), as_type<uint>(high)));
#else
#if MXFP8
  const uint size = codes & 0x007f007fu, nan = ((size + 0x00010001u) >> 7) & 0x00010001u;
  const half2 pair =
      as_type<half2>(((codes & 0x00800080u) << 8) | (size << 7) | (nan << 14)) * as_type<half2>(0x5c005c00u);
#else
  const half2 pair =
      as_type<half2>(((codes & 0x00080008u) << 12) | ((codes & 0x00070007u) << 9)) * as_type<half2>(0x74007400u);
#endif
#if HALF
  return pair;
#else
  return T2(T(float(pair.x)), T(float(pair.y)));
#endif
#endif
#endif
}

// Scale and sum of a group, as a product; scale_of has the power of two in it that pair_of has too.
METAL_FUNC float scaled(float scale, float sum) {
#if AFFINE
  return scale * sum;
#elif MXFP8
  return scale * (sum * 0x1p-8f);
#else
  return scale * (sum * 0x1p-14f);
#endif
}

// A run of x in words; zeros where it is `outside`.
template <bool WIDE>
METAL_FUNC void load_run(thread uint* words, const device T* from, bool outside) {
#pragma unroll
  for (int i = 0; i < RUN / 2; i++) {
    words[i] = 0;
  }
  if (outside) {
    return;
  }
  if (WIDE) {
    load_words<RUN / 2>(words, (const device uint*)from);
  } else {
#pragma unroll
    for (int i = 0; i < RUN; i++) {
      words[i / 2] |= uint(as_type<ushort>(from[i])) << (i % 2 * 16);
    }
  }
}

// What a lane has of a group: weights of each of its rows, and two runs of x for each block.
struct Group {
  uint words[TILES][PACK_WORDS];
  scale_type scales[TILES];
#if AFFINE
  T biases[TILES];
#endif
  uint runs[BLOCKS][2][RUN / 2];
};

// Takes group `g` of w; `rows` are where the lane's rows of w begin, in groups.
template <bool WIDE, typename S, typename B>
METAL_FUNC void take_weights(thread Group& held, const device uchar* w, S scales, B biases,
                             const thread long (&rows)[TILES], int g) {
#pragma unroll
  for (int t = 0; t < TILES; t++) {
    const long group = rows[t] + g;
    const device uchar* from = w + group * (4 * PACK_BITS / 8);
#if PACK_BITS % 32 == 0
    if (WIDE) {
      load_words<PACK_WORDS>(held.words[t], (const device uint*)from);
    } else {
      load_pack((const device pack_unit*)from, held.words[t]);
    }
#else
    load_pack((const device pack_unit*)from, held.words[t]);
#endif
    held.scales[t] = scales[group];
#if AFFINE
    held.biases[t] = biases[group];
#endif
  }
}

// Takes the group of x at `x`, of which there are `rows` rows, K apart: zeros beyond.
template <bool WIDE>
METAL_FUNC void take_x(thread Group& held, const device T* x, int rows, int K, int lane) {
#pragma unroll
  for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int m = 8 * b + right_column(lane, i);
      load_run<WIDE>(held.runs[b][i], x + long(m) * K + right_row(lane, i) * RUN, m >= rows);
    }
  }
}

// Adds the products of a group to the sums.
METAL_FUNC void add_group(thread Sums& acc, const thread Group& held, uint zero) {
  T2 right[BLOCKS][RUN / 2][2];
#pragma unroll
  for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
    for (int s = 0; s < RUN / 2; s++) {
      right[b][s][0] = as_type<T2>(low_halves(held.runs[b][0][s], held.runs[b][1][s]));
      right[b][s][1] = as_type<T2>(high_halves(held.runs[b][0][s], held.runs[b][1][s]));
    }
  }
  float dot[BLOCKS][LEFTS][2];
#pragma unroll
  for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
    for (int t = 0; t < LEFTS; t++) {
      dot[b][t][0] = 0.0f;
      dot[b][t][1] = 0.0f;
    }
  }
#pragma unroll
  for (int s = 0; s < RUN / 2; s++) {
    Left left;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
      for (int t = 0; t < TILES; t++) {
        left[t][i] = pair_of(held.words[t], 2 * s + i, zero);
      }
#if AFFINE
      left[TILES][i] = as_type<T2>(ONES | zero);
#endif
    }
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
      multiply_add(dot[b], left, right[b][s]);
    }
  }
#pragma unroll
  for (int t = 0; t < TILES; t++) {
    const float scale = scale_of(held.scales[t]);
#if AFFINE
    const float bias = float(held.biases[t]);
#endif
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        acc[b][t][i] += scaled(scale, dot[b][t][i]);
#if AFFINE
        acc[b][t][i] += bias * dot[b][TILES][i];
#endif
      }
    }
  }
}

// Adds the products of all groups that are the simdgroup's to the sums: every SPLITth, of which FLIGHT are held. When one
// has been multiplied, the one that takes its place is asked for, and is on its way while the others are multiplied. Where
// there is none any more, x is zero and the weights are what they were, so that no branch keeps groups apart.
template <bool WIDE, typename S, typename B>
METAL_FUNC void walk(thread Sums& acc, const device T* x, const device uchar* w, S scales, B biases, int M, int N, int K,
                     int n0, int lane, int share) {
  const int groups = K / GROUP;
  // Zero, but not to the compiler: constants that it is part of stay in registers, where NVIDIA's would load them again
  // for every use (a tenth of all instructions).
  const uint zero = uint(K) >> 31;
  // The lane's place in a group is a quarter, by which `w` is moved once.
  w += left_column(lane) / 2 * (PACK_BITS / 8);
  long rows[TILES];
#pragma unroll
  for (int t = 0; t < TILES; t++) {
    rows[t] = long(min(n0 + 8 * t + left_row(lane), N - 1)) * groups;
  }
  Group held[FLIGHT];
#pragma unroll
  for (int f = 0; f < FLIGHT; f++) {
    const int g = share + f * SPLIT;
    take_weights<WIDE>(held[f], w, scales, biases, rows, min(g, groups - 1));
    take_x<WIDE>(held[f], x + g * GROUP, g < groups ? M : 0, K, lane);
  }
  for (int g0 = share; g0 < groups; g0 += SPLIT * FLIGHT) {
#pragma unroll
    for (int f = 0; f < FLIGHT; f++) {
      const int next = g0 + (f + FLIGHT) * SPLIT;
      add_group(acc, held[f], zero);
      if (next < groups) {
        take_weights<WIDE>(held[f], w, scales, biases, rows, next);
      }
      take_x<WIDE>(held[f], x + next * GROUP, next < groups ? M : 0, K, lane);
    }
  }
}

//! body
  const int M = sizes[0], N = sizes[1], K = sizes[2];
  const int lane = thread_index_in_simdgroup;
  const int simdgroup = simdgroup_index_in_threadgroup;
  const int team = simdgroup / SPLIT, share = simdgroup % SPLIT;
  const int n0 = (int(threadgroup_position_in_grid.x) * TEAMS + team) * ROWS;
  const int m0 = int(threadgroup_position_in_grid.z) * V;

  Sums acc;
#pragma unroll
  for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
    for (int t = 0; t < TILES; t++) {
      acc[b][t][0] = 0.0f;
      acc[b][t][1] = 0.0f;
    }
  }
  // Arrays of MLX are aligned to more than that; slices of them may not be.
  if (((ulong)x | (ulong)w) % 16 == 0) {
    walk<true>(acc, x + long(m0) * K, (const device uchar*)w, scales, BIASES, M - m0, N, K, n0, lane, share);
  } else {
    walk<false>(acc, x + long(m0) * K, (const device uchar*)w, scales, BIASES, M - m0, N, K, n0, lane, share);
  }

#if SPLIT > 1
  threadgroup float partial[SIMDGROUPS][SUMS][32];
#pragma unroll
  for (int i = 0; i < SUMS; i++) {
    partial[simdgroup][i][lane] = acc[i / 2 / TILES][i / 2 % TILES][i % 2];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  // The simdgroups of a team share the elements too.
#pragma unroll
  for (int i = 0; i < SUMS; i++) {
#if SPLIT > 1
    if (i % SPLIT != share) {
      continue;
    }
    float sum = 0.0f;
    for (int s = 0; s < SPLIT; s++) {
      sum += partial[team * SPLIT + s][i][lane];
    }
#else
    const float sum = acc[i / 2 / TILES][i / 2 % TILES][i % 2];
#endif
    const int n = n0 + i / 2 % TILES * 8 + left_row(lane);
    const int m = m0 + i / 2 / TILES * 8 + left_column(lane) + i % 2;
    if (m < M && n < N) {
      y[long(m) * N + n] = T(sum);
    }
  }
