// Conversions between element types, strided copies, fills and ranges.
//
// float -> integer saturates and NaN -> 0 on every level; integer -> narrower integer wraps; anything -> bool
// is x != 0.
#include <limits>

#include "cpu/half.h"
#include "cpu/index.h"
#include "cpu/kernels.h"
#include "cpu/map.h"
#include "cpu/parallel.h"
#include "cpu/stream.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// Every element type.
template <class F>
void with_each(DType d, F&& f) {
  is_half(d) ? with_stored(d, f) : with_all(d, f);
}

template <class To, class From>
TS_INLINE To convert_one(From x) {
  if constexpr (is_half_type<From>) {
    return convert_one<To>(static_cast<float>(x));
  } else if constexpr (is_complex_type<From>) {
    if constexpr (std::is_same_v<To, bool>)
      return x.real != 0 || x.imag != 0;
    else
      return {static_cast<decltype(To::real)>(x.real), static_cast<decltype(To::imag)>(x.imag)};
  } else if constexpr (is_complex_type<To>) {
    return {static_cast<decltype(To::real)>(x), 0};
  } else if constexpr (is_half_type<To>) {
    constexpr bool single = std::is_same_v<From, float>;
    if constexpr (std::is_same_v<To, Float16>)
      return {single ? float16_from_float(static_cast<float>(x))
                     : float16_from_double(static_cast<double>(x))};
    else
      return {single ? bfloat16_from_float(static_cast<float>(x))
                     : bfloat16_from_double(static_cast<double>(x))};
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // The largest float below 2^bits: the limits themselves may round up and out of range.
    constexpr From low = static_cast<From>(std::numeric_limits<To>::lowest());
    constexpr From end = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * From(2);
    const bool above = x >= end, inside = x > low && x < end;
    const To y = static_cast<To>(inside ? x : From(0));
    return above ? std::numeric_limits<To>::max() : x <= low ? std::numeric_limits<To>::lowest() : y;
  } else {
    return static_cast<To>(x);
  }
}

// Whole registers between float and a half; returns how many were converted.
template <class S>
  requires is_half_type<S>
TS_INLINE std::int64_t convert_some(const S* x, float* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + Vec<float>::width <= n; i += Vec<float>::width) get(x + i, All{}).store(y + i);
  return i;
}
template <class S>
  requires is_half_type<S>
TS_INLINE std::int64_t convert_some(const float* x, S* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + Vec<float>::width <= n; i += Vec<float>::width) put(y + i, Vec<float>::load(x + i), All{});
  return i;
}
template <class From, class To>
TS_INLINE std::int64_t convert_some(const From*, To*, std::int64_t) {
  return 0;
}

// Plain code: the compiler vectorises conversions, and they are exact or rounded once in any order.
template <class To, class From>
void cast_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  const From* x = static_cast<const From*>(in[0]);
  To* y = static_cast<To*>(out);
  if (step[0] == 0) {
    const To value = convert_one<To>(x[0]);
    for (std::int64_t i = 0; i < n; ++i) y[i] = value;
    return;
  }
  for (std::int64_t i = convert_some(x, y, n); i < n; ++i) y[i] = convert_one<To>(x[i]);
}

template <class T>
void copy_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  const T* x = static_cast<const T*>(in[0]);
  T* y = static_cast<T*>(out);
  if (step[0] == 0) {
    const T value = x[0];
    for (std::int64_t i = 0; i < n; ++i) y[i] = value;
  } else {
    std::memmove(y, x, static_cast<std::size_t>(n) * sizeof(T));
  }
}

// One short line into one whose elements lie apart, as in m[:, j] = x: no plan, no tiles.
template <class T>
TS_INLINE bool copy_line(In x, Out y) {
  const std::int64_t n = y.shape[0], xs = x.strides[0], ys = y.strides[0];
  if (ys == 1 || n > kLightGrain) return false;
  const T* const from = x.as<T>();
  T* const to = y.as<T>();
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < n; ++i) to[i * ys] = from[i * xs];
  return true;
}

// to[k] = start + (i + k) step, 0 <= k < n <= kRangeRun.
constexpr int kRangeRun = 256;
template <class T, class Wide>
TS_INLINE void range_run(Wide start, Wide step, std::int64_t i, int n, T* to) {
  if constexpr (std::is_floating_point_v<T>) {
    const double at = static_cast<double>(i);
    for (int k = 0; k < n; ++k) to[k] = static_cast<T>(start + (at + static_cast<double>(k)) * step);
  } else {  // by additions: products of 64 bits are slow
    Wide value = start + static_cast<Wide>(i) * step;
    for (int k = 0; k < n; ++k) to[k] = static_cast<T>(value), value += step;
  }
}

template <class T>
void arange_of(const T* start_step, Out y) {
  // In double for float32, so that distant elements do not lose the start.
  using Wide = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
  const Wide start = static_cast<Wide>(start_step[0]), step = static_cast<Wide>(start_step[1]);
  T* const data = y.as<T>();
  const std::int64_t n = y.size(), stride = y.ndim ? y.strides[0] : 1;
  constexpr std::int64_t kItem = sizeof(T);
  const bool streams =
      stride == 1 && n * kItem >= kStreamBytes && at_line(data + before_line(data, kItem, n));
  parallel_ranges(n, kLightGrain, [=](std::int64_t begin, std::int64_t end) {
    std::int64_t i = begin, left = 0;
    if (streams) left = before_line(data + begin, kItem, end - begin);
    alignas(kLine) T buffer[kRangeRun];
    for (; i < end; i += left, left = 0) {
      if (left == 0) left = end - i < kRangeRun ? end - i : kRangeRun;
      const int count = static_cast<int>(left);
      T* const to = data + i * stride;
      if (stride == 1 && !(streams && count == kRangeRun)) {
        range_run<T>(start, step, i, count, to);
        continue;
      }
      range_run<T>(start, step, i, count, buffer);
      if (stride == 1)
        stream(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(buffer), sizeof(buffer));
      else
        for (int k = 0; k < count; ++k) to[k * stride] = buffer[k];
    }
    if (streams) _mm_sfence();
  });
}

}  // namespace

void cast(In x, Out y) {
  const bool same_bits = x.dtype == y.dtype || (is_integer(x.dtype) && is_integer(y.dtype) &&
                                                itemsize(x.dtype) == itemsize(y.dtype));
  if (same_bits)
    return with_size(x.dtype, [&]<class T>(Type<T>) {
      if (y.ndim == 1 && copy_line<T>(x, y)) return;
      map({copy_loop<T>, kLightGrain, true}, y, x);
    });
  with_each(x.dtype, [&]<class From>(Type<From>) {
    with_each(y.dtype, [&]<class To>(Type<To>) {
      if constexpr (!std::is_same_v<To, From> &&
                    (!is_complex_type<From> || is_complex_type<To> || std::is_same_v<To, bool>))
        map({cast_loop<To, From>, kLightGrain}, y, x);
    });
  });
}

void arange(In start_step, Out y) {
  with_numeric(y.dtype, [&]<class T>(Type<T>) { arange_of(start_step.as<T>(), y); });
}

}  // namespace ts::cpu::TS_ISA
