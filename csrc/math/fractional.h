// Where the windows of fractional max pooling start (Graham 2014).
//
// Along an axis of n inputs and m outputs, with windows of k and a sample u in [0, 1), as PyTorch has it:
//   a = (n - k) / (m - 1),  start_i = floor((i + u) a) - floor(u a),  start_{m-1} = n - k
#pragma once

#include <cstdint>

#include "math/registers.h"

namespace ts::TS_MATH {

template <class T>
struct FractionalStarts {
  std::int64_t windows, last;
  T u, a;

  TS_INLINE FractionalStarts(T sample, std::int64_t n, std::int64_t k, std::int64_t m)
      : windows(m),
        last(n - k),
        u(sample >= T(0) && sample <= T(1) ? sample : T(0)),  // ops checks those of the host
        a(static_cast<T>(n - k) / static_cast<T>(m - 1)) {}
  TS_INLINE std::int64_t operator[](std::int64_t i) const {
    if (i == windows - 1) return last;
    const std::int64_t at =
        static_cast<std::int64_t>((static_cast<T>(i) + u) * a) - static_cast<std::int64_t>(u * a);
    return at < last ? at : last;
  }
};

}  // namespace ts::TS_MATH
