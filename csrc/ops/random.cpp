#include "ops/random.h"

#include <algorithm>
#include <cmath>

#include "core/launch.h"
#include "ops/check.h"
#include "ops/creation.h"
#include "ops/device.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"

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

struct Range {
  double low, high;
  bool closed = false;  // high is one of them
  bool has(double x) const { return x >= low && (closed ? x <= high : x < high); }
};

// Whether all numbers of a tensor on another device are in the range: its least and its largest come here.
bool all_within(const Array& x, const Range& range) {
  if (x.size() == 0) return true;
  const DeviceScope there(x.device());
  double extreme[2];
  for (int i = 0; i < 2; ++i) {
    const Array y = to_device(i == 0 ? min(x, Axes{}, false) : max(x, Axes{}, false), Device::cpu);
    extreme[i] = *y.data_as<double>();
  }
  return range.has(extreme[0]) && range.has(extreme[1]);
}

// What the kernels take: float64, of `shape` flattened, one number for all with stride 0; ValueError unless
// every one is in the range. A Python number is first one of the default dtype.
Array parameters(const char* op, const char* argument, const Array& state, const Operand& given,
                 const Shape& shape, const Range& range) {
  check_domain(op, argument, result_type(&given, 1), Domain::numeric);
  const std::int64_t n = checked_size(op, shape, 8);
  const auto check = [&](double x) {
    if (!range.has(x))
      value_error(op, ": ", argument, " must be in [", range.low, ", ", range.high, range.closed ? "]" : ")",
                  ", got ", x);
  };
  if (!given.is_array()) {
    const Scalar& s = given.scalar();
    const bool narrow = s.kind == Kind::floating && default_float() == DType::float32;
    const double number = narrow ? static_cast<float>(s.real) : s.real;
    check(number);
    return full({1}, Scalar::of(number), DType::float64, state.device()).as_strided({n}, {0}, 0);
  }
  const Array numbers = contiguous(astype(given.array(), DType::float64, false));
  host_read(op, numbers.storage());
  if (numbers.device() == Device::cpu || !all_within(numbers, range)) {
    const Array here = to_device(numbers, Device::cpu);
    std::for_each(here.data_as<double>(), here.data_as<double>() + here.size(), check);
  }
  if (numbers.size() == 1) return numbers.as_strided({n}, {0}, numbers.offset());
  return *contiguous(numbers.broadcast_to(op, shape)).view_as({n});
}
Shape shape_of(const Operand& x) { return x.is_array() ? x.array().shape() : Shape{}; }

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

Array random_gamma(Array& state, const Operand& k, const std::optional<Shape>& shape,
                   std::optional<DType> dtype) {
  const char* op = "random_gamma";
  check_random_state(op, state);
  const Shape s = shape.value_or(shape_of(k));
  const Array shapes = parameters(op, "shape", state, k, s, {0, INFINITY});
  Array y = empty(op, floating(op, dtype), s);
  if (y.size()) launch<&Kernels::random_gamma>(state, shapes, *y.view_as({y.size()}));
  return y;
}

Array random_poisson(Array& state, const Operand& mean, const std::optional<Shape>& shape) {
  const char* op = "random_poisson";
  check_random_state(op, state);
  const Shape s = shape.value_or(shape_of(mean));
  const Array means = parameters(op, "mean", state, mean, s, {0, 0x1p52});
  Array y = empty(op, DType::int64, s);
  if (y.size()) launch<&Kernels::random_poisson>(state, means, *y.view_as({y.size()}));
  return y;
}

Array random_binomial(Array& state, const Operand& n, const Operand& p, const std::optional<Shape>& shape) {
  const char* op = "random_binomial";
  check_random_state(op, state);
  const Shape s = shape ? *shape : broadcast_shapes(op, shape_of(n), shape_of(p));
  const Array counts = parameters(op, "n", state, n, s, {0, 0x1p40}),
              chances = parameters(op, "p", state, p, s, {0, 1, true});
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
