// sort, argsort and topk along rows, stable: y_0 <= y_1 <= ... <= y_{C-1}.
//
// R rows, C columns. Values become unsigned keys (sort.h). Rows up to a few hundred elements go through a
// network of comparators. Longer ones: values alone through a quicksort by registers where the level can
// compress them, else through a radix sort by bytes, 2 reads and 1 write of every element for each byte in
// which the elements differ. Of 8-byte keys the upper half is sorted first, and the lower half only if that
// leaves long runs of equals. topk keeps what beats the k-th best so far: about one read of x.
#include <cstring>

#include "cpu/argsort.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// Rows from this length on are sorted by all threads, in memory that the caller gives; others in scratch.
constexpr std::int64_t kLongRow = 1 << 17;

template <class F>
void with_comparable(DType d, F&& f) {
  is_half(d) ? with_stored(d, f) : with_any(d, f);
}

template <class Row>
void for_sorted_rows(std::int64_t rows, std::int64_t columns, const Row& row) {
  if (columns >= kLongRow) {
    for (std::int64_t r = 0; r < rows; ++r) row(r);
    return;
  }
  parallel_ranges(rows, (1 << 13) / (columns + 8) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) row(r);
  });
}

// Room for `bytes`: the caller's for a long row, else scratch beyond the tables of radix_sort.
TS_INLINE char* room(const View& workspace, std::int64_t columns) {
  return columns >= kLongRow ? static_cast<char*>(workspace.data) : static_cast<char*>(scratch()) + (1 << 20);
}

// Keys of one byte: how often each occurs says it all.
template <class T>
void sort_bytes(const T* x, T* y, std::int64_t n, const Order<T, false>& order) {
  std::int64_t counts[256] = {}, at = 0;
  for (std::int64_t i = 0; i < n; ++i) ++counts[order.key(x[i])];
  for (int k = 0; k < 256; ++k) {
    std::memset(y + at, static_cast<unsigned char>(order.value(static_cast<std::uint8_t>(k))),
                static_cast<std::size_t>(counts[k]));
    at += counts[k];
  }
}

// Many keys of two bytes, n < 2^32: counted, then written in order, by all threads where they are enough. A
// table for each piece of x; a piece of y is what lies between two keys.
constexpr std::int64_t kCounted = 1 << 15;
template <class T>
void sort_counted(const T* x, T* y, std::int64_t n, const Order<T, false>& order) {
  constexpr std::int64_t kKeys = 1 << 16, kSpan = 1 << 10, kSpans = kKeys / kSpan, kBatch = 512;
  using Values = Vec<std::uint16_t>;
  using Counts = Vec<std::uint32_t>;
  const std::int64_t most = n >> 16, pieces = most < 1 ? 1 : most > 8 ? 8 : most;
  std::uint32_t* const tables = static_cast<std::uint32_t*>(scratch());
  parallel_for(pieces, [&](std::int64_t piece) {
    std::uint32_t* const table = tables + piece * kKeys;
    std::memset(table, 0, kKeys * sizeof(*table));
    const std::int64_t end = piece + 1 == pieces ? n : n / pieces * (piece + 1);
    for (std::int64_t i = n / pieces * piece; i < end; i += kBatch) {
      std::uint16_t keys[kBatch];
      const std::int64_t count = end - i < kBatch ? end - i : kBatch;
      for (std::int64_t j = 0; j < count; ++j) keys[j] = order.key(x[i + j]);
      for (std::int64_t j = 0; j < count; ++j) ++table[keys[j]];
    }
  });
  std::int64_t starts[kSpans + 1] = {};
  parallel_ranges(kSpans, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t span = begin; span < end; ++span) {
      std::int64_t total = 0;
      for (std::int64_t k = span * kSpan; k < (span + 1) * kSpan; k += Counts::width) {
        Counts sum = Counts::load(tables + k);
        for (std::int64_t p = 1; p < pieces; ++p) sum = sum + Counts::load(tables + p * kKeys + k);
        sum.store(tables + k);
        for (int lane = 0; lane < Counts::width; ++lane) total += sum[lane];
      }
      starts[span + 1] = total;
    }
  });
  for (std::int64_t span = 0; span < kSpans; ++span) starts[span + 1] += starts[span];
  parallel_ranges(kSpans, 8, [&](std::int64_t begin, std::int64_t end) {
    std::uint16_t* const to = reinterpret_cast<std::uint16_t*>(y);
    std::int64_t at = starts[begin];
    const std::int64_t last = starts[end];
    for (std::int64_t k = begin * kSpan; k < end * kSpan && at < last; k += Counts::width) {
      const Counts counts = Counts::load(tables + k);
      if (!any(counts != Counts(0u))) continue;
      // A whole register of each key, none or one of them as well: the next one overwrites what is too much.
      for (int lane = 0; lane < Counts::width; ++lane) {
        std::uint16_t bits;
        const T value = order.value(static_cast<std::uint16_t>(k + lane));
        std::memcpy(&bits, &value, sizeof(bits));
        const Values values(bits);
        const std::int64_t stop = at + static_cast<std::int64_t>(counts[lane]);
        for (std::int64_t i = at; i == at || i < stop; i += Values::width) {
          if (i + Values::width <= last)
            values.store(to + i);
          else
            values.store_partial(to + i, last - i);
        }
        at = stop;
      }
    }
  });
}

#if defined(__AVX2__)

// Floats are sorted as they are. Where that is not their order, NaN is infinity on the way and put in its
// place afterwards, as are the zeros, which compare equal. Descending is the order of the negatives.
template <class T>
void sort_values(const T* x, T* y, std::int64_t n, const Order<T, false>& order, T* room)
  requires std::is_floating_point_v<T>
{
  using Key = KeyOf<T>;
  constexpr Key kTop = Order<T, false>::kTop;
  const Key sign = order.flip & kTop;
  const Vec<Key> signs(sign);
  const auto put = [&](Vec<T> v, std::int64_t at, std::int64_t count) __attribute__((always_inline)) {
    store_some(v ^ signs, y + at, count);
  };
  const std::int64_t chunk = sort_chunk(n);
  bool plain[130];
  parallel_ranges(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    plain[begin / chunk] = !holds_special(x + begin, end - begin, sign != 0);
  });
  bool all = true;
  for (std::int64_t c = 0; c * chunk < n; ++c) all = all && plain[c];
  if (all) return quicksort(x, sign, y, room, n, put);
  IntOf<T> nans[130], zeros[130];
  parallel_ranges(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    IntOf<T> unordered = 0, negative = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      Key bits;
      std::memcpy(&bits, x + i, sizeof(T));
      bits ^= sign;
      const bool nan = x[i] != x[i];
      unordered += nan, negative += bits == kTop;
      T value;
      std::memcpy(&value, &bits, sizeof(T));
      y[i] = nan ? kLast<T> : value;
    }
    nans[begin / chunk] = unordered, zeros[begin / chunk] = negative;
  });
  quicksort(y, Key(0), y, room, n, put);
  std::int64_t last = n, negative = 0;
  for (std::int64_t c = 0; c * chunk < n; ++c) last -= nans[c], negative += zeros[c];
  for (std::int64_t i = last; i < n; ++i) y[i] = order.value(static_cast<Key>(~Key(0)));
  if (negative) {
    const bool up = sign == 0;
    std::int64_t zero = 0;  // of the first, by halving
    for (std::int64_t end = last; zero < end;) {
      const std::int64_t middle = zero + (end - zero) / 2;
      if (up ? y[middle] < 0 : y[middle] > 0)
        zero = middle + 1;
      else
        end = middle;
    }
    for (std::int64_t i = zero; i < last && y[i] == 0; ++i)
      y[i] = up == (i < zero + negative) ? T(-0.0) : T(0);
  }
}

// Integers as unsigned keys; those of 8 bytes whose range fits 4, as most do, as keys of 4.
template <class T>
void sort_values(const T* x, T* y, std::int64_t n, const Order<T, false>& order, KeyOf<T>* room) {
  using Key = KeyOf<T>;
  const Key* const from = reinterpret_cast<const Key*>(x);
  const Key flip = order.key(T(0));  // a key is the value's bits, some flipped
  const Vec<Key> flips(flip);
  const auto put = [&](Vec<Key> v, std::int64_t at, std::int64_t count) __attribute__((always_inline)) {
    store_some(v ^ flips, reinterpret_cast<Key*>(y) + at, count);
  };
  if constexpr (sizeof(Key) == 8) {
    const std::int64_t chunk = sort_chunk(n);
    Key least[130], most[130];
    parallel_ranges(n, chunk, [&](std::int64_t begin, std::int64_t end) {
      Key low = static_cast<Key>(~Key(0)), high = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        const Key key = order.key(x[i]);
        low = key < low ? key : low, high = key > high ? key : high;
      }
      least[begin / chunk] = low, most[begin / chunk] = high;
    });
    Key low = least[0], high = most[0];
    for (std::int64_t c = 1; c * chunk < n; ++c)
      low = least[c] < low ? least[c] : low, high = most[c] > high ? most[c] : high;
    if (high - low <= 0xffffffffu) {
      using Half = std::uint32_t;
      Half* const half = reinterpret_cast<Half*>(room);
      parallel_ranges(n, kSortGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) half[i] = static_cast<Half>(order.key(x[i]) - low);
      });
      const Vec<Key> lows(low);
      const auto widen = [&](Vec<Half> v, std::int64_t at, std::int64_t count)
          __attribute__((always_inline)) {
        constexpr std::int64_t W = Vec<Key>::width;
        const auto [first, second] = widened(v);
        put(first + lows, at, count < W ? count : W);
        if (count > W) put(second + lows, at + W, count - W);
      };
      return quicksort(half, Half(0), half, half + n, n, widen);
    }
  }
  quicksort(from, flip, reinterpret_cast<Key*>(y), room, n, put);
}

#endif

// Sorts a[0..n) with b as room, and writes values to y.
template <class T>
void sort_keys(KeyOf<T>* a, KeyOf<T>* b, T* y, std::int64_t n, const Order<T, false>& order) {
  using Key = KeyOf<T>;
  const auto put = [&](const Key* keys, std::int64_t count, T* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = order.value(keys[i]);
  };
  if (n <= kNetworkLength<Key>) {
    network_sort(a, n);
    return put(a, n, y);
  }
  Key* sorted = a;
  if constexpr (sizeof(T) == 8) {
    sorted = radix_sort(a, b, n, 4, 8);
    if (!repair_runs(sorted, n, [](std::uint64_t p, std::uint64_t q) { return p < q; }))
      sorted = radix_sort(sorted, sorted == a ? b : a, n, 0, 8);
  } else {
    sorted = radix_sort(a, b, n, 0, sizeof(T));
  }
  parallel_ranges(n, kSortGrain,
                  [&](std::int64_t begin, std::int64_t end) { put(sorted + begin, end - begin, y + begin); });
}

template <class T>
void sort_row(const T* x, T* y, std::int64_t n, const Order<T, false>& order, char* workspace) {
  using Key = KeyOf<T>;
  Key* const a = reinterpret_cast<Key*>(workspace);
  Key* const b = a + (n < kNetworkLength<Key> ? kNetworkLength<Key> : n);
  if constexpr (sizeof(T) == 1) return sort_bytes(x, y, n, order);
  if constexpr (sizeof(T) == 2)
    if (n >= kCounted && n <= UINT32_MAX) return sort_counted(x, y, n, order);
#if defined(__AVX2__)
  if constexpr (is_half_type<T>) {
    if (n > kNetworkLength<Key> && n < kCounted) {  // as floats, which the quicksort takes
      float* const wide = reinterpret_cast<float*>(workspace);
      float* const sorted = wide + n;
      each<float>(0, n, [&](std::int64_t i, auto part) { put(wide + i, get(x + i, part), part); });
      sort_values(wide, sorted, n, Order<float, false>(order.flip != 0, false), sorted + n);
      each<float>(0, n, [&](std::int64_t i, auto part) { put(y + i, get(sorted + i, part), part); });
      return;
    }
  }
  if constexpr (std::is_floating_point_v<T>)
    return sort_values(x, y, n, order, reinterpret_cast<T*>(b));
  else if constexpr (sizeof(T) >= 4 && !is_half_type<T>)
    return sort_values(x, y, n, order, b);
#endif
  if constexpr (sizeof(T) > 1) {
    parallel_ranges(n, kSortGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) a[i] = order.key(x[i]);
    });
    sort_keys(a, b, y, n, order);
  }
}

template <class T>
void argsort_row(const T* x, std::int64_t* y, std::int64_t n, const Order<T, true>& order, char* workspace) {
  if constexpr (sizeof(T) == 2)
    if (n <= 1 << 16) return argsort_short_keys(x, y, n, order, workspace);
  std::uint64_t* const a = reinterpret_cast<std::uint64_t*>(workspace);
  std::uint64_t* const b = reinterpret_cast<std::uint64_t*>(y);
  const std::uint64_t* sorted = nullptr;
  const auto key = [&](std::int64_t i) { return order.key(x[i]); };
  if constexpr (std::is_integral_v<T> && sizeof(T) == 8) {
    std::uint64_t low = ~std::uint64_t{0}, high = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::uint64_t k = key(i);
      low = k < low ? k : low, high = k > high ? k : high;
    }
    const auto from_low = [&]<class Key>(Type<Key>) {
      sorted = sort_positions<Key>(n, [&](std::int64_t i) { return static_cast<Key>(key(i) - low); }, a, b);
    };
    if (high - low <= 0xffu)
      from_low(Type<std::uint8_t>{});
    else if (high - low <= 0xffffffffu)  // as most integers are: half the bytes
      from_low(Type<std::uint32_t>{});
  }
  if (!sorted) sorted = sort_positions<KeyOf<T>>(n, key, a, b);
  parallel_ranges(n, kSortGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<std::int64_t>(sorted[i] & 0xffffffffu);
  });
}

// How long topk's list of candidates may become.
TS_INLINE std::int64_t topk_list(std::int64_t k) { return k + (k < 64 ? 64 : k); }

// The positions of the k first in order. Candidates are what is before the k-th of those seen so far; when
// their list is full it is sorted and cut to k. Equal elements count in order of position, so a later one
// never displaces an earlier one.
template <class T>
void topk_row(const T* x, std::int64_t* y, std::int64_t n, std::int64_t k, const Order<T, true>& order,
              char* workspace) {
  using Key = KeyOf<T>;
  constexpr std::int64_t kBlock = 128, kPart = 16;
  const std::int64_t full = topk_list(k);
  // Lists with room for a block more: keys, positions; then the two arrays of sort_positions.
  Key* const keys = reinterpret_cast<Key*>(workspace);
  std::uint32_t* const places = reinterpret_cast<std::uint32_t*>(workspace + 8 * (full + kBlock));
  std::uint64_t* const a = reinterpret_cast<std::uint64_t*>(workspace + 16 * (full + kBlock));
  std::uint64_t* const b = a + full + kBlock + kNetworkLength<std::uint64_t>;
  std::int64_t count = 0;
  Key worst = 0;
  bool bounded = false;
  const auto cut = [&] {
    const std::uint64_t* const sorted =
        sort_positions<Key>(count, [&](std::int64_t i) { return keys[i]; }, a, b);
    if (count > k) count = k;
    std::uint64_t* const spare = sorted == a ? b : a;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t p = static_cast<std::int64_t>(sorted[i] & 0xffffffffu);
      spare[i] = places[p];
      y[i] = static_cast<std::int64_t>(keys[p]);
    }
    for (std::int64_t i = 0; i < count; ++i)
      places[i] = static_cast<std::uint32_t>(spare[i]), keys[i] = static_cast<Key>(y[i]);
    if (count == k) worst = keys[k - 1], bounded = true;
  };
  // Whether any of x[from, from + count) may come before the worst candidate: a few instructions for a
  // register of floats, NaN among them or not.
  const auto hopeful = [&](std::int64_t from, std::int64_t length) {
    if (!bounded) return true;
    if constexpr (std::is_floating_point_v<Computed<T>>) {
      using Number = Computed<T>;
      constexpr std::int64_t W = Vec<Number>::width;
      if (length % W == 0) {
        const Vec<Number> bound(static_cast<Number>(order.value(worst)));
        Mask<Number> some = Vec<Number>(Number(0)) != Vec<Number>(Number(0));
        for (std::int64_t j = 0; j < length; j += W) {
          const Vec<Number> v = get(x + from + j, All{});
          some = some | ~(order.flip ? v <= bound : v >= bound);
        }
        return any(some);
      }
    }
    bool some = false;
    for (std::int64_t j = 0; j < length; ++j) some |= order.key(x[from + j]) < worst;
    return some;
  };
  for (std::int64_t i = 0; i < n; i += kBlock) {
    const std::int64_t m = n - i < kBlock ? n - i : kBlock;
    if (!hopeful(i, m)) continue;
    for (std::int64_t j = 0; j < m; j += kPart) {
      const std::int64_t last = m - j < kPart ? m : j + kPart;
      if (!hopeful(i + j, last - j)) continue;
      for (std::int64_t l = j; l < last; ++l) {
        const Key key = order.key(x[i + l]);
        keys[count] = key;
        places[count] = static_cast<std::uint32_t>(i + l);
        count += !bounded || key < worst;
      }
    }
    if (count >= full) cut();
  }
  cut();
  for (std::int64_t i = 0; i < k; ++i) y[i] = places[i];
}

}  // namespace

void sort(In x, Out y, Out workspace, bool descending) {
  with_comparable(x.dtype, [&]<class T>(Type<T>) {
    const Rows<const T> xs(x);
    const Rows<T> ys(y);
    const Order<T, false> order(descending, false);
    const std::int64_t C = x.shape[1];
    for_sorted_rows(x.shape[0], C,
                    [&](std::int64_t r) { sort_row(xs[r], ys[r], C, order, room(workspace, C)); });
  });
}

void argsort(In x, Out index, Out workspace, bool descending) {
  with_comparable(x.dtype, [&]<class T>(Type<T>) {
    const Rows<const T> xs(x);
    const Rows<std::int64_t> ys(index);
    const Order<T, true> order(descending, false);
    const std::int64_t C = x.shape[1];
    for_sorted_rows(x.shape[0], C,
                    [&](std::int64_t r) { argsort_row(xs[r], ys[r], C, order, room(workspace, C)); });
  });
}

void topk(In x, Out index, Out workspace, bool largest) {
  with_comparable(x.dtype, [&]<class T>(Type<T>) {
    const Rows<const T> xs(x);
    const Rows<std::int64_t> ys(index);
    const Order<T, true> order(largest, true);
    const std::int64_t C = x.shape[1], k = index.shape[1];
    for_sorted_rows(x.shape[0], C,
                    [&](std::int64_t r) { topk_row(xs[r], ys[r], C, k, order, room(workspace, C)); });
  });
}

}  // namespace ts::cpu::TS_ISA
