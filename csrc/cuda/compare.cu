// Kernels whose result is bool, or that choose by one: predicates, comparisons, where.
#include "cuda/kernels.h"
#include "cuda/map.h"
#include "cuda/types.h"
#include "math/pointwise.h"

namespace ts::cuda {
namespace {
template <class F>
bool real_only(DType, const F&) {
  return false;
}
}  // namespace

#define KERNEL(...)
#define UNARY(name, domain)
#define BINARY(name, domain)
#define TERNARY(name, domain)
#define REDUCE(name, domain)
// Those of every dtype take complex numbers too.
#define TS_COMPLEX_OF_all with_complex
#define TS_COMPLEX_OF_numeric real_only
#define TS_COMPLEX_OF_floating real_only
#define TS_COMPLEX_OF_any real_only
#define PREDICATE(name, domain)                                                    \
  void name(In x, Out y) {                                                         \
    const auto run = [&]<class T>(Type<T>) { map<formula::name, bool, T>(y, x); }; \
    if (!TS_COMPLEX_OF_##domain(x.dtype, run)) with_##domain(x.dtype, run);        \
  }
#define COMPARE(name, domain)                                                            \
  void name(In a, In b, Out y) {                                                         \
    const auto run = [&]<class T>(Type<T>) { map<formula::name, bool, T, T>(y, a, b); }; \
    if (!TS_COMPLEX_OF_##domain(a.dtype, run)) with_##domain(a.dtype, run);              \
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
