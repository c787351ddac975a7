// Gamma, Poisson and binomial numbers with the CPU's bits: the formulas of math/rejection.h, a thread a
// number.
//
// Reads the parameters, writes y once. Threads of a warp wait for the one that is accepted last: about three
// attempts where one alone needs 1.1 to 1.3.
#include "cuda/kernels.h"
#include "cuda/random.h"
#include "cuda/types.h"
#include "math/rejection.h"

namespace ts::cuda {
namespace {

struct Draws {
  Generator generator;
  TS_INLINE void words(std::int64_t element, std::int64_t attempt, U64 (&w)[4]) const {
    std::uint32_t narrow[4];
    generator.words(element * kDrawBlocks + attempt, narrow);
    for (int i = 0; i < 4; ++i) w[i] = U64(narrow[i]);
  }
};

// One number for all, or each element's own.
struct Parameter {
  const double* data;
  std::int64_t stride;
  explicit Parameter(const View& x) : data(static_cast<const double*>(x.data)), stride(x.strides[0]) {}
  TS_INLINE F64 operator[](std::int64_t i) const { return F64(data[i * stride]); }
};

struct Gamma {
  Parameter shape;
  TS_INLINE F64 operator()(const Draws& draws, std::int64_t i) const { return gamma_one(draws, shape[i], i); }
};
struct Poisson {
  Parameter mean;
  TS_INLINE F64 operator()(const Draws& draws, std::int64_t i) const {
    return poisson_one(draws, mean[i], i);
  }
};
struct Binomial {
  Parameter count, p;
  TS_INLINE F64 operator()(const Draws& draws, std::int64_t i) const {
    return binomial_one(draws, count[i], p[i], i);
  }
};

template <class T, class Make>
__global__ void __launch_bounds__(256)
    rejection_kernel(const Generator generator, T* y, std::int64_t n, const Make make) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) y[i] = static_cast<T>(make(Draws{generator}, i).r);
}
template <class T, class Make>
void draw(const View& state, const View& y, const Make& make) {
  const std::int64_t n = y.size();
  if (n == 0) return;
  launch(&rejection_kernel<T, Make>, dim3(blocks_of(ceil_div(n, 256))), dim3(256), 0,
         Generator{static_cast<const std::uint64_t*>(state.data)}, static_cast<T*>(y.data), n, make);
  advance(state, n * kDrawBlocks);
}

}  // namespace

void random_gamma(Out state, In shape, Out y) {
  with_floating(y.dtype, [&]<class T>(Type<T>) { draw<T>(state, y, Gamma{Parameter(shape)}); });
}

void random_poisson(Out state, In mean, Out y) { draw<std::int64_t>(state, y, Poisson{Parameter(mean)}); }

void random_binomial(Out state, In count, In p, Out y) {
  draw<std::int64_t>(state, y, Binomial{Parameter(count), Parameter(p)});
}

}  // namespace ts::cuda
