// gradient_norm: the square root of the sum of squares of every element of every gradient, in float64.
//
// A fixed tree: ranges of kGrain elements of the gradients laid end to end; in a range each gradient's
// elements go to 32 sums by position mod 32, which are added pairwise; then the gradients of a
// range, then the ranges, in order. Reads every gradient once.
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/optim.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrain = 32768;
template <class T>
double sum_of_squares(const T* x, std::int64_t n) {
  constexpr std::int64_t kLanes = SquareSum::kLanes;
  SquareSum sum;
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum.add(x + i);
  if (i < n) {
    T last[kLanes] = {};
    std::memcpy(last, x + i, static_cast<std::size_t>(n - i) * sizeof(T));
    sum.add(last);
  }
  return sum.total();
}

}  // namespace

void gradient_norm(Ins grads, Out norm) {
  std::int64_t total = 0;
  for (std::int64_t k = 0; k < grads.size; ++k)
    if (grads.data[k]) total += grads.data[k].size();
  const std::int64_t pieces = (total + kGrain - 1) / kGrain;
  // Element ranges begin where the last one ended; where that is, in which gradient, is noted first.
  struct Start {
    std::int64_t gradient, element;
    double sum;
  };
  Start* const starts = static_cast<Start*>(scratch());
  std::int64_t next = 0, passed = 0;
  for (std::int64_t k = 0; k < grads.size; ++k) {
    if (!grads.data[k]) continue;
    const std::int64_t n = grads.data[k].size();
    for (; next < pieces && next * kGrain < passed + n; ++next)
      starts[next] = {k, next * kGrain - passed, 0.0};
    passed += n;
  }
  parallel_for(pieces, [&](std::int64_t piece) {
    std::int64_t left = kGrain, from = starts[piece].element;
    double sum = 0;
    for (std::int64_t k = starts[piece].gradient; k < grads.size && left > 0; ++k, from = 0) {
      const In& g = grads.data[k];
      if (!g) continue;
      const std::int64_t n = g.size() - from, count = n < left ? n : left;
      with_stored(g.dtype, [&]<class T>(Type<T>) { sum += sum_of_squares(g.as<T>() + from, count); });
      left -= count;
    }
    starts[piece].sum = sum;
  });
  double sum = 0;
  for (std::int64_t piece = 0; piece < pieces; ++piece) sum += starts[piece].sum;
  norm.as<double>()[0] = std::sqrt(sum);
}

}  // namespace ts::cpu::TS_ISA
