// gradient_norm: the square root of the sum of squares of every element of every gradient, in float64.
//
// A fixed tree: ranges of kGrain elements of the gradients laid end to end; in a range each gradient's
// elements go to kLanes sums by position mod kLanes, which are added pairwise; then the gradients of a
// range, then the ranges, in order. Reads every gradient once.
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrain = 32768;
constexpr int kLanes = 32;

template <class T>
TS_INLINE Vec<double> load_double(const T* p) {
  if constexpr (sizeof(T) == 8) {
    return Vec<double>::load(p);
  } else {
    typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
    Half half;
    std::memcpy(&half, p, sizeof half);
    return Vec<double>(__builtin_convertvector(half, Vec<double>::Reg));
  }
}

template <class T>
double sum_of_squares(const T* x, std::int64_t n) {
  constexpr int kWidth = Vec<double>::width, kRegisters = kLanes / kWidth;
  Vec<double> sums[kRegisters];
  for (auto& s : sums) s = Vec<double>(0.0);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int r = 0; r < kRegisters; ++r) {
      const Vec<double> v = load_double(x + i + r * kWidth);
      sums[r] = fma(v, v, sums[r]);
    }
  }
  double lanes[kLanes];
  std::memcpy(lanes, sums, sizeof lanes);
  for (int j = 0; i < n; ++i, ++j) {
    const double v = static_cast<double>(x[i]);
#if defined(__FMA__)
    lanes[j] = __builtin_fma(v, v, lanes[j]);
#else
    lanes[j] += v * v;
#endif
  }
  for (int half = kLanes / 2; half; half /= 2)
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  return lanes[0];
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
      with_floating(g.dtype, [&]<class T>(Type<T>) { sum += sum_of_squares(g.as<T>() + from, count); });
      left -= count;
    }
    starts[piece].sum = sum;
  });
  double sum = 0;
  for (std::int64_t piece = 0; piece < pieces; ++piece) sum += starts[piece].sum;
  norm.as<double>()[0] = std::sqrt(sum);
}

}  // namespace ts::cpu::TS_ISA
