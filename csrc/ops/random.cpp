#include "ops/random.h"

#include <cmath>

#include "core/launch.h"
#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

DType floating(const char* op, std::optional<DType> dtype) {
  const DType d = dtype.value_or(default_float());
  check_domain(op, "dtype", d, Domain::floating);
  return d;
}

void check_bounds(const char* op, double low, double high, DType dtype) {
  const double largest = dtype == DType::float32 ? 3.4028234663852886e38 : 1.7976931348623157e308;
  if (!(std::abs(low) <= largest) || !(std::abs(high) <= largest))
    value_error(op, ": low and high must be finite in ", name(dtype), ", got ", low, " and ", high);
  if (low > high) value_error(op, ": low must not be above high, got ", low, " and ", high);
  if (!(high - low <= largest))
    value_error(op, ": high - low overflows ", name(dtype), ": ", high, " - ", low);
}

void check_moments(const char* op, double mean, double std) {
  if (!std::isfinite(mean)) value_error(op, ": mean must be finite, got ", mean);
  if (!(std >= 0) || !std::isfinite(std)) value_error(op, ": std must be finite and >= 0, got ", std);
}

void check_probability(const char* op, double p) {
  if (!(p >= 0 && p <= 1)) value_error(op, ": p must be in [0, 1], got ", p);
}

// x as the kernels take it: float64, of `shape` flattened, one number for all with stride 0; ValueError
// unless every one is in [low, high), or [low, high] if `closed`.
Array parameters(const char* op, const char* argument, const Array& x, const Shape& shape, double low,
                 double high, bool closed = false) {
  check_domain(op, argument, x.dtype(), Domain::numeric);
  Array numbers = contiguous(astype(x, DType::float64, false));
  host_read(op, numbers.storage());
  if (numbers.device() == Device::cpu) {
    const double* const at = numbers.data_as<double>();
    for (std::int64_t i = 0; i < numbers.size(); ++i)
      if (!(at[i] >= low && (closed ? at[i] <= high : at[i] < high)))
        value_error(op, ": ", argument, " must be in [", low, ", ", high, closed ? "]" : ")", ", got ",
                    at[i]);
  }
  const std::int64_t n = checked_size(op, shape, 8);
  if (numbers.size() == 1) return numbers.as_strided({n / 8}, {0}, numbers.offset());
  return *contiguous(numbers.broadcast_to(op, shape)).view_as({n / 8});
}

// Runs fill(y) on x itself or, where x is not row-major, on a fresh y that is then copied into it.
template <class Fill>
void fill_in_place(const char* op, Array& x, DType dtype, const Fill& fill) {
  if (x.is_contiguous() && x.dtype() == dtype) return fill(x);
  Array y = empty(op, dtype, x.shape());
  fill(y);
  copy_into(op, y, x);
}

}  // namespace

void check_random_state(const char* op, const Array& state) {
  if (state.dtype() != DType::uint64)
    type_error(op, ": state must be uint64 {seed, counter, stream}, got ", name(state.dtype()));
  if (state.shape() != Shape{3} || !state.is_contiguous())
    value_error(op, ": state must be three contiguous uint64 {seed, counter, stream}, got shape ",
                state.shape());
  if (state.read_only()) value_error(op, ": state is read-only; drawing moves its counter");
}

Array random_bits(Array& state, const Shape& shape) {
  check_random_state("random_bits", state);
  Array y = empty("random_bits", DType::uint32, shape);
  launch<&Kernels::random_bits>(state, y);
  return y;
}

Array random_uniform(Array& state, const Shape& shape, double low, double high, std::optional<DType> dtype) {
  check_random_state("random_uniform", state);
  const DType d = floating("random_uniform", dtype);
  check_bounds("random_uniform", low, high, d);
  Array y = empty("random_uniform", d, shape);
  launch<&Kernels::random_uniform>(state, y, low, high);
  return y;
}

Array random_normal(Array& state, const Shape& shape, double mean, double std, std::optional<DType> dtype) {
  check_random_state("random_normal", state);
  check_moments("random_normal", mean, std);
  Array y = empty("random_normal", floating("random_normal", dtype), shape);
  launch<&Kernels::random_normal>(state, y, mean, std);
  return y;
}

Array random_exponential(Array& state, const Shape& shape, double scale, std::optional<DType> dtype) {
  check_random_state("random_exponential", state);
  if (!(scale >= 0) || !std::isfinite(scale))
    value_error("random_exponential: scale must be finite and >= 0, got ", scale);
  Array y = empty("random_exponential", floating("random_exponential", dtype), shape);
  launch<&Kernels::random_exponential>(state, y, scale);
  return y;
}

Array random_gamma(Array& state, const Array& k, const std::optional<Shape>& shape,
                   std::optional<DType> dtype) {
  const char* op = "random_gamma";
  check_random_state(op, state);
  const Shape s = shape.value_or(k.shape());
  const Array shapes = parameters(op, "shape", k, s, 0, INFINITY);
  Array y = empty(op, floating(op, dtype), s);
  if (y.size()) launch<&Kernels::random_gamma>(state, shapes, *y.view_as({y.size()}));
  return y;
}

Array random_poisson(Array& state, const Array& mean, const std::optional<Shape>& shape) {
  const char* op = "random_poisson";
  check_random_state(op, state);
  const Shape s = shape.value_or(mean.shape());
  const Array means = parameters(op, "mean", mean, s, 0, 0x1p52);
  Array y = empty(op, DType::int64, s);
  if (y.size()) launch<&Kernels::random_poisson>(state, means, *y.view_as({y.size()}));
  return y;
}

Array random_binomial(Array& state, const Array& n, const Array& p, const std::optional<Shape>& shape) {
  const char* op = "random_binomial";
  check_random_state(op, state);
  const Shape s = shape ? *shape : broadcast_shapes(op, n.shape(), p.shape());
  const Array counts = parameters(op, "n", n, s, 0, 0x1p40), chances = parameters(op, "p", p, s, 0, 1, true);
  Array y = empty(op, DType::int64, s);
  if (y.size()) launch<&Kernels::random_binomial>(state, counts, chances, *y.view_as({y.size()}));
  return y;
}

Array random_bernoulli(Array& state, const Shape& shape, double p) {
  check_random_state("random_bernoulli", state);
  check_probability("random_bernoulli", p);
  Array y = empty("random_bernoulli", DType::boolean, shape);
  launch<&Kernels::random_bernoulli>(state, y, p);
  return y;
}

Array random_integers(Array& state, const Shape& shape, std::int64_t low, std::int64_t high) {
  check_random_state("random_integers", state);
  if (low >= high) value_error("random_integers: low must be below high, got ", low, " and ", high);
  Array y = empty("random_integers", DType::int64, shape);
  launch<&Kernels::random_integers>(state, y, low, high);
  return y;
}

Array random_permutation(Array& state, std::int64_t n) {
  check_random_state("random_permutation", state);
  if (n < 0) value_error("random_permutation: n must be >= 0, got ", n);
  Array y = empty("random_permutation", DType::int64, {n});
  launch<&Kernels::random_permutation>(state, y);
  return y;
}

void uniform_(Array& x, Array& state, double low, double high) {
  check_random_state("uniform_", state);
  check_writable("uniform_", x);
  check_domain("uniform_", "x", x.dtype(), Domain::floating);
  check_bounds("uniform_", low, high, x.dtype());
  fill_in_place("uniform_", x, x.dtype(),
                [&](Array& y) { launch<&Kernels::random_uniform>(state, y, low, high); });
}

void normal_(Array& x, Array& state, double mean, double std) {
  check_random_state("normal_", state);
  check_writable("normal_", x);
  check_domain("normal_", "x", x.dtype(), Domain::floating);
  check_moments("normal_", mean, std);
  fill_in_place("normal_", x, x.dtype(),
                [&](Array& y) { launch<&Kernels::random_normal>(state, y, mean, std); });
}

void exponential_(Array& x, Array& state, double lambd) {
  check_random_state("exponential_", state);
  check_writable("exponential_", x);
  check_domain("exponential_", "x", x.dtype(), Domain::floating);
  if (!(lambd > 0)) value_error("exponential_: lambd must be > 0, got ", lambd);
  fill_in_place("exponential_", x, x.dtype(),
                [&](Array& y) { launch<&Kernels::random_exponential>(state, y, 1 / lambd); });
}

void bernoulli_(Array& x, Array& state, double p) {
  check_random_state("bernoulli_", state);
  check_writable("bernoulli_", x);
  check_domain("bernoulli_", "x", x.dtype(), Domain::any);
  check_probability("bernoulli_", p);
  fill_in_place("bernoulli_", x, DType::boolean,
                [&](Array& y) { launch<&Kernels::random_bernoulli>(state, y, p); });
}

}  // namespace ts::ops
