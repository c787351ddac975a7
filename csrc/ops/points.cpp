// Single elements at given places, read and written where they lie: no kernel, and few steps to one.
#include "ops/points.h"

#include "core/launch.h"

namespace ts::ops {
namespace {

// Few elements of a vector in the host's memory are read and written without a kernel: the steps to one are
// what takes time.
struct Few {
  static constexpr std::int64_t kMost = 128;
  std::int64_t count = 0;
  const std::int64_t* places = nullptr;  // from x.data(), in elements
  std::int64_t counted[kMost];

  // False: not so, or an index is out of range.
  bool find(const Array& x, const Key& key) {
    if (x.ndim() != 1 || key.end() - key.begin() != 1 || detail::watching()) return false;
    const Array& index = key.arrays[0];
    if (index.dtype() != DType::int64 || index.size() > kMost || !index.is_contiguous() ||
        x.device() != Device::cpu || index.device() != Device::cpu)
      return false;
    const std::int64_t N = x.shape(0), stride = x.stride(0);
    const auto* const from = static_cast<const std::int64_t*>(index.data());
    count = index.size();
    std::int64_t wrong = 0;  // negative where one is, or is beyond the end
    for (std::int64_t m = 0; m < count; ++m) wrong |= from[m] | (N - 1 - (from[m] & INT64_MAX));
    if (wrong >= 0 && stride == 1) {
      places = from;
      return true;
    }
    for (std::int64_t m = 0; m < count; ++m) {
      const std::int64_t i = from[m];
      if (i < -N || i >= N) return false;
      counted[m] = (i < 0 ? i + N : i) * stride;
    }
    places = counted;
    return true;
  }
  // Calls move(T) for an integer of an element's size; false for other sizes.
  template <class Move>
  static bool by_size(DType dtype, const Move& move) {
    switch (itemsize(dtype)) {
      case 4:
        move(std::uint32_t());
        return true;
      case 8:
        move(std::uint64_t());
        return true;
      default:
        return false;
    }
  }
};

}  // namespace

bool set_few(Array& x, const Key& key, const Operand& value) {
  if (!value.is_array()) return false;
  const Array& source = value.array();
  Few few;
  if (source.dtype() != x.dtype() || !source.is_contiguous() || source.device() != Device::cpu ||
      x.self_overlaps() || key.arrays[0].shape() != source.shape() || may_overlap(source, x) ||
      may_overlap(key.arrays[0], x) || !few.find(x, key))
    return false;
  const bool done = Few::by_size(x.dtype(), [&]<class T>(T) {
    T* const to = static_cast<T*>(x.data());
    const T* const values = static_cast<const T*>(source.data());
    for (std::int64_t m = 0; m < few.count; ++m) to[few.places[m]] = values[m];
  });
  if (done) x.storage()->bump();
  return done;
}

Array take_few(const Array& x, const Key& key) {
  Few few;
  if (itemsize(x.dtype()) < 4 || itemsize(x.dtype()) > 8 || !few.find(x, key)) return {};
  Array y = empty("getitem", x.dtype(), key.arrays[0].shape());
  Few::by_size(x.dtype(), [&]<class T>(T) {
    T* const to = static_cast<T*>(y.data());
    const T* const from = static_cast<const T*>(x.data());
    for (std::int64_t m = 0; m < few.count; ++m) to[m] = from[few.places[m]];
  });
  return y;
}

Array take_points(const Array& x, const Key& key) {
  constexpr std::int64_t kBlock = 256, kMostAxes = 3, kMostPoints = 1 << 15;  // more are for all threads
  const auto axes = static_cast<std::int64_t>(key.arrays.size());
  if (axes < 2 || axes > kMostAxes || axes != x.ndim() || key.end() - key.begin() != axes ||
      x.device() != Device::cpu || detail::watching())
    return {};
  const std::int64_t* index[kMostAxes] = {};
  std::int64_t extent[kMostAxes] = {}, stride[kMostAxes] = {};
  const Shape& shape = key.arrays[0].shape();
  for (std::int64_t a = 0; a < axes; ++a) {
    const Array& given = key.arrays[static_cast<std::size_t>(a)];
    if (given.dtype() != DType::int64 || given.shape() != shape || !given.is_contiguous() ||
        given.device() != Device::cpu || x.shape(static_cast<int>(a)) == 0)
      return {};
    index[a] = static_cast<const std::int64_t*>(given.data());
    extent[a] = x.shape(static_cast<int>(a)), stride[a] = x.stride(static_cast<int>(a));
  }
  const std::int64_t M = size_of(shape);
  if (M > kMostPoints) return {};
  Array y = empty("getitem", x.dtype(), shape);
  bool inside = true;
  const bool moved = Few::by_size(x.dtype(), [&]<class T>(T) {
    const T* const source = static_cast<const T*>(x.data());
    T* const to = static_cast<T*>(y.data());
    std::int64_t places[2][kBlock];
    // One element at a time: SSE2, which is what this file is compiled for, has no products of 64 bits.
    const auto find_of = [&]<int kAxes>(std::integral_constant<int, kAxes>, std::int64_t begin,
                                        std::int64_t n, std::int64_t* into) {
      const std::int64_t* at[kAxes];
      std::int64_t N[kAxes], step[kAxes];
      for (int a = 0; a < kAxes; ++a) at[a] = index[a] + begin, N[a] = extent[a], step[a] = stride[a];
      std::int64_t wrong = 0;  // negative where an index is, or is beyond the end
      for (std::int64_t m = 0; m < n; ++m) {
        std::uint64_t place = 0;
        for (int a = 0; a < kAxes; ++a) {
          const std::int64_t i = at[a][m] + (at[a][m] >> 63 & N[a]);
          wrong |= i | (N[a] - 1 - i);
          place += static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(step[a]);
        }
        into[m] = static_cast<std::int64_t>(place);
        __builtin_prefetch(source + into[m]);
      }
      return wrong >= 0;
    };
    const auto find = [&](std::int64_t begin, std::int64_t n, std::int64_t* into) {
      return axes == 2 ? find_of(std::integral_constant<int, 2>{}, begin, n, into)
                       : find_of(std::integral_constant<int, 3>{}, begin, n, into);
    };
    const auto count = [&](std::int64_t begin) { return M - begin < kBlock ? M - begin : kBlock; };
    inside = M == 0 || find(0, count(0), places[0]);
    for (std::int64_t begin = 0, now = 0; inside && begin < M; begin += kBlock, now ^= 1) {
      const std::int64_t next = begin + kBlock, n = count(begin);
      if (next < M && !find(next, count(next), places[now ^ 1])) inside = false;
      for (std::int64_t m = 0; m < n; ++m) to[begin + m] = source[places[now][m]];
    }
  });
  return moved && inside ? y : Array();
}

}  // namespace ts::ops
