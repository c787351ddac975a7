// What the indexing kernels share: offsets by division, summands, and a stable sort of indices.
#pragma once

#include <optional>

#include "core/view.h"
#include "cuda/types.h"

namespace ts::cuda {

// x itself, or a copy where it is one number on the host.
struct OnDevice {
  View view;
  explicit OnDevice(const View& x) : view(x) {
    if (!on_host(x)) return;
    const std::int64_t bytes = itemsize(x.dtype);
    view.data = copy_.emplace(bytes).as<void>();
    upload(view.data, x.data, bytes);
  }

 private:
  std::optional<Workspace> copy_;
};

constexpr int kMaxRank = 16;

// A position in row-major order to the offsets of N operands. Rank beyond kMaxRank after the host has dropped
// extents of 1: NotImplementedError.
template <int N>
struct Walk {
  std::int64_t size[kMaxRank], stride[N][kMaxRank];
  int ndim = 0;

  void add(const char* kernel, std::int64_t extent, const std::int64_t (&strides)[N]) {
    if (extent == 1) return;
    if (ndim == kMaxRank) not_implemented(kernel, "more than 16 axes");
    size[ndim] = extent;
    for (int k = 0; k < N; ++k) stride[k][ndim] = strides[k];
    ++ndim;
  }
  TS_INLINE void offsets(std::int64_t i, std::int64_t (&at)[N]) const {
    for (int k = 0; k < N; ++k) at[k] = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const std::int64_t q = d > 0 ? i / size[d] : 0, r = i - q * size[d];
      for (int k = 0; k < N; ++k) at[k] += r * stride[k][d];
      i = q;
    }
  }
};

// Integers are added as unsigned numbers: they wrap; bool by or.
template <class T, bool = std::is_integral_v<T> && !std::is_same_v<T, bool>>
struct SummandOf {
  using type = T;
};
template <class T>
struct SummandOf<T, true> {
  using type = std::make_unsigned_t<T>;
};
template <class T>
using Summand = typename SummandOf<T>::type;

struct Plus {
  template <class T>
  TS_INLINE T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, bool>)
      return a || b;
    else
      return static_cast<T>(a + b);
  }
};
struct Replace {
  template <class T>
  TS_INLINE T operator()(T, T b) const {
    return b;
  }
};

// The indices in ascending order with their places, equal ones in the order of their places.
// keys and places have room for M; `largest` bounds the indices.
void sort_indices(const std::int64_t* index, std::int64_t stride, std::int64_t M, std::int64_t largest,
                  std::uint64_t* keys, std::uint64_t* places);

}  // namespace ts::cuda
