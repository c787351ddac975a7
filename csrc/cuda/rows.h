// Kernels along rows: the threads of a row, and how its elements are dealt to them.
//
// R rows, C columns. Elements go to threads in packs of 16 bytes, pack p to thread p % threads; unaligned
// rows are dealt the same way and read element by element. A row of up to 512 numbers (float64: 256) belongs
// to a warp, one of up to 16384 (8192) to a block of 64 to 1024 threads: these keep it in registers, four
// packs a thread, and read memory once. A longer one is read again by a block of 512 each time that the
// kernel goes through it. Which, and so the order of every sum, depends on C alone.
#pragma once

#include <limits>

#include "core/view.h"
#include "cuda/half.h"
#include "cuda/simd.h"
#include "math/vmath.h"

namespace ts::cuda {

constexpr int kRowPacks = 4;
enum class Rows { warp, block, streamed };
template <Rows kRows>
constexpr int kRowThreads = kRows == Rows::warp    ? 256
                            : kRows == Rows::block ? 1024
                                                   : 512;  // of a block, at most

template <class T>
struct RowView {
  T* data;
  std::int64_t stride;
  RowView() = default;
  explicit RowView(const View& v) : data(static_cast<T*>(v.data)), stride(v.ndim > 1 ? v.strides[0] : 0) {}
  TS_INLINE T* operator[](std::int64_t r) const { return data + r * stride; }
};
// One number a row.
template <class T>
struct LineView {
  T* data;
  std::int64_t stride;
  LineView() = default;
  explicit LineView(const View& v) : data(static_cast<T*>(v.data)), stride(v.ndim ? v.strides[0] : 0) {}
  TS_INLINE T& operator[](std::int64_t r) const { return data[r * stride]; }
};

struct Largest {
  template <class T>
  TS_INLINE T operator()(T a, T b) const {
    return b > a || b != b ? (a != a ? a : b) : a;
  }
};

template <class T>
constexpr int kRowPack = 16 / static_cast<int>(sizeof(T));
template <class T>
struct alignas(16) RowPack {
  T value[kRowPack<T>];
};
// As many numbers as a pack has, where they are stored as X: T, or halves of float32.
template <class T, class X>
struct alignas(sizeof(X) * kRowPack<T>) RowStored {
  X value[kRowPack<T>];
};
template <class X>
TS_INLINE bool row_aligned(const X* p) {
  return reinterpret_cast<std::uintptr_t>(p) % (sizeof(X) == 2 ? 8 : 16) == 0;
}
// Elements from i on of a row of C; `fill` beyond its end.
template <class T, class X, class Index>
TS_INLINE RowPack<T> load_pack(const X* row, bool aligned, Index i, Index C, T fill) {
  RowPack<T> v;
  if (aligned && i + kRowPack<T> <= C) {
    const auto stored = *reinterpret_cast<const RowStored<T, X>*>(row + i);
#pragma unroll
    for (int k = 0; k < kRowPack<T>; ++k) v.value[k] = from_stored<T>(stored.value[k]);
    return v;
  }
#pragma unroll
  for (int k = 0; k < kRowPack<T>; ++k) v.value[k] = i + k < C ? from_stored<T>(row[i + k]) : fill;
  return v;
}
template <class X, class T, class Index>
TS_INLINE void store_pack(X* row, bool aligned, Index i, Index C, const RowPack<T>& v) {
  if (aligned && i + kRowPack<T> <= C) {
    RowStored<T, X> stored;
#pragma unroll
    for (int k = 0; k < kRowPack<T>; ++k) stored.value[k] = to_stored<X>(v.value[k]);
    *reinterpret_cast<RowStored<T, X>*>(row + i) = stored;
    return;
  }
#pragma unroll
  for (int k = 0; k < kRowPack<T>; ++k)
    if (i + k < C) row[i + k] = to_stored<X>(v.value[k]);
}

// The threads of a row, and this one among them. Rows that are read are stored as X.
template <class T, Rows kRows, class X = T>
struct RowTeam {
  static constexpr bool kKept = kRows != Rows::streamed;
  static constexpr int kPack = kRowPack<T>;
  using Index = std::conditional_t<kKept, int, std::int64_t>;

  // A row that is read; in registers if it is kept.
  struct Row {
    const X* data;
    T fill;
    bool aligned;
    RowPack<T> pack[kKept ? kRowPacks : 1];
  };

  Index C;
  T* shared;         // 32 numbers
  int thread, step;  // its first element, and the distance of its packs

  TS_INLINE RowTeam(std::int64_t columns, T* room)
      : C(static_cast<Index>(columns)),
        shared(room),
        thread(static_cast<int>(threadIdx.x) % (kRows == Rows::warp ? kWarp : 1024) * kPack),
        step((kRows == Rows::warp ? kWarp : static_cast<int>(blockDim.x)) * kPack) {}
  TS_INLINE static std::int64_t row() {
    return kRows == Rows::warp
               ? std::int64_t{blockIdx.x} * (kRowThreads<Rows::warp> / kWarp) + threadIdx.x / kWarp
               : std::int64_t{blockIdx.x};
  }
  TS_INLINE Row open(const X* row, T fill) const {
    Row x{row, fill, row_aligned(row), {}};
    if constexpr (kKept)
#pragma unroll
      for (int j = 0; j < kRowPacks; ++j)
        if (thread + j * step < C) x.pack[j] = load_pack(row, x.aligned, thread + j * step, C, fill);
    return x;
  }
  // f(pack, i) for this thread's packs, i the first element of each; a kept row keeps what f changes.
  template <class F>
  TS_INLINE void each(Row& x, F f) const {
    if constexpr (kKept) {
#pragma unroll
      for (int j = 0; j < kRowPacks; ++j)
        if (thread + j * step < C) f(x.pack[j].value, thread + j * step);
    } else {
      for (Index base = thread; base < C; base += kRowPacks * step) {
        RowPack<T> pack[kRowPacks];
#pragma unroll
        for (int j = 0; j < kRowPacks; ++j)
          if (base + j * step < C) pack[j] = load_pack(x.data, x.aligned, base + j * step, C, x.fill);
#pragma unroll
        for (int j = 0; j < kRowPacks; ++j)
          if (base + j * step < C) f(pack[j].value, base + j * step);
      }
    }
  }
  // The same for two rows at once.
  template <class F>
  TS_INLINE void each(Row& x, Row& y, F f) const {
    if constexpr (kKept) {
#pragma unroll
      for (int j = 0; j < kRowPacks; ++j)
        if (thread + j * step < C) f(x.pack[j].value, y.pack[j].value, thread + j * step);
    } else {
      for (Index base = thread; base < C; base += kRowPacks * step) {
        RowPack<T> a[kRowPacks], b[kRowPacks];
#pragma unroll
        for (int j = 0; j < kRowPacks; ++j)
          if (base + j * step < C) {
            a[j] = load_pack(x.data, x.aligned, base + j * step, C, x.fill);
            b[j] = load_pack(y.data, y.aligned, base + j * step, C, y.fill);
          }
#pragma unroll
        for (int j = 0; j < kRowPacks; ++j)
          if (base + j * step < C) f(a[j].value, b[j].value, base + j * step);
      }
    }
  }
  // y = f of every element's pack, which f changes in place.
  template <class Y, class F>
  TS_INLINE void write(Y* y, Row& x, F f) const {
    const bool aligned = row_aligned(y);
    each(x, [&](T(&v)[kPack], Index i) {
      RowPack<T> out;
#pragma unroll
      for (int k = 0; k < kPack; ++k) out.value[k] = v[k];
      f(out.value, i);
      store_pack(y, aligned, i, C, out);
    });
  }
  TS_INLINE T sum(T x) const {
    if constexpr (kRows == Rows::warp)
      return warp_reduce(x, Sum{});
    else
      return block_reduce(x, T(0), shared, Sum{});
  }
  TS_INLINE T max(T x) const {
    if constexpr (kRows == Rows::warp)
      return warp_reduce(x, Largest{});
    else
      return block_reduce(x, -std::numeric_limits<T>::infinity(), shared, Largest{});
  }
};

// exp(x) for x <= 0 (or up to 40), exp's bits: one multiplication by 2^(n + 64) and one by 2^-64 instead of
// the two halves that the whole range needs.
TS_INLINE float exp_of_negative(float x) {
  using V = Vec<float>;
  using C = vmath::C<V>;
  x = max(V(C::exp_lowest), V(x)).r;
  const V shifted = fma(V(x), V(C::log2e), V(C::magic)), n = shifted - V(C::magic);
  V r = fma(n, V(-C::ln2_cut.high), V(x));
  r = fma(n, V(-C::ln2_cut.low), r);
  const V e = fma(fma(vmath::polynomial(r, C::exp), r, V(1)), r, V(1));
  const std::uint32_t up = (bits_as<std::uint32_t>(shifted.r) << 23) + ((127u + 64u) << 23);
  return e.r * bits_as<float>(up) * 0x1p-64f;
}
TS_INLINE double exp_of_negative(double x) { return vmath::exp(Vec<double>(x)).r; }

// m = max x_c and sum_c exp(x_c - m), in one read; a kept row keeps the exponentials if kKeep. NaN if m is
// infinite.
template <bool kKeep, class Team, class T>
TS_INLINE void row_exponentials(const Team& team, typename Team::Row& x, T& m, T& sum) {
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  constexpr int kPack = Team::kPack;
  m = kLowest, sum = 0;
  if constexpr (Team::kKept) {
    team.each(x, [&](T(&v)[kPack], typename Team::Index) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) m = Largest{}(m, v[k]);
    });
    m = team.max(m);
    team.each(x, [&](T(&v)[kPack], typename Team::Index) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
        const T e = exp_of_negative(v[k] - m);
        sum += e;
        if constexpr (kKeep) v[k] = e;
      }
    });
    sum = team.sum(sum);
  } else {  // against the largest so far
    team.each(x, [&](T(&v)[kPack], typename Team::Index) {
      T top = m;
#pragma unroll
      for (int k = 0; k < kPack; ++k) top = Largest{}(top, v[k]);
      if (top == kLowest) return;
      if (top != m) sum *= exp_of_negative(m - top), m = top;
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum += exp_of_negative(v[k] - m);
    });
    const T own = m;
    m = team.max(m);
    sum = team.sum(own == m ? sum : own == kLowest ? T(0) : sum * exp_of_negative(own - m)) + (m - m);
  }
}

template <class T>
TS_INLINE T fused(T a, T b, T c) {
  return fma(Vec<T>(a), Vec<T>(b), Vec<T>(c)).r;
}

// The row's mean (0 unless kCentred) and 1 / sqrt(avg (x - mean)^2 + eps).
template <bool kCentred, class Team, class T>
TS_INLINE void row_moments(const Team& team, typename Team::Row& x, T eps, T& mean, T& rstd) {
  constexpr int kPack = Team::kPack;
  const T count = static_cast<T>(team.C);
  T sum = 0, squares = 0;
  mean = 0;
  if constexpr (kCentred) {
    team.each(x, [&](T(&v)[kPack], typename Team::Index) {
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum += v[k];
    });
    mean = team.sum(sum) / count;
  }
  team.each(x, [&](T(&v)[kPack], typename Team::Index i) {
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const T d = i + k < team.C ? v[k] - mean : T(0);
      squares = fused(d, d, squares);
    }
  });
  const T variance = team.sum(squares) / count;
  rstd = T(1) / sqrt(Vec<T>(variance + eps)).r;
}

// Launches the kernel for rows of C elements of T: of warps, of blocks, or streamed.
template <class T, class... Params, class... Args>
void launch_rows(void (*warp)(Params...), void (*block)(Params...), void (*streamed)(Params...),
                 std::int64_t R, std::int64_t C, const Args&... args) {
  constexpr std::int64_t kEach = kRowPacks * kRowPack<T>;
  if (R == 0) return;
  if (C <= kWarp * kEach)
    return launch(warp, dim3(blocks_of(ceil_div(R, kRowThreads<Rows::warp> / kWarp))),
                  dim3(kRowThreads<Rows::warp>), 0, args...);
  int threads = 64;
  while (threads * kEach < C && threads < 1024) threads *= 2;
  const bool kept = threads * kEach >= C;
  if (!kept) threads = kRowThreads<Rows::streamed>;
  launch(kept ? block : streamed, dim3(blocks_of(R)), dim3(static_cast<unsigned>(threads)), 0, args...);
}
// kernel<T, Rows::..., rest>
#define TS_ROW_KERNELS(kernel, T, ...)                                       \
  &kernel<T, Rows::warp, __VA_ARGS__>, &kernel<T, Rows::block, __VA_ARGS__>, \
      &kernel<T, Rows::streamed, __VA_ARGS__>

}  // namespace ts::cuda
