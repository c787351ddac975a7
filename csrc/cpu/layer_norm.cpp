// Layer norm along rows: y = (x - mean) rstd w + b, mean and variance of the row (biased), rstd = 1/sqrt(var + eps).
//
// R rows, C columns. With g = dy w and h = (x - mean) rstd:
//   dx = rstd (g - avg g - h avg(g h)),  dw = sum_r dy h,  db = sum_r dy.
// A row stays in cache between its passes: forward reads x and writes y once; backward reads dy and x and writes dx once.
#include <cmath>
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class T, class Threads>
TS_INLINE void layer_norm_row(const Threads& threads, const T* x, const T* w, const T* b, T* y, std::int64_t C,
                              double eps, T* mean_out, T* rstd_out) {
  const T mean = row_sum<T>(threads, C, [&](std::int64_t i, auto part) { return get(x + i, part); }) / static_cast<T>(C);
  const Vec<T> m(mean), none(T(0));
  const T var = row_dot<T>(threads, C, [&](std::int64_t i, auto part, Vec<T>& p, Vec<T>& q) {
                  p = q = only(get(x + i, part) - m, none, part);
                }) / static_cast<T>(C);
  const T rstd = T(1) / std::sqrt(var + static_cast<T>(eps));
  const Vec<T> s(rstd);
  if (w && b)
    threads.template each_of<T>(C, [&](std::int64_t i, auto part) {
      put(y + i, fma((get(x + i, part) - m) * s, get(w + i, part), get(b + i, part)), part);
    });
  else
    threads.template each_of<T>(C, [&](std::int64_t i, auto part) {
      Vec<T> h = (get(x + i, part) - m) * s;
      if (w) h = h * get(w + i, part);
      if (b) h = h + get(b + i, part);
      put(y + i, h, part);
    });
  *mean_out = mean;
  *rstd_out = rstd;
}

template <class T>
struct LayerNormGradients {
  Rows<const T> dy, x;
  const T* w;
  Line<const T> mean, rstd;
  Rows<T> dx;
  std::int64_t C;

  template <class Threads>
  TS_INLINE void input(const Threads& threads, std::int64_t r) const {
    const T *dyr = dy[r], *xr = x[r];
    T* const out = dx[r];
    const Vec<T> m(mean[r]), s(rstd[r]), none(T(0));
    T sums[2];
    threads.template reduce<Add, T, 2>(
        C,
        [&](Vec<T>* sum, std::int64_t i, auto part) {
          Vec<T> g = get(dyr + i, part);
          if (w) g = g * get(w + i, part);
          sum[0] = sum[0] + g;
          sum[1] = fma(g, only((get(xr + i, part) - m) * s, none, part), sum[1]);
        },
        sums);
    const Vec<T> g_mean(sums[0] / static_cast<T>(C)), gh_mean(sums[1] / static_cast<T>(C));
    threads.template each_of<T>(C, [&](std::int64_t i, auto part) {
      Vec<T> g = get(dyr + i, part);
      if (w) g = g * get(w + i, part);
      const Vec<T> h = (get(xr + i, part) - m) * s;
      put(out + i, (g - fma(h, gh_mean, g_mean)) * s, part);
    });
  }
  // Adds row r to the running dw and db of columns [begin, end); either may be null.
  TS_INLINE void add_row(std::int64_t r, T* dw, T* db, std::int64_t begin, std::int64_t end) const {
    const T *dyr = dy[r], *xr = x[r];
    const Vec<T> m(mean[r]), s(rstd[r]);
    each<T>(begin, end, [&](std::int64_t i, auto part) {
      const Vec<T> g = get(dyr + i, part);
      if (dw) put(dw + i, fma(g, (get(xr + i, part) - m) * s, get(dw + i, part)), part);
      if (db) put(db + i, g + get(db + i, part), part);
    });
  }
};

constexpr std::int64_t kBlockRows = 64;  // rows added one after another before they join a piece's sum

template <class T>
TS_INLINE void clear(T* p, std::int64_t n) {
  if (p) std::memset(p, 0, static_cast<std::size_t>(n) * sizeof(T));
}
template <class T>
TS_INLINE void accumulate(T* into, const T* p, std::int64_t n) {
  if (into) each<T>(0, n, [&](std::int64_t i, auto part) { put(into + i, get(into + i, part) + get(p + i, part), part); });
}

// dx row by row; dw and db as sums over blocks of 64 rows, blocks within a piece, then pieces, each in order. The cut
// depends on R and C alone.
template <class T>
void layer_norm_gradients(const LayerNormGradients<T>& rows, std::int64_t R, T* dw, T* db) {
  const std::int64_t C = rows.C;
  const std::int64_t room = static_cast<std::int64_t>(kScratchBytes / sizeof(T));
  std::int64_t piece_rows = kRowGrain / (C + 8) + 1;
  if (piece_rows < (R + 31) / 32) piece_rows = (R + 31) / 32;
  if ((R + piece_rows - 1) / piece_rows * 4 * C > room) piece_rows = R;
  const std::int64_t pieces = (R + piece_rows - 1) / piece_rows;
  if (pieces <= 1 && 2 * C > room) {  // rows of tens of millions: columns in pieces instead
    for (std::int64_t r = 0; r < R; ++r) rows.input(AllThreads{}, r);
    clear(dw, C), clear(db, C);
    parallel_ranges(C, kRowGrain * 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = 0; r < R; ++r) rows.add_row(r, dw, db, begin, end);
    });
    return;
  }
  // Scratch: for every piece its dw and db, then its block's dw and db.
  T* const sums = static_cast<T*>(scratch());
  parallel_for(pieces, [&](std::int64_t piece) {
    T *const piece_dw = dw ? sums + piece * 4 * C : nullptr, *const piece_db = db ? sums + piece * 4 * C + C : nullptr;
    T *const block_dw = dw ? sums + piece * 4 * C + 2 * C : nullptr;
    T *const block_db = db ? sums + piece * 4 * C + 3 * C : nullptr;
    clear(piece_dw, C), clear(piece_db, C);
    const std::int64_t end = R - piece * piece_rows < piece_rows ? R : (piece + 1) * piece_rows;
    for (std::int64_t block = piece * piece_rows; block < end; block += kBlockRows) {
      clear(block_dw, C), clear(block_db, C);
      const std::int64_t stop = end - block < kBlockRows ? end : block + kBlockRows;
      for (std::int64_t r = block; r < stop; ++r) {
        rows.input(OneThread{}, r);
        if (dw || db) rows.add_row(r, block_dw, block_db, 0, C);
      }
      accumulate(piece_dw, block_dw, C), accumulate(piece_db, block_db, C);
    }
  });
  clear(dw, C), clear(db, C);
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    accumulate(dw, sums + piece * 4 * C, C);
    accumulate(db, sums + piece * 4 * C + C, C);
  }
}

}  // namespace

void layer_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, double eps) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const std::int64_t R = x.shape[0], C = x.shape[1];
    const Rows<const T> xs(x);
    const Rows<T> ys(y);
    const Line<T> means(mean), rstds(rstd);
    const T *const w = weight.as<T>(), *const b = bias.as<T>();
    for_rows<T>(R, C, [&](const auto& threads, std::int64_t r) {
      layer_norm_row(threads, xs[r], w, b, ys[r], C, eps, &means[r], &rstds[r]);
    });
  });
}

void layer_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const LayerNormGradients<T> rows{Rows<const T>(dy), Rows<const T>(x),    weight.as<T>(), Line<const T>(mean),
                                     Line<const T>(rstd), Rows<T>(dx), x.shape[1]};
    layer_norm_gradients(rows, x.shape[0], dweight.as<T>(), dbias.as<T>());
  });
}

}  // namespace ts::cpu::TS_ISA
