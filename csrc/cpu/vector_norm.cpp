// Norms over the last `reduced` axes by the tree of reduce.h: sum |x|, sqrt(sum x^2), max |x|, min |x|.
//
// Each reads x once and writes y once. NaN propagates.
#include "cpu/kernels.h"
#include "cpu/moments.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// Op over |x|.
template <class F>
struct Magnitudes {
  using Op = F;
  static constexpr int kSums = 1, kInputs = 1, kParams = 0, kOutputs = 1;
  template <class T, class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T>, const Vec<T>*, Part part) const {
    s[0] = Op::apply(s[0], only(abs(x), Vec<T>(Op::template identity<T>), part));
  }
  template <class T>
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const {
    y[0] = s[0];
  }
};

struct Euclidean {
  using Op = Add;
  static constexpr int kSums = 1, kInputs = 1, kParams = 0, kOutputs = 1;
  template <class T, class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T>, const Vec<T>*, Part) const {
    s[0] = fma(x, x, s[0]);  // lanes beyond the row are 0
  }
  template <class T>
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const {
    y[0] = sqrt(s[0]);
  }
};

}  // namespace

void vector_norm(In x, Out y, int reduced, double order) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    if (order == 1)
      reduce_view<S>(x, y, reduced, Magnitudes<Add>{});
    else if (order == 2)
      reduce_view<S>(x, y, reduced, Euclidean{});
    else if (order > 0)
      reduce_view<S>(x, y, reduced, Magnitudes<Max>{});
    else
      reduce_view<S>(x, y, reduced, Magnitudes<Min>{});
  });
}

}  // namespace ts::cpu::TS_ISA
