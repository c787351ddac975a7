// Kernels whose result is bool, or that choose by one: predicates, comparisons, where.
#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/types.h"
#include "math/pointwise.h"

namespace ts::cuda {

#define KERNEL(...)
#define UNARY(name, domain)
#define BINARY(name, domain)
#define TERNARY(name, domain)
#define REDUCE(name, domain)
#define PREDICATE(name, domain)                                                           \
  void name(In x, Out y) {                                                                \
    with_##domain(x.dtype, [&]<class T>(Type<T>) { map<formula::name, bool, T>(y, x); }); \
  }
#define COMPARE(name, domain)                                                                   \
  void name(In a, In b, Out y) {                                                                \
    with_##domain(a.dtype, [&]<class T>(Type<T>) { map<formula::name, bool, T, T>(y, a, b); }); \
  }
#include "core/kernels.def"

namespace {
struct Choose {
  template <class T>
  TS_INLINE static Vec<T> apply(Vec<bool> condition, Vec<T> a, Vec<T> b) {
    return condition.r ? a : b;
  }
};
}  // namespace

// The elements' bits are all that counts: one kernel per size.
void where(In condition, In a, In b, Out y) {
  with_size(y.dtype, [&]<class T>(Type<T>) { map<Choose, T, bool, T, T>(y, condition, a, b); });
}

}  // namespace ts::cuda
