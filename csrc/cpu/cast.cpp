// Conversions between element types, strided copies, fills and ranges.
//
// float -> integer saturates and NaN -> 0 on every level; integer -> narrower integer wraps; anything -> bool
// is x != 0.
#include <limits>

#include "cpu/kernels.h"
#include "cpu/map.h"
#include "cpu/parallel.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class To, class From>
TS_INLINE To convert_one(From x) {
  if constexpr (std::is_same_v<To, bool>) {
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

// Plain code: the compiler vectorises conversions, and they are exact or rounded once in any order.
template <class To, class From>
void cast_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  const From* x = static_cast<const From*>(in[0]);
  To* y = static_cast<To*>(out);
  if (step[0] == 0) {
    const To value = convert_one<To>(x[0]);
    for (std::int64_t i = 0; i < n; ++i) y[i] = value;
  } else if constexpr (std::is_same_v<To, From>) {
    std::memmove(y, x, static_cast<std::size_t>(n) * sizeof(To));
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] = convert_one<To>(x[i]);
  }
}

template <class T>
void arange_of(const T* start_step, Out y) {
  // In double for float32, so that distant elements do not lose the start.
  using Wide = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
  const Wide start = static_cast<Wide>(start_step[0]), step = static_cast<Wide>(start_step[1]);
  T* data = y.as<T>();
  const std::int64_t stride = y.ndim ? y.strides[0] : 1;
  parallel_ranges(y.size(), kLightGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      data[i * stride] = static_cast<T>(start + static_cast<Wide>(i) * step);
  });
}

}  // namespace

void cast(In x, Out y) {
  with_any(x.dtype, [&]<class From>(Type<From>) {
    with_any(y.dtype, [&]<class To>(Type<To>) {
      map({cast_loop<To, From>, kLightGrain, !std::is_same_v<To, From>}, y, x);
    });
  });
}

void arange(In start_step, Out y) {
  with_numeric(y.dtype, [&]<class T>(Type<T>) { arange_of(start_step.as<T>(), y); });
}

}  // namespace ts::cpu::TS_ISA
