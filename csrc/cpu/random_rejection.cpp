// Gamma, Poisson and binomial numbers: the formulas of math/rejection.h for a register of elements at a time.
//
// Reads the parameters, writes y once.
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/types.h"
#include "math/rejection.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr int W = F64::width;
constexpr std::int64_t kGrain = 4096;

// What the lanes of a group draw from: block `attempt` of each lane's own.
class Draws {
 public:
  Draws(const Out& state, std::int64_t n) : generator_(state, n * kDrawBlocks) {}

  TS_INLINE void words(std::int64_t element, std::int64_t attempt, U64 (&w)[4]) const {
    U64 lane;
    for (int i = 0; i < W; ++i) lane.r[i] = static_cast<std::uint64_t>(i * kDrawBlocks);
    generator_.blocks_at(lane + U64(static_cast<std::uint64_t>(element * kDrawBlocks + attempt)), w);
  }

 private:
  Generator generator_;
};

// Parameters of a group: one for all, or each lane's own.
TS_INLINE F64 parameter(const In& x, std::int64_t i, std::int64_t n) {
  const double* const p = x.as<double>();
  if (x.strides[0] == 0) return F64(p[0]);
  if (i + W <= n) return F64::load(p + i);
  F64 y(p[i]);
  for (int l = 0; i + l < n; ++l) y.r[l] = p[i + l];
  return y;
}

template <class T>
TS_INLINE void write(T* y, F64 x, std::int64_t count) {
  for (int i = 0; i < W && i < count; ++i) y[i] = static_cast<T>(x[i]);
}

// make(i) for groups of W elements.
template <class T, class Make>
void draw(Out y, const Make& make) {
  const std::int64_t n = y.size();
  T* const out = y.as<T>();
  parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += W) write(out + i, make(i, n), end - i);
  });
}

}  // namespace

void random_gamma(Out state, In shape, Out y) {
  const Draws draws(state, y.size());
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    draw<T>(y, [&](std::int64_t i, std::int64_t n) { return gamma_one(draws, parameter(shape, i, n), i); });
  });
}

void random_poisson(Out state, In mean, Out y) {
  const Draws draws(state, y.size());
  draw<std::int64_t>(
      y, [&](std::int64_t i, std::int64_t n) { return poisson_one(draws, parameter(mean, i, n), i); });
}

void random_binomial(Out state, In count, In p, Out y) {
  const Draws draws(state, y.size());
  draw<std::int64_t>(y, [&](std::int64_t i, std::int64_t n) {
    return binomial_one(draws, parameter(count, i, n), parameter(p, i, n), i);
  });
}

}  // namespace ts::cpu::TS_ISA
