// Group norm: y = (x - mean) rstd w + b, mean and variance over a group of channels of an image, w and b by
// channel.
//
// R = N G rows, each D channels of S numbers. With h = (x - mean) rstd, and s_c = sum dy, t_c = sum dy h over
// a channel, by the tree of reduce.h:
//   dx = rstd (dy w_c - a - h b),  a = sum_c w_c s_c / (D S),  b = sum_c w_c t_c / (D S),
// the sums over channels pairwise; s_c and t_c are what db and dw are made of. A row stays in cache between
// its passes: forward reads x and writes y once, backward reads dy and x and writes dx once.
#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

void group_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, int groups, double eps) {
  with_stored(x.dtype, [&]<class E>(Type<E>) {
    using T = Computed<E>;
    const std::int64_t K = x.shape[1], D = weight.shape[0] / groups, S = K / D;
    const Rows<const E> xs(x);
    const Rows<E> ys(y);
    const Line<T> means(mean), rstds(rstd);
    const T *const w = weight.as<T>(), *const b = bias.as<T>();
    for_rows<T>(x.shape[0], K, [&](const auto& threads, std::int64_t r) {
      row_moments<true>(threads, xs[r], K, eps, &means[r], &rstds[r]);
      const Vec<T> m(means[r]), s(rstds[r]);
      const std::int64_t first = r % groups * D;
      for (std::int64_t d = 0; d < D; ++d) {
        const E* const from = xs[r] + d * S;
        E* const to = ys[r] + d * S;
        const Vec<T> scale(w[first + d]), shift(b ? b[first + d] : T(0));
        threads.template each_of<T>(S, [&](std::int64_t i, auto part) {
          put(to + i, fma((get(from + i, part) - m) * s, scale, shift), part);
        });
      }
    });
  });
}

void group_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out sums, int groups) {
  with_stored(x.dtype, [&]<class E>(Type<E>) {
    using T = Computed<E>;
    const std::int64_t R = x.shape[0], K = x.shape[1], D = weight.shape[0] / groups, S = K / D;
    const Rows<const E> dys(dy), xs(x);
    const Rows<E> dxs(dx);
    const Line<const T> means(mean), rstds(rstd);
    const T* const w = weight.as<T>();
    T *const ss = sums.as<T>(), *const ts = ss + R * D;
    for_rows<T>(R, K, [&](const auto& threads, std::int64_t r) {
      const Vec<T> m(means[r]), s(rstds[r]), none(T(0));
      const std::int64_t first = r % groups * D;
      Pairwise<Add, T, 2> above;
      for (std::int64_t d = 0; d < D; ++d) {
        const E *const g = dys[r] + d * S, *const v = xs[r] + d * S;
        T both[2];
        threads.template reduce<Add, T, 2>(
            S,
            [&](Vec<T>* sum, std::int64_t i, auto part) {
              const Vec<T> dyi = get(g + i, part);
              sum[0] = sum[0] + dyi;
              sum[1] = fma(dyi, only((get(v + i, part) - m) * s, none, part), sum[1]);
            },
            both);
        ss[r * D + d] = both[0], ts[r * D + d] = both[1];
        const T weighted[2] = {w[first + d] * both[0], w[first + d] * both[1]};
        above.push(weighted);
      }
      T total[2];
      above.finish(total);
      const Vec<T> a(total[0] / static_cast<T>(K)), b(total[1] / static_cast<T>(K));
      for (std::int64_t d = 0; d < D; ++d) {
        const E *const g = dys[r] + d * S, *const v = xs[r] + d * S;
        E* const to = dxs[r] + d * S;
        const Vec<T> scale(w[first + d]);
        threads.template each_of<T>(S, [&](std::int64_t i, auto part) {
          const Vec<T> h = (get(v + i, part) - m) * s;
          put(to + i, (get(g + i, part) * scale - fma(h, b, a)) * s, part);
        });
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
