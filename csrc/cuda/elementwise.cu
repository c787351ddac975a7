// y = f(x), f(a, b), f(a, b, c): one kernel per line of kernels.def and formula of math/pointwise.h.
#include "cuda/elementwise_half.h"
#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/types.h"
#include "math/pointwise.h"

namespace ts::cuda {
namespace {

// The formulas that cuda/complex.h serves.
template <class F>
constexpr bool has_complex = false;
#define TS_HAS(name) \
  template <>        \
  constexpr bool has_complex<formula::name> = true;
TS_HAS(negative)
TS_HAS(square)
TS_HAS(reciprocal)
TS_HAS(sign)
TS_HAS(sqrt)
TS_HAS(exp)
TS_HAS(log)
TS_HAS(sin)
TS_HAS(cos)
TS_HAS(sinh)
TS_HAS(cosh)
TS_HAS(add)
TS_HAS(subtract)
TS_HAS(multiply)
TS_HAS(divide)
TS_HAS(power)
#undef TS_HAS

template <class F, class... Inputs>
bool map_complex(const View& y, DType d, const Inputs&... x) {
  if constexpr (has_complex<F>) {
    return with_complex(d, [&]<class T>(Type<T>) {
      if constexpr (sizeof...(x) == 1)
        map<F, T, T>(y, x...);
      else
        map<F, T, T, T>(y, x...);
    });
  }
  return false;
}

// The kernel of halves, where there is one.
template <class F>
constexpr std::nullptr_t of_halves = nullptr;
#define TS_HAS(name) \
  template <>        \
  constexpr auto of_halves<formula::name> = &halves::name;
TS_HALF_UNARY(TS_HAS)
TS_HALF_BINARY(TS_HAS)
#undef TS_HAS

template <class F, class... Views>
bool map_halves(bool any, const Views&... views) {
  if constexpr (!std::is_null_pointer_v<decltype(of_halves<F>)>)
    if (any) return of_halves<F>(views...), true;
  return false;
}

}  // namespace

#define KERNEL(...)
#define UNARY(name, domain)                                                            \
  void name(In x, Out y) {                                                             \
    if (map_complex<formula::name>(y, x.dtype, x)) return;                             \
    if (map_halves<formula::name>(is_half(x.dtype), x, y)) return;                     \
    with_##domain(x.dtype, [&]<class T>(Type<T>) { map<formula::name, T, T>(y, x); }); \
  }
#define BINARY(name, domain)                                                                 \
  void name(In a, In b, Out y) {                                                             \
    if (map_complex<formula::name>(y, a.dtype, a, b)) return;                                \
    if (map_halves<formula::name>(is_half(a.dtype) || is_half(b.dtype), a, b, y)) return;    \
    with_##domain(a.dtype, [&]<class T>(Type<T>) { map<formula::name, T, T, T>(y, a, b); }); \
  }
#define TERNARY(name, domain)                                                                      \
  void name(In a, In b, In c, Out y) {                                                             \
    with_##domain(a.dtype, [&]<class T>(Type<T>) { map<formula::name, T, T, T, T>(y, a, b, c); }); \
  }
#define PREDICATE(name, domain)
#define COMPARE(name, domain)
#define REDUCE(name, domain)
#include "core/kernels.def"

}  // namespace ts::cuda
