#include "cuda/elementwise_half.h"

#include "cuda/map.h"
#include "cuda/types.h"
#include "math/pointwise.h"

namespace ts::cuda {
namespace {

// Formula F on floats, of operands that may be halves.
template <class F, class R>
struct Halved {
  template <class... V>
  TS_INLINE static Vec<R> apply(V... x) {
    return Vec<R>(from_float<R>(F::apply(Vec<float>(to_float(x.r))...).r));
  }
};

template <class F>
void mixed(In a, In b, Out y) {
  if (is_half(a.dtype))
    with_half(a.dtype, [&]<class H>(Type<H>) { map<Halved<F, float>, float, H, float>(y, a, b); });
  else
    with_half(b.dtype, [&]<class H>(Type<H>) { map<Halved<F, float>, float, float, H>(y, a, b); });
}

}  // namespace

namespace halves {
#define TS_DEFINE(name)                                                                       \
  void name(In x, Out y) {                                                                    \
    with_half(x.dtype, [&]<class H>(Type<H>) { map<Halved<formula::name, H>, H, H>(y, x); }); \
  }
TS_HALF_UNARY(TS_DEFINE)
#undef TS_DEFINE
#define TS_DEFINE(name)                                                                             \
  void name(In a, In b, Out y) {                                                                    \
    if constexpr (std::is_same_v<formula::name, formula::add>)                                      \
      if (y.dtype == DType::float32) return mixed<formula::name>(a, b, y);                          \
    with_half(y.dtype, [&]<class H>(Type<H>) { map<Halved<formula::name, H>, H, H, H>(y, a, b); }); \
  }
TS_HALF_BINARY(TS_DEFINE)
#undef TS_DEFINE
}  // namespace halves

}  // namespace ts::cuda
