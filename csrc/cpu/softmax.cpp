// softmax(x)_c = exp(x_c - m) / sum_j exp(x_j - m), m = max x, and its logarithm, along rows; and their
// gradients.
//
// R rows, C columns. A row stays in cache between its passes: x is read from memory once and y written once.
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"
#include "math/vmath.h"

namespace ts::cpu::TS_ISA {
namespace {

// Three passes: the maximum; the exponentials and their sum; the scale. A long row takes the exponentials
// again instead of reading them back. A NaN or +inf makes the row NaN, and so does a row of -inf.
template <class S, class Threads>
TS_INLINE void softmax_row(const Threads& threads, const S* x, S* y, std::int64_t C) {
  using T = Computed<S>;
  const Vec<T> m(row_max(threads, x, C));
  const Vec<T> zero(T(0));
  if constexpr (std::is_same_v<Threads, OneThread>) {
    T* room;  // a row of exponentials, to be read back
    if constexpr (is_half_type<S>)
      room = static_cast<T*>(scratch());
    else
      room = y;
    const T sum = row_sum<T>(threads, C, [&](std::int64_t i, auto part) {
      const Vec<T> e = vmath::exp(get(x + i, part) - m);
      put(room + i, e, part);
      return only(e, zero, part);
    });
    const Vec<T> scale(T(1) / sum);
    threads.template each_of<T>(
        C, [&](std::int64_t i, auto part) { put(y + i, get(room + i, part) * scale, part); });
  } else {
    const T sum = row_sum<T>(threads, C, [&](std::int64_t i, auto part) {
      return only(vmath::exp(get(x + i, part) - m), zero, part);
    });
    const Vec<T> scale(T(1) / sum);
    threads.template each_of<T>(
        C, [&](std::int64_t i, auto part) { put(y + i, vmath::exp(get(x + i, part) - m) * scale, part); });
  }
}

// The same of many rows whose results go past the caches.
template <class S>
void softmax_streamed(const Rows<const S>& xs, const Rows<S>& ys, std::int64_t R, std::int64_t C) {
  using T = Computed<S>;
  struct Row {
    const T* exponentials;
    S* y;
    Vec<T> scale;
  };
  stream_rows<T>(
      R, C,
      [&](std::int64_t r, const auto& beside) {
        const S *const x = xs[r], *const next = xs[r + 1];
        T* const room =
            static_cast<T*>(scratch()) + (r & 1) * (2 * kChunk<T> + 512);  // not alike modulo a page
        const Vec<T> m(row_max(OneThread{}, x, C)), zero(T(0));
        const T sum = row_sum<T>(OneThread{}, C, [&](std::int64_t i, auto part) {
          __builtin_prefetch(next + i);
          const Vec<T> e = vmath::exp(get(x + i, part) - m);
          put(room + i, e, part);
          beside(i, part);
          return only(e, zero, part);
        });
        return Row{room, ys[r], Vec<T>(T(1) / sum)};
      },
      [](const Row& row, std::int64_t i, auto part) {
        put_row<true>(row.y + i, get(row.exponentials + i, part) * row.scale, part);
      });
}

// y = x - m - log sum exp(x - m). Short rows are taken a register at a time, so that one logarithm serves
// them all.
template <class S, class Threads, class T>
TS_INLINE T sum_of_exp(const Threads& threads, const S* x, Vec<T> m, std::int64_t C) {
  return row_sum<T>(threads, C, [&](std::int64_t i, auto part) {
    return only(vmath::exp(get(x + i, part) - m), Vec<T>(T(0)), part);
  });
}
template <class S, class Threads, class T>
TS_INLINE void subtract(const Threads& threads, const S* x, S* y, Vec<T> m, Vec<T> log_sum, std::int64_t C) {
  threads.template each_of<T>(
      C, [&](std::int64_t i, auto part) { put(y + i, get(x + i, part) - m - log_sum, part); });
}

}  // namespace

void softmax(In x, Out y) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t R = x.shape[0], C = x.shape[1];
    if (C == 0) return;
    const Rows<const S> xs(x);
    const Rows<S> ys(y);
    if (streams_rows<S>(y)) return softmax_streamed(xs, ys, R, C);
    for_rows<T>(R, C, [&](const auto& threads, std::int64_t r) { softmax_row(threads, xs[r], ys[r], C); });
  });
}

// dx = y (dy - sum dy y)
void softmax_backward(In dy, In y, Out dx) {
  with_stored(y.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t R = y.shape[0], C = y.shape[1];
    const Rows<const S> dys(dy), ys(y);
    const Rows<S> dxs(dx);
    if (streams_rows<S>(dx)) {
      struct Row {
        const S *dy, *y;
        S* dx;
        Vec<T> dot;
      };
      return stream_rows<T>(
          R, C,
          [&](std::int64_t r, const auto& beside) {
            const Row row{dys[r], ys[r], dxs[r], Vec<T>(T(0))};
            const S *const next_dy = dys[r + 1], *const next_y = ys[r + 1];
            const T dot = row_dot<T>(OneThread{}, C, [&](std::int64_t i, auto part, Vec<T>& a, Vec<T>& b) {
              __builtin_prefetch(next_dy + i), __builtin_prefetch(next_y + i);
              a = get(row.dy + i, part), b = get(row.y + i, part);
              beside(i, part);
            });
            return Row{row.dy, row.y, row.dx, Vec<T>(dot)};
          },
          [](const Row& row, std::int64_t i, auto part) {
            put_row<true>(row.dx + i, get(row.y + i, part) * (get(row.dy + i, part) - row.dot), part);
          });
    }
    for_rows<T>(R, C, [&](const auto& threads, std::int64_t r) {
      const S *dyr = dys[r], *yr = ys[r];
      S* const dxr = dxs[r];
      const Vec<T> dot(row_dot<T>(threads, C, [&](std::int64_t i, auto part, Vec<T>& a, Vec<T>& b) {
        a = get(dyr + i, part), b = get(yr + i, part);
      }));
      threads.template each_of<T>(C, [&](std::int64_t i, auto part) {
        put(dxr + i, get(yr + i, part) * (get(dyr + i, part) - dot), part);
      });
    });
  });
}

void log_softmax(In x, Out y) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t R = x.shape[0], C = x.shape[1];
    if (C == 0) return;
    const Rows<const S> xs(x);
    const Rows<S> ys(y);
    constexpr std::int64_t kOneLogarithm = 256;  // columns: a logarithm a row is little beside as many
    if (C >= kOneLogarithm && streams_rows<S>(y)) {
      struct Row {
        const S* x;
        S* y;
        Vec<T> max, log_sum;
      };
      return stream_rows<T>(
          R, C,
          [&](std::int64_t r, const auto& beside) {
            const S *const x = xs[r], *const next = xs[r + 1];
            const Vec<T> m(row_max(OneThread{}, x, C)), zero(T(0));
            const T sum = row_sum<T>(OneThread{}, C, [&](std::int64_t i, auto part) {
              __builtin_prefetch(next + i);
              const Vec<T> e = vmath::exp(get(x + i, part) - m);
              beside(i, part);
              return only(e, zero, part);
            });
            return Row{x, ys[r], m, vmath::log(Vec<T>(sum))};
          },
          [](const Row& row, std::int64_t i, auto part) {
            put_row<true>(row.y + i, get(row.x + i, part) - row.max - row.log_sum, part);
          });
    }
    for_row_groups<T>(R, C, [&](const auto& threads, std::int64_t first, int count) {
      T m[Vec<T>::width] = {}, sum[Vec<T>::width] = {};
      for (int k = 0; k < count; ++k) {
        m[k] = row_max(threads, xs[first + k], C);
        sum[k] = sum_of_exp(threads, xs[first + k], Vec<T>(m[k]), C);
      }
      vmath::log(Vec<T>::load(sum)).store(sum);
      for (int k = 0; k < count; ++k)
        subtract(threads, xs[first + k], ys[first + k], Vec<T>(m[k]), Vec<T>(sum[k]), C);
    });
  });
}

// dx = dy - exp(y) sum dy
void log_softmax_backward(In dy, In y, Out dx) {
  with_stored(y.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t R = y.shape[0], C = y.shape[1];
    const Rows<const S> dys(dy), ys(y);
    const Rows<S> dxs(dx);
    for_rows<T>(R, C, [&](const auto& threads, std::int64_t r) {
      const S *dyr = dys[r], *yr = ys[r];
      S* const dxr = dxs[r];
      const Vec<T> total(
          row_sum<T>(threads, C, [&](std::int64_t i, auto part) { return get(dyr + i, part); }));
      threads.template each_of<T>(C, [&](std::int64_t i, auto part) {
        put(dxr + i, get(dyr + i, part) - vmath::exp(get(yr + i, part)) * total, part);
      });
    });
  });
}

}  // namespace ts::cpu::TS_ISA
