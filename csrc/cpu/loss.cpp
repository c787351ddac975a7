// Cross-entropy of rows of logits against class indices, without ever writing the log-softmax.
//
// N rows, C classes, t the row's target, w the class weights (1 if absent), s the smoothing, l =
// logsumexp(x):
//   loss = (1 - s) w_t (l - x_t) + s/C sum_c w_c (l - x_c)                   0 where t is ignored
//   dx_c = dloss [ (a + b W) exp(x_c - l) - a 1[c = t] - b w_c ],  a = (1 - s) w_t,  b = s/C,  W = sum_c w_c
// Forward reads x once and writes two numbers a row; backward reads x once and writes dx once.
#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"
#include "math/vmath.h"

namespace ts::cpu::TS_ISA {

void cross_entropy(In x, In target, In weight, Out loss, Out logsumexp, std::int64_t ignore_index,
                   double smoothing) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t N = x.shape[0], C = x.shape[1];
    const Rows<const S> xs(x);
    const Line<const std::int64_t> targets(target);
    const Line<T> losses(loss), lses(logsumexp);
    const T* const w = weight.as<T>();
    const T uniform = static_cast<T>(smoothing / static_cast<double>(C)),
            rest = static_cast<T>(1 - smoothing);
    const auto row_loss = [&](const auto& threads, std::int64_t r, T lse) {
      const S* const row = xs[r];
      const std::int64_t t = targets[r];
      if (t == ignore_index) return T(0);
      const T own = rest * (w ? w[t] : T(1)) * (lse - row[t]);
      if (smoothing == 0) return own;
      const Vec<T> l(lse), none(T(0));
      return own + uniform * row_sum<T>(threads, C, [&](std::int64_t i, auto part) {
                     const Vec<T> cost = l - get(row + i, part);
                     return only(w ? cost * get(w + i, part) : cost, none, part);
                   });
    };
    for_row_groups<T>(N, C, [&](const auto& threads, std::int64_t first, int count) {
      T shift[Vec<T>::width] = {}, sum[Vec<T>::width] = {};
      for (int k = 0; k < count; ++k) {
        const S* const row = xs[first + k];
        shift[k] = row_max(threads, row, C);  // an infinite one makes the loss NaN, as PyTorch's
        const Vec<T> s(shift[k]);
        sum[k] = row_sum<T>(threads, C, [&](std::int64_t i, auto part) {
          return only(vmath::exp(get(row + i, part) - s), Vec<T>(T(0)), part);
        });
      }
      (Vec<T>::load(shift) + vmath::log(Vec<T>::load(sum))).store(sum);
      for (int k = 0; k < count; ++k) {
        lses[first + k] = sum[k];
        losses[first + k] = row_loss(threads, first + k, sum[k]);
      }
    });
  });
}

void class_weight_sum(In target, In weight, Out total, std::int64_t ignore_index) {
  with_floating(total.dtype, [&]<class T>(Type<T>) {
    const Line<const std::int64_t> targets(target);
    const T* const w = weight.as<T>();
    double sum = 0;
    for (std::int64_t i = 0; i < target.shape[0]; ++i) {
      const std::int64_t t = targets[i];
      if (t != ignore_index) sum += w ? static_cast<double>(w[t]) : 1.0;
    }
    *total.as<T>() = static_cast<T>(sum);
  });
}

void cross_entropy_backward(In x, In target, In weight, In logsumexp, In dloss, Out dx,
                            std::int64_t ignore_index, double smoothing) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t N = x.shape[0], C = x.shape[1];
    const Rows<const S> xs(x);
    const Rows<S> dxs(dx);
    const Line<const std::int64_t> targets(target);
    const Line<const T> lses(logsumexp), dlosses(dloss);
    const T* const w = weight.as<T>();
    const T uniform = static_cast<T>(smoothing / static_cast<double>(C)),
            rest = static_cast<T>(1 - smoothing);
    const T total =
        !w || smoothing == 0
            ? static_cast<T>(C)
            : row_sum<T>(OneThread{}, C, [&](std::int64_t i, auto part) { return get(w + i, part); });
    for_rows<T>(N, C, [&](const auto& threads, std::int64_t r) {
      const S* const row = xs[r];
      S* const out = dxs[r];
      const std::int64_t t = targets[r];
      if (t == ignore_index) {
        threads.template each_of<T>(C, [&](std::int64_t i, auto part) { put(out + i, Vec<T>(T(0)), part); });
        return;
      }
      const T g = dlosses[r], own = g * rest * (w ? w[t] : T(1)), share = g * uniform;
      const Vec<T> l(lses[r]), scale(smoothing == 0 ? own : own + share * total), shares(share);
      const auto plain = [&](std::int64_t i, auto part) {
        return vmath::exp(get(row + i, part) - l) * scale;
      };
      const auto smooth = [&](std::int64_t i, auto part) {
        return plain(i, part) - (w ? get(w + i, part) * shares : shares);
      };
      if (smoothing == 0)
        threads.template each_of<T>(C,
                                    [&](std::int64_t i, auto part) { put(out + i, plain(i, part), part); });
      else
        threads.template each_of<T>(C,
                                    [&](std::int64_t i, auto part) { put(out + i, smooth(i, part), part); });
      if constexpr (is_half_type<S>) {  // rounded once: not out[t], which was rounded already
        const First one{1};
        put(out + t, (smoothing == 0 ? plain(t, one) : smooth(t, one)) - Vec<T>(own), one);
      } else {
        out[t] -= own;
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
