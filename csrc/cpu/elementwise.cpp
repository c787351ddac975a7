// y = f(x), f(a, b), f(a, b, c): one kernel per line of kernels.def and formula of math/pointwise.h.
#include "cpu/kernels.h"
#include "cpu/loops.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

template <class F>
constexpr std::int64_t kGrain = F::heavy ? kHeavyGrain : kLightGrain;

#define KERNEL(...)
#define UNARY(name, domain)                                                                         \
  void name(In x, Out y) {                                                                          \
    using F = formula::name;                                                                        \
    with_##domain(x.dtype, [&]<class T>(Type<T>) { map({unary_loop<F, T, T>, kGrain<F>}, y, x); }); \
  }
#define BINARY(name, domain)                                                                            \
  void name(In a, In b, Out y) {                                                                        \
    using F = formula::name;                                                                            \
    with_##domain(a.dtype, [&]<class T>(Type<T>) { map({binary_loop<F, T, T>, kGrain<F>}, y, a, b); }); \
  }
#define TERNARY(name, domain)                                                                               \
  void name(In a, In b, In c, Out y) {                                                                      \
    using F = formula::name;                                                                                \
    with_##domain(a.dtype, [&]<class T>(Type<T>) { map({ternary_loop<F, T, T>, kGrain<F>}, y, a, b, c); }); \
  }
#define PREDICATE(name, domain)
#define COMPARE(name, domain)
#define REDUCE(name, domain)
#include "core/kernels.def"

}  // namespace ts::cpu::TS_ISA
