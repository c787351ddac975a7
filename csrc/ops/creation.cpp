#include "ops/creation.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/launch.h"
#include "ops/elementwise.h"
#include "ops/scalar.h"

namespace ts::ops {

namespace {

Array filled(const char* operation, const Shape& shape, const Operand& value, DType dtype) {
  Array y = ts::empty(operation, dtype, shape);
  copy_into(operation, value, y);
  return y;
}

Operand number(std::int64_t n) { return Operand(Scalar::of(n)); }

// Zeros in an array that has just been made. Pages that the system has just mapped hold them already.
void clear(const char* operation, Array& y) {
  constexpr std::int64_t kLittle = 128 << 10;  // what a second thread would not help with
  if (y.device() == Device::cpu && !detail::watching()) {
    const bool clean = y.storage()->untouched();
    if (clean || y.nbytes() <= kLittle) {
      if (!clean && y.nbytes() > 0) std::memset(y.data(), 0, static_cast<std::size_t>(y.nbytes()));
      return y.storage()->bump();
    }
  }
  copy_into(operation, number(0), y);
}

Array ranged(const char* operation, Scalar start, Scalar step, std::int64_t count, DType d,
             std::optional<Device> device) {
  const DeviceScope scope(device.value_or(g_device));
  Array y = ts::empty(operation, d, Shape{count});
  if (count == 0) return y;
  alignas(16) char start_step[16];
  write_scalar(operation, start, d, start_step);
  write_scalar(operation, step, d, start_step + itemsize(d));
  const std::int64_t two = 2, unit = 1;
  launch<&Kernels::arange>(In{{start_step, &two, &unit, nullptr, 1, d}}, y);
  return y;
}

}  // namespace

Array empty(const Shape& shape, std::optional<DType> dtype, std::optional<Device> device) {
  const DeviceScope scope(device.value_or(g_device));
  return ts::empty("empty", dtype.value_or(default_float()), shape);
}
Array zeros(const Shape& shape, std::optional<DType> dtype, std::optional<Device> device) {
  const DeviceScope scope(device.value_or(g_device));
  Array y = ts::empty("zeros", dtype.value_or(default_float()), shape);
  clear("zeros", y);
  return y;
}
Array ones(const Shape& shape, std::optional<DType> dtype, std::optional<Device> device) {
  const DeviceScope scope(device.value_or(g_device));
  return filled("ones", shape, number(1), dtype.value_or(default_float()));
}
Array full(const Shape& shape, const Operand& value, std::optional<DType> dtype,
           std::optional<Device> device) {
  const DeviceScope scope(device.value_or(g_device));
  return filled("full", shape, value, dtype.value_or(result_type(&value, 1)));
}
Array empty_like(const Array& x, std::optional<DType> dtype, std::optional<Device> device) {
  const DeviceScope scope(device.value_or(x.device()));
  return ts::empty_like("empty_like", x, dtype.value_or(x.dtype()));
}
Array zeros_like(const Array& x, std::optional<DType> dtype, std::optional<Device> device) {
  const DeviceScope scope(device.value_or(x.device()));
  Array y = ts::empty_like("zeros_like", x, dtype.value_or(x.dtype()));
  clear("zeros_like", y);
  return y;
}
Array ones_like(const Array& x, std::optional<DType> dtype, std::optional<Device> device) {
  return full_like(x, number(1), dtype, device);
}
Array full_like(const Array& x, const Operand& value, std::optional<DType> dtype,
                std::optional<Device> device) {
  const DeviceScope scope(device.value_or(x.device()));
  Array y = ts::empty_like("full_like", x, dtype.value_or(x.dtype()));
  copy_into("full_like", value, y);
  return y;
}

Array arange(Scalar start, std::optional<Scalar> stop, Scalar step, std::optional<DType> dtype,
             std::optional<Device> device) {
  Scalar first = Scalar::of(std::int64_t{0}), last = start;
  if (stop) {
    first = start;
    last = *stop;
  }
  const Operand bounds[] = {first, last, step};
  const DType d = dtype.value_or(result_type(bounds, 3));
  if (is_half(d)) return astype(arange(start, stop, step, DType::float32), d, false);
  if (is_complex(d)) return astype(arange(start, stop, step, real_of(d)), d, false);
  check_domain("arange", "dtype", d, Domain::numeric);
  if (step.real == 0) value_error("arange: step must not be 0");
  double count = std::ceil((last.real - first.real) / step.real);
  std::int64_t length = count > 0 && count < 9.2e18 ? static_cast<std::int64_t>(count) : 0;
  if (first.kind != Kind::floating && last.kind != Kind::floating && step.kind != Kind::floating) {
    // Exactly: integers above 2^53 are not doubles.
    const auto value = [](const Scalar& s) -> __int128 {
      if (is_beyond_64_bits(s))
        overflow_error("arange: a bound or the step does not fit 64 bits: about ", s.real);
      return s.kind == Kind::unsigned_integer ? __int128{static_cast<std::uint64_t>(s.integer)}
                                              : __int128{s.integer};
    };
    const __int128 span = value(last) - value(first), stride = value(step);
    const __int128 exact = span / stride + (span % stride != 0 && (span < 0) == (stride < 0));
    count = static_cast<double>(exact);
    length = exact > 0 && count < 9.2e18 ? static_cast<std::int64_t>(exact) : 0;
  }
  if (!(count < 9.2e18)) {
    if (std::isnan(count)) value_error("arange: the bounds and the step must be finite numbers");
    memory_error("arange: ", count, " elements do not fit an array");
  }
  return ranged("arange", first, step, length, d, device);
}

Array ramp(double start, double step, std::int64_t count, std::optional<Device> device) {
  if (count < 0) value_error("ramp: count must be >= 0, got ", count);
  return ranged("linspace", Scalar::of(start), Scalar::of(step), count, DType::float64, device);
}

Array eye(std::int64_t rows, std::optional<std::int64_t> columns, std::int64_t k, std::optional<DType> dtype,
          std::optional<Device> device) {
  const DeviceScope scope(device.value_or(g_device));
  const std::int64_t m = rows, n = columns.value_or(rows);
  if (m < 0 || n < 0) value_error("eye: sizes must be >= 0, got ", m, " and ", n);
  Array y = filled("eye", Shape{m, n}, number(0), dtype.value_or(default_float()));
  k = std::clamp(k, -m, n);  // beyond the corners there is no diagonal
  const std::int64_t row = k < 0 ? -k : 0, column = k > 0 ? k : 0;
  const std::int64_t length = std::min(m - row, n - column);
  if (length > 0) {
    Array diagonal = y.as_strided(Shape{length}, Shape{n + 1}, row * n + column);
    copy_into("eye", number(1), diagonal);
  }
  return y;
}

namespace {
// where(column - row <= k): positions as two aranges broadcast against each other.
Array triangle(const char* operation, const Array& x, std::int64_t k, bool lower) {
  if (x.ndim() < 2) value_error(operation, ": x must have at least 2 dimensions, got shape ", x.shape());
  const auto positions = [](std::int64_t n) {
    return arange(Scalar::of(std::int64_t{0}), Scalar::of(n), Scalar::of(std::int64_t{1}), DType::int64);
  };
  const Array rows = positions(x.shape(x.ndim() - 2)).expand_dims(1),
              columns = positions(x.shape(x.ndim() - 1));
  const auto find = [](const char* name) -> const Pointwise& {
    int i = 0;
    while (std::string(kPointwise[i].name) != name) ++i;
    return kPointwise[i];
  };
  const Operand difference[] = {columns, rows};
  const Array distance = pointwise(find("subtract"), difference);
  const Operand comparison[] = {distance, Scalar::of(k)};
  const Array keep = pointwise(find(lower ? "less_equal" : "greater_equal"), comparison);
  return where(keep, x, x.dtype() == DType::boolean ? Operand(Scalar::of(false)) : number(0));
}
}  // namespace

Array tril(const Array& x, std::int64_t k) { return triangle("tril", x, k, true); }
Array triu(const Array& x, std::int64_t k) { return triangle("triu", x, k, false); }

}  // namespace ts::ops
