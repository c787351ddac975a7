// Sums of products over the last `reduced` axes, y = a_0 b_0 + a_1 b_1 + ... + a_{K-1} b_{K-1}: vectors, a
// matrix and a vector, batches of vectors. The order is that of the tree of reduce.h, each product added by
// an FMA.
//
// Each reads a and b once and writes y once; a vector that all outputs share stays in cache.
#include "cpu/kernels.h"
#include "cpu/reduction.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// `Shared`: one vector for all outputs. Elements beyond a row are 0 on both sides; adding 0 in the end leaves
// no -0, which a sum of products too small for T would have on some ways through the tree.
template <bool Shared>
struct Products {
  using Op = Add;
  static constexpr int kSums = 1, kInputs = 2, kParams = 0, kOutputs = 1;
  static constexpr bool kVector = Shared;
  template <class T, class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T> x2, const Vec<T>*, Part) const {
    s[0] = fma(x, x2, s[0]);
  }
  template <class T>
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const {
    y[0] = s[0] + Vec<T>(T(0));
  }
};

// --- a matrix whose rows are contiguous, times a vector: four rows at a time ----------------------------

constexpr int kRowsOnce = 4;

// `low` and `high` halves of the groups of 2 Half lanes of a, then of b.
template <class T, int Half, int... I>
TS_INLINE Vec<T> fold_two(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  using Lanes = typename Vec<T>::MaskReg;
  constexpr Lanes low = {static_cast<IntOf<T>>(I / Half * 2 * Half + I % Half)...};
  constexpr Lanes high = {static_cast<IntOf<T>>(I / Half * 2 * Half + I % Half + Half)...};
  return Vec<T>(__builtin_shuffle(a.r, b.r, low)) + Vec<T>(__builtin_shuffle(a.r, b.r, high));
}

// The fold of four registers: the additions of fold<Add>, for fewer shuffles.
template <class T>
TS_INLINE void fold_rows(const Vec<T>* row, T* out) {
  constexpr int W = Vec<T>::width, kGroup = W / kRowsOnce;
  constexpr std::make_integer_sequence<int, W> lanes;
  alignas(64) T sums[W];
  if constexpr (W < kRowsOnce) {
    for (int r = 0; r < kRowsOnce; ++r) out[r] = fold<Add, T>(row[r]);
  } else {
    Vec<T> v = fold_two<T, W / 4>(fold_two<T, W / 2>(row[0], row[1], lanes),
                                  fold_two<T, W / 2>(row[2], row[3], lanes), lanes);
    if constexpr (kGroup > 2) v = fold_once<Add, 2>(v, lanes);
    if constexpr (kGroup > 1) v = fold_once<Add, 1>(v, lanes);
    v.store(sums);
    for (int r = 0; r < kRowsOnce; ++r) out[r] = sums[r * kGroup];
  }
}

// One leaf of G rows, down to a register each.
template <class T, int G>
TS_INLINE void leaf_of_rows(const T* const* rows, const T* v, std::int64_t n, Vec<T>* out) {
  constexpr int R = kTreeChains * kTreeParts;
  constexpr std::int64_t W = Vec<T>::width;
  Vec<T> sum[G][R];
#pragma GCC unroll 16
  for (int g = 0; g < G; ++g)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[g][r] = Vec<T>(T(0));
  std::int64_t i = 0;
  for (; i + R * W <= n; i += R * W) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = Vec<T>::load(v + i + r * W);
#pragma GCC unroll 16
      for (int g = 0; g < G; ++g) sum[g][r] = fma(Vec<T>::load(rows[g] + i + r * W), x, sum[g][r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const std::int64_t left = n - i - r * W;
    if (left <= 0) break;
    const std::int64_t count = left < W ? left : W;
    const Vec<T> x = Vec<T>::load_partial(v + i + r * W, count);
#pragma GCC unroll 16
    for (int g = 0; g < G; ++g)
      sum[g][r] = fma(Vec<T>::load_partial(rows[g] + i + r * W, count), x, sum[g][r]);
  }
#pragma GCC unroll 16
  for (int g = 0; g < G; ++g) {
    Vec<T> part[kTreeParts];
#pragma GCC unroll 16
    for (int q = 0; q < kTreeParts; ++q)
      part[q] =
          (sum[g][q] + sum[g][kTreeParts + q]) + (sum[g][2 * kTreeParts + q] + sum[g][3 * kTreeParts + q]);
#pragma GCC unroll 16
    for (int half = kTreeParts / 2; half > 0; half /= 2)
      for (int q = 0; q < half; ++q) part[q] = part[q] + part[q + half];
    out[g] = part[0];
  }
}
template <class T>
TS_INLINE void leaf_of_four(const T* const* rows, const T* v, std::int64_t n, T* out) {
  Vec<T> sums[kRowsOnce];
#if defined(__AVX512F__)  // 16 sums fill half of its registers
  leaf_of_rows<T, kRowsOnce>(rows, v, n, sums);
#else
  for (int r = 0; r < kRowsOnce; ++r) leaf_of_rows<T, 1>(rows + r, v, n, sums + r);
#endif
  fold_rows<T>(sums, out);
}

template <class T>
void sums_of_four(const T* const* rows, const T* v, std::int64_t n, T* out) {
  if (n <= kLeaf<T>) return leaf_of_four<T>(rows, v, n, out);
  Pairwise<Add, T, kRowsOnce> above;
  for (std::int64_t i = 0; i < n; i += kLeaf<T>) {
    const T* at[kRowsOnce];
    for (int r = 0; r < kRowsOnce; ++r) at[r] = rows[r] + i;
    T sums[kRowsOnce];
    leaf_of_four<T>(at, v + i, n - i < kLeaf<T> ? n - i : kLeaf<T>, sums);
    above.push(sums);
  }
  above.finish(out);
}

template <class T>
void rows_times_vector(const Axes& a, const Operands<T>& o) {
  const std::int64_t grain = kReduceGrain / (a.length + 8) / kRowsOnce * kRowsOnce + kRowsOnce;
  parallel_ranges(a.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += kRowsOnce) {
      const T* rows[kRowsOnce];
      std::int64_t y[kRowsOnce];
      const int count = end - i < kRowsOnce ? static_cast<int>(end - i) : kRowsOnce;
      for (int r = 0; r < kRowsOnce; ++r) {  // beyond the last: that one again
        const Offsets at = output_offsets(a, r < count ? i + r : end - 1, a.kept);
        rows[r] = o.x + at.x, y[r] = at.y;
      }
      T sums[kRowsOnce];
      sums_of_four<T>(rows, o.x2, a.length, sums);
      for (int r = 0; r < count; ++r) o.y[0][y[r]] = sums[r] + T(0);
    }
  });
}

// Whether one vector serves all outputs.
bool shared(const View& x, int reduced) {
  for (int i = 0; i < x.ndim - reduced; ++i)
    if (x.shape[i] != 1 && x.strides[i] != 0) return false;
  return true;
}

}  // namespace

void dot(In a, In b, Out y, int reduced) {
  const View *x = &a, *x2 = &b;
  if (!shared(b, reduced) && shared(a, reduced)) x = &b, x2 = &a;
  const bool vector = y.size() > 1 && shared(*x2, reduced);
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    Axes axes;
    find_axes(*x, x2, y, reduced, axes);
    Operands<T> o;
    o.x = static_cast<const T*>(x->data), o.x2 = static_cast<const T*>(x2->data);
    o.y[0] = static_cast<T*>(y.data);
    o.partials = static_cast<T*>(scratch());
    if (!vector) return reduce(axes, o, Products<false>{});
    if (axes.reduced == 1 && axes.x[0] == 1 && axes.x2[0] == 1 && axes.length < 2 * kChunk<T>)
      return rows_times_vector<T>(axes, o);
    reduce(axes, o, Products<true>{});
  });
}

}  // namespace ts::cpu::TS_ISA
