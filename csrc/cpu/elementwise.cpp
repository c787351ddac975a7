// y = f(x), f(a, b), f(a, b, c): one kernel per line of kernels.def and formula of math/pointwise.h.
#include "cpu/elementwise_half.h"
#include "cpu/kernels.h"
#include "cpu/loops.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

// What keeps the divider busy, two cycles or more for every double, is as slow as a polynomial.
template <class F, class T>
constexpr bool kDivides =
    std::is_same_v<T, double> && (std::is_same_v<F, formula::divide> || std::is_same_v<F, formula::sqrt>);
template <class F, class T>
constexpr std::int64_t kGrain = F::heavy || kDivides<F, T> ? kHeavyGrain : kLightGrain;

#define KERNEL(...)
#define UNARY(name, domain)                                                                            \
  void name(In x, Out y) {                                                                             \
    using F = formula::name;                                                                           \
    if constexpr (takes_bfloat16<F>)                                                                   \
      if (x.dtype == DType::bfloat16) return map({bfloat16_loop<F, 1>, kLightGrain}, y, x);            \
    with_##domain(x.dtype, [&]<class T>(Type<T>) { map({unary_loop<F, T, T>, kGrain<F, T>}, y, x); }); \
  }
#define BINARY(name, domain)                                                                               \
  void name(In a, In b, Out y) {                                                                           \
    using F = formula::name;                                                                               \
    if constexpr (takes_bfloat16<F>)                                                                       \
      if (a.dtype == DType::bfloat16) return map({bfloat16_loop<F, 2>, kLightGrain}, y, a, b);             \
    with_##domain(a.dtype, [&]<class T>(Type<T>) { map({binary_loop<F, T, T>, kGrain<F, T>}, y, a, b); }); \
  }
#define TERNARY(name, domain)                                                                         \
  void name(In a, In b, In c, Out y) {                                                                \
    using F = formula::name;                                                                          \
    with_##domain(a.dtype,                                                                            \
                  [&]<class T>(Type<T>) { map({ternary_loop<F, T, T>, kGrain<F, T>}, y, a, b, c); }); \
  }
#define PREDICATE(name, domain)
#define COMPARE(name, domain)
#define REDUCE(name, domain)
#include "core/kernels.def"

}  // namespace ts::cpu::TS_ISA
