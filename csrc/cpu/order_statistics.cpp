// The elements that stand at given places of a sorted row, as medians and quantiles need them, without the
// sort.
//
// R rows of C elements, K places. Quickselect by registers: a segment is parted by a pivot as the quicksort
// does it, and only the parts that hold a place are gone on with: about two reads and writes of a row for its
// median, in place of one for each halving. A row with NaN gives NaN throughout. Rows with NaN or -0, whose
// order the comparison does not know, are sorted, and so is every row where the level cannot compress
// registers: the values are the same.
#include "cpu/kernels.h"
#include "cpu/quicksort.h"
#include "cpu/rows.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

using I = std::int64_t;

constexpr I kLongRow = 1 << 17;                // from here on memory is the caller's, as for sort
constexpr std::size_t kOwnScratch = 16 << 20;  // in scratch memory beyond what sort uses of it

#if defined(__AVX2__)

template <class T>
struct Selection {
  static constexpr int kDepth = 96;
  const I* places;
  T* y;
  T* room;  // for a row

  void sort(T* keys, I n, I at, I first, I last) const {
    quicksort(
        keys, KeyOf<T>(0), keys, room, n, [&](Vec<T> v, I to, I count) __attribute__((always_inline)) {
          v.store_partial(keys + to, count);
        });
    for (I k = first; k < last; ++k) y[k] = keys[places[k] - at];
  }

  // The largest or the smallest.
  template <bool kLargest>
  static T extreme(const T* keys, I n) {
    constexpr I W = Vec<T>::width;
    const auto more = [](Vec<T> a, Vec<T> b) { return kLargest ? max(a, b) : min(a, b); };
    Vec<T> best[4];
    for (int r = 0; r < 4; ++r) best[r] = Vec<T>(keys[0]);
    I i = 0;
    for (; i + 4 * W <= n; i += 4 * W)
      for (int r = 0; r < 4; ++r) best[r] = more(best[r], Vec<T>::load(keys + i + r * W));
    const Vec<T> all = more(more(best[0], best[1]), more(best[2], best[3]));
    T y = all[0];
    const auto take = [&](T x) { y = (kLargest ? x > y : x < y) ? x : y; };
    for (int lane = 1; lane < W; ++lane) take(all[lane]);
    for (; i < n; ++i) take(keys[i]);
    return y;
  }

  // keys: what stands at [at, at + n) of the sorted row, where the places first ... last - 1 lie.
  void run(T* keys, I n, I at, I first, I last, int depth) const {
    for (; first < last; ++depth) {
      if (last - first == 1 && (places[first] == at || places[first] == at + n - 1)) {
        y[first] = places[first] == at ? extreme<false>(keys, n) : extreme<true>(keys, n);
        return;
      }
      if (n <= kRegisterSort<T> || depth > kDepth) return sort(keys, n, at, first, last);
      const T pivot = Quicksort<T, int>::template median<8>(keys, KeyOf<T>(0), n);
      const I low = Quicksort<T, int>::template part_in_place<false>(keys, KeyOf<T>(0), n, pivot);
      if (!go_on(keys, n, at, first, last, depth, low, pivot)) return;
    }
  }
  // The same of a row that is not to be changed.
  void start(const T* x, T* keys, I n, I last) const {
    if (n <= kRegisterSort<T>) {
      for (I i = 0; i < n; ++i) keys[i] = x[i];
      return run(keys, n, 0, 0, last, 0);
    }
    I at = 0, first = 0;
    const T pivot = Quicksort<T, int>::template median<8>(x, KeyOf<T>(0), n);
    const I low = Quicksort<T, int>::part_to_ends(x, KeyOf<T>(0), keys, n, pivot);
    if (go_on(keys, n, at, first, last, 0, low, pivot)) run(keys, n, at, first, last, 1);
  }

 private:
  // After a split with `low` elements below the pivot: the smaller part with places is done, the other one is
  // what keys, n, at, first and last are from now on; false where there is none.
  bool go_on(T*& keys, I& n, I& at, I& first, I& last, int depth, I low, T pivot) const {
    if (low == 0) {  // the pivot is the least: all equal to it are done
      low = Quicksort<T, int>::template part_in_place<true>(keys, KeyOf<T>(0), n, pivot);
      for (; first < last && places[first] < at + low; ++first) y[first] = pivot;
    } else {
      I middle = first;
      while (middle < last && places[middle] < at + low) ++middle;
      if (middle == last) {
        n = low;
        return true;
      }
      if (middle > first) run(keys, low, at, first, middle, depth + 1);
      first = middle;
    }
    keys += low, at += low, n -= low;
    return first < last;
  }
};

#endif

// One row; `memory` has 32 bytes for each of its elements.
template <class T>
void row_statistics(const T* x, I n, In places, T* y, char* memory) {
  const I* const place = places.as<I>();
  const I K = places.shape[0];
  T* const own = reinterpret_cast<T*>(memory);
#if defined(__AVX2__)
  if (!holds_special(x, n, false)) return Selection<T>{place, y, own + n}.start(x, own, n, K);
#endif
  const I shape[2] = {1, n}, strides[2] = {n, 1}, bytes = 24 * n, one = 1;
  const DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
  char* const rest = memory + 8 * n;
  sort(In{{const_cast<T*>(x), shape, strides, nullptr, 2, dtype}},
       Out{{own, shape, strides, nullptr, 2, dtype}}, Out{{rest, &bytes, &one, nullptr, 1, DType::uint8}},
       false);
  const bool number = own[n - 1] == own[n - 1];  // NaN is last
  for (I k = 0; k < K; ++k) y[k] = number ? own[place[k]] : own[n - 1];
}

}  // namespace

void order_statistics(In x, In places, Out y, Out workspace) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Rows<const T> xs(x);
    const Rows<T> ys(y);
    const I R = x.shape[0], C = x.shape[1];
    if (C >= kLongRow) {
      for (I r = 0; r < R; ++r) row_statistics(xs[r], C, places, ys[r], workspace.as<char>());
      return;
    }
    parallel_ranges(R, (1 << 14) / (C + 8) + 1, [&](I begin, I end) {
      for (I r = begin; r < end; ++r)
        row_statistics(xs[r], C, places, ys[r], static_cast<char*>(scratch()) + kOwnScratch);
    });
  });
}

}  // namespace ts::cpu::TS_ISA
