// Conversions between element types, strided copies, fills and ranges.
//
// float -> integer saturates and NaN -> 0; integer -> narrower integer wraps; anything -> bool is x != 0.
#include <limits>

#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/types.h"
#include "math/pointwise.h"

namespace ts::cuda {
namespace {

template <class Half>
TS_INLINE Half rounded(float x) {
  return from_float<Half>(x);
}
template <class Half>
TS_INLINE Half rounded(double x) {
  return {std::is_same_v<Half, Float16> ? float16_from_double(x) : bfloat16_from_double(x)};
}
template <class T>
constexpr bool is_half_type = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

template <class F>
void with_stored(DType d, F&& f) {
  if (is_half(d)) return with_half(d, f);
  if (!with_complex(d, f)) with_any(d, f);
}

template <class T>
constexpr bool is_complex_type = false;
template <class T>
constexpr bool is_complex_type<ComplexBits<T>> = true;

template <class To>
struct Convert {
  template <class From>
  TS_INLINE static Vec<To> apply(Vec<From> v) {
    if constexpr (is_complex_type<From>) {
      if constexpr (is_complex_type<To>)
        return {static_cast<decltype(To::real)>(v.re), static_cast<decltype(To::real)>(v.im)};
      else
        return Vec<To>(static_cast<std::uint8_t>(v.re != 0 || v.im != 0));  // bool: ops refuses the others
    } else if constexpr (is_complex_type<To>) {
      return {Convert<decltype(To::real)>::apply(v).r, 0};
    } else {
      return real(v);
    }
  }
  template <class From>
  TS_INLINE static Vec<To> real(Vec<From> v) {
    const Lane<From> x = v.r;
    if constexpr (is_half_type<From> && !std::is_same_v<To, From>) {
      return real(Vec<float>(to_float(x)));
    } else if constexpr (is_half_type<To> && !std::is_same_v<To, From>) {
      using Wide = std::conditional_t<std::is_same_v<From, float>, float, double>;
      return Vec<To>(rounded<To>(static_cast<Wide>(x)));
    } else if constexpr (std::is_same_v<To, bool>) {
      return Vec<To>(static_cast<std::uint8_t>(x != 0));
    } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
      constexpr From low = static_cast<From>(std::numeric_limits<To>::lowest());
      constexpr From end = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * From(2);
      if (x >= end) return Vec<To>(std::numeric_limits<To>::max());
      if (x <= low) return Vec<To>(std::numeric_limits<To>::lowest());
      return Vec<To>(x == x ? static_cast<To>(x) : To(0));
    } else {
      return Vec<To>(static_cast<To>(x));
    }
  }
};

struct Same {
  template <class V>
  TS_INLINE static V apply(V x) {
    return x;
  }
};

// In double for float32, so that distant elements do not lose the start.
template <class T, class Wide>
__global__ void arange_kernel(Wide start, Wide step, T* y, std::int64_t stride, std::int64_t n) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) y[i * stride] = static_cast<T>(start + static_cast<Wide>(i) * step);
}

}  // namespace

void cast(In x, Out y) {
  if (x.dtype == y.dtype && transpose(y, x)) return;
  if (x.dtype == y.dtype) return with_size(y.dtype, [&]<class T>(Type<T>) { map<Same, T, T>(y, x); });
  with_stored(x.dtype, [&]<class From>(Type<From>) {
    with_stored(y.dtype, [&]<class To>(Type<To>) {
      if constexpr (!std::is_same_v<From, To> &&
                    (!is_complex_type<From> || is_complex_type<To> || std::is_same_v<To, bool>))
        map<Convert<To>, To, From>(y, x);
    });
  });
}

void arange(In start_step, Out y) {
  with_numeric(y.dtype, [&]<class T>(Type<T>) {
    using Wide = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
    T bounds[2];
    if (on_host(start_step))
      std::memcpy(bounds, start_step.data, sizeof bounds);
    else
      download(bounds, start_step.data, sizeof bounds);
    const std::int64_t n = y.size();
    launch(&arange_kernel<T, Wide>, dim3(blocks_of(ceil_div(n, 256))), dim3(256), 0,
           static_cast<Wide>(bounds[0]), static_cast<Wide>(bounds[1]), y.as<T>(),
           y.ndim ? y.strides[0] : std::int64_t{1}, n);
  });
}

}  // namespace ts::cuda
