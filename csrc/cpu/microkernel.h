// The register tile: MR rows x NV vectors of C held in registers while k runs.
//
//   acc[i][j] = fma(a[i, k], b[k, j], acc[i][j])      k ascending, one chain per element
//
// M N K = rows, columns and depth of the product; MR, NR = rows and columns of a tile, NR = NV registers.
// A is read by broadcasts (any strides), B by vectors along N (unit stride). A step costs MR broadcasts and
// NV loads for MR * NV FMAs: 16 loads for 28 with 32 registers (14 x 2), 8 for 12 with 16 (6 x 2). That
// leaves load slots to spare where vectors of B cross cache lines, and one of them fetches what comes next.
//
// Every path of gemm and of convolution sums through this tile, which is what makes an element's bits depend
// on its own row, column and depth only, never on the shape around it.
#pragma once

#include <utility>

#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

// Which lanes of the last vector of a row exist.
#if defined(__AVX512F__)
constexpr bool kMasksAreFree = true;  // a zero-masked load or a masked store costs what a plain one does
constexpr int kRegisters = 32;
template <class T>
struct Lanes {
  std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8> bits;
  TS_INLINE explicit Lanes(std::int64_t n) : bits(_bzhi_u32(0xffffu, static_cast<unsigned>(n))) {}
};
template <class T>
TS_INLINE Vec<T> load_lanes(const T* p, Lanes<T> lanes) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm512_maskz_loadu_ps(lanes.bits, p));
  else
    return Vec<T>(_mm512_maskz_loadu_pd(lanes.bits, p));
}
template <class T>
TS_INLINE void store_lanes(T* p, Vec<T> v, Lanes<T> lanes) {
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, lanes.bits, v.r);
  else
    _mm512_mask_storeu_pd(p, lanes.bits, v.r);
}
#elif defined(__AVX2__)
constexpr bool kMasksAreFree = false;
constexpr int kRegisters = 16;
template <class T>
struct Lanes {
  typename Vec<T>::MaskReg mask;
  TS_INLINE explicit Lanes(std::int64_t n) {
    if constexpr (sizeof(T) == 4)
      mask = typename Vec<T>::MaskReg{0, 1, 2, 3, 4, 5, 6, 7} < static_cast<std::int32_t>(n);
    else
      mask = typename Vec<T>::MaskReg{0, 1, 2, 3} < n;
  }
};
template <class T>
TS_INLINE Vec<T> load_lanes(const T* p, const Lanes<T>& lanes) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm256_maskload_ps(p, __m256i(lanes.mask)));
  else
    return Vec<T>(_mm256_maskload_pd(p, __m256i(lanes.mask)));
}
template <class T>
TS_INLINE void store_lanes(T* p, Vec<T> v, const Lanes<T>& lanes) {
  // A dozen cycles on AMD: for the edges only.
  if constexpr (sizeof(T) == 4)
    _mm256_maskstore_ps(p, __m256i(lanes.mask), v.r);
  else
    _mm256_maskstore_pd(p, __m256i(lanes.mask), v.r);
}
#else
constexpr bool kMasksAreFree = false;
constexpr int kRegisters = 16;
template <class T>
struct Lanes {
  std::int64_t n;
  TS_INLINE explicit Lanes(std::int64_t count) : n(count) {}
};
template <class T>
TS_INLINE Vec<T> load_lanes(const T* p, Lanes<T> lanes) {
  Vec<T> v(T(0));
  for (int i = 0; i < Vec<T>::width; ++i)
    if (i < lanes.n) v.r[i] = p[i];
  return v;
}
template <class T>
TS_INLINE void store_lanes(T* p, Vec<T> v, Lanes<T> lanes) {
  for (int i = 0; i < Vec<T>::width; ++i)
    if (i < lanes.n) p[i] = v.r[i];
}
#endif

// The first n elements at p, at most a register of them.
template <class T>
TS_INLINE Vec<T> load_tail(const T* p, std::int64_t n) {
  return n >= Vec<T>::width ? Vec<T>::load(p) : load_lanes(p, Lanes<T>(n));
}
template <class T>
TS_INLINE void store_tail(T* p, Vec<T> v, std::int64_t n) {
  if (n >= Vec<T>::width)
    v.store(p);
  else
    store_lanes(p, v, Lanes<T>(n));
}

// The tallest tile, and the widest one that a given height leaves registers for (NV vectors of B, one
// broadcast; without FMA also a product).
#if defined(__AVX512F__)
constexpr int kMaxRows = 14;
#else
constexpr int kMaxRows = 6;
#endif
// Rows of A that are read where they lie: fewer than L1 has ways (12, or 8), because rows a power of two
// apart all fall into one set.
constexpr int kRowsInPlace = kMaxRows < 9 ? kMaxRows : 9;
constexpr int kMaxVectors = kRegisters == 32 ? 8 : 4;
constexpr int tile_vectors(int rows) {
#if defined(__FMA__)
  constexpr int spare = 1;
#else
  constexpr int spare = 2;
#endif
  int nv = 1;
  while (nv < kMaxVectors && (rows + 1) * (nv + 1) + spare <= kRegisters) ++nv;
  return nv;
}

// With 28 FMAs in a step a load more costs nothing; with 12 it costs a tenth, more than touching lines gains
// where the hardware foresees them.
constexpr bool kTouchesAreFree = kRegisters == 32;

// How far ahead of its use a line of B is brought from L2 to L1. Out-of-order execution alone looks three or
// four steps ahead, until the FMAs of those fill the scheduler.
constexpr std::int64_t kNearSteps = 8;

// unroll<N>([&]<int I>() TS_LAMBDA { ... }): the body N times with a constant index, so that arrays indexed
// by it become registers.
#define TS_LAMBDA __attribute__((always_inline))
template <class Body, int... I>
TS_INLINE void unroll_over(const Body& body, std::integer_sequence<int, I...>) {
  (body.template operator()<I>(), ...);
}
template <int N, class Body>
TS_INLINE void unroll(const Body& body) {
  unroll_over(body, std::make_integer_sequence<int, N>{});
}

template <class T, int MR, int NV>
struct Tile {
  static_assert(MR <= 14);
  static constexpr int W = Vec<T>::width;
  Vec<T> acc[MR][NV];

  TS_INLINE void zero() {
    unroll<MR>([&]<int i>() TS_LAMBDA { unroll<NV>([&]<int j>() TS_LAMBDA { acc[i][j] = Vec<T>(T(0)); }); });
  }

  TS_INLINE void load(const T* sums) {  // stored with rows of NV * W
    unroll<MR>([&]<int i>() TS_LAMBDA {
      unroll<NV>([&]<int j>() TS_LAMBDA { acc[i][j] = Vec<T>::load(sums + (i * NV + j) * W); });
    });
  }

  // Starts from what c holds.
  TS_INLINE void resume(const T* c, std::int64_t c_row, const Lanes<T>& lanes) {
    unroll<MR>([&]<int i>() TS_LAMBDA {
      unroll<NV>([&]<int j>() TS_LAMBDA {
        const T* p = c + i * c_row + j * W;
        acc[i][j] = j == NV - 1 ? load_lanes(p, lanes) : Vec<T>::load(p);
      });
    });
  }

  // Adds a[i * a_row + k * a_depth] * b[k * b_depth + j] for k in [0, depth). With Masked the last vector of
  // B reads only `lanes`. With Fetch every step touches the line at `ahead`, which moves by `stride` bytes;
  // with Near also the lines of B of kNearSteps later, into L1; with Copy it leaves its vectors of B at
  // `copy`, one step after another.
  template <bool Masked, bool Fetch = false, bool Near = false, bool Copy = false>
  TS_INLINE void multiply(std::int64_t depth, const T* a, std::int64_t a_row, std::int64_t a_depth,
                          const T* b, std::int64_t b_depth, const Lanes<T>& lanes,
                          const char* ahead = nullptr, std::int64_t stride = 0, T* copy = nullptr) {
    // Pointers and strides in bytes. Row i is 0, 1, 2, 4 or 8 rows beyond one of four pointers, which the
    // scaled addressing of x86 reaches without a pointer for each row.
    std::int64_t a_step = a_depth * sizeof(T), b_step = b_depth * sizeof(T);
    const std::int64_t r = a_row * sizeof(T);
    asm("" : "+r"(a_step), "+r"(b_step));  // or GCC compiles the loop twice, once for a_depth == 1
    const char* a0 = reinterpret_cast<const char*>(a);
    const char *a3 = a0 + 3 * r, *a5 = a0 + 5 * r, *a10 = a5 + 5 * r;
    const char* bk = reinterpret_cast<const char*>(b);
    const std::int64_t near = kNearSteps * b_step;
#if !defined(__AVX512F__)
#pragma GCC unroll 4  // counting and moving pointers is a quarter of a step of 12 FMAs
#endif
    for (; depth > 0; --depth) {
      if constexpr (Fetch) {
        __builtin_prefetch(ahead, 0, 2);
        ahead += stride;
      }
      Vec<T> row[NV];
      unroll<NV>([&]<int j>() TS_LAMBDA {
        const T* p = reinterpret_cast<const T*>(bk) + j * W;
        if constexpr (Masked && j == NV - 1)
          row[j] = load_lanes(p, lanes);
        else
          row[j] = Vec<T>::load(p);
        if constexpr (Copy) row[j].store(copy + j * W);
        if constexpr (Near && j * W * sizeof(T) % 64 == 0)
          __builtin_prefetch(reinterpret_cast<const char*>(p) + near, 0, 3);
      });
      if constexpr (Copy) copy += NV * W;
      unroll<MR>([&]<int i>() TS_LAMBDA {
        constexpr int from = i == 3 ? 3 : i < 5 || i == 8 ? 0 : i < 10 || i == 13 ? 5 : 10;
        const char* base = from == 0 ? a0 : from == 3 ? a3 : from == 5 ? a5 : a10;
        const Vec<T> x(*reinterpret_cast<const T*>(base + (i - from) * r));
        unroll<NV>([&]<int j>() TS_LAMBDA { acc[i][j] = fma(x, row[j], acc[i][j]); });
      });
      a0 += a_step, a3 += a_step, a5 += a_step, a10 += a_step;
      bk += b_step;
    }
  }

  // acc += c, the sum of the blocks of k before this one.
  TS_INLINE void add(const T* c, std::int64_t c_row, const Lanes<T>& lanes) {
    unroll<MR>([&]<int i>() TS_LAMBDA {
      unroll<NV>([&]<int j>() TS_LAMBDA {
        const T* p = c + i * c_row + j * W;
        acc[i][j] = acc[i][j] + (j == NV - 1 ? load_lanes(p, lanes) : Vec<T>::load(p));
      });
    });
  }

  // acc += bias[i * row + j] or, with `across`, bias[i * row].
  TS_INLINE void add_bias(const T* bias, std::int64_t row, bool across, const Lanes<T>& lanes) {
    if (across)
      unroll<MR>([&]<int i>() TS_LAMBDA {
        const Vec<T> x(bias[i * row]);
        unroll<NV>([&]<int j>() TS_LAMBDA { acc[i][j] = acc[i][j] + x; });
      });
    else
      add(bias, row, lanes);
  }

  TS_INLINE void relu() {  // NaN stays
    unroll<MR>([&]<int i>() TS_LAMBDA {
      unroll<NV>([&]<int j>() TS_LAMBDA {
        const Vec<T> zero(T(0));
        acc[i][j] = select(acc[i][j] < zero, zero, acc[i][j]);
      });
    });
  }

  // With Whole all of `lanes` exist.
  template <bool Whole = false>
  TS_INLINE void store(T* c, std::int64_t c_row, const Lanes<T>& lanes) const {
    unroll<MR>([&]<int i>() TS_LAMBDA {
      unroll<NV>([&]<int j>() TS_LAMBDA {
        T* p = c + i * c_row + j * W;
        if constexpr (j == NV - 1 && !Whole)
          store_lanes(p, acc[i][j], lanes);
        else
          acc[i][j].store(p);
      });
    });
  }
};

}  // namespace ts::cpu::TS_ISA
