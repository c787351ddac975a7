// y = f(x), f(a, b), f(a, b, c): one kernel per line of kernels.def and formula of math/pointwise.h.
#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/types.h"
#include "math/pointwise.h"

namespace ts::cuda {

#define KERNEL(...)
#define UNARY(name, domain)                                                            \
  void name(In x, Out y) {                                                             \
    with_##domain(x.dtype, [&]<class T>(Type<T>) { map<formula::name, T, T>(y, x); }); \
  }
#define BINARY(name, domain)                                                                 \
  void name(In a, In b, Out y) {                                                             \
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
