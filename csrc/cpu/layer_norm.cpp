// Layer norm and RMS norm along rows. Layer norm: y = (x - mean) rstd w + b, mean and variance of the row
// (biased), rstd = 1/sqrt(var
// + eps).
//
// R rows, C columns. With g = dy w and h = (x - mean) rstd:
//   dx = rstd (g - avg g - h avg(g h)),  dw = sum_r dy h,  db = sum_r dy.
// The RMS norm is the same with 0 for the mean and for avg g.
// A row stays in cache between its passes: forward reads x and writes y once; backward reads dy and x and
// writes dx once.
#include <cstring>

#include "core/epilogue.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

// Without centring the mean is 0: the RMS norm.
template <bool kCentred, class S, class Threads, class T>
TS_INLINE void layer_norm_row(const Threads& threads, const S* x, const T* w, const T* b, S* y,
                              std::int64_t C, double eps, T* mean_out, T* rstd_out) {
  T mean, rstd;
  row_moments<kCentred>(threads, x, C, eps, &mean, &rstd);
  const Vec<T> m(mean);
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
  if constexpr (kCentred) *mean_out = mean;
  *rstd_out = rstd;
}

// The same of many rows whose results go past the caches.
template <bool kCentred, bool kAffine, class S, class T>
void layer_norm_streamed(const Rows<const S>& xs, const T* w, const T* b, const Rows<S>& ys, std::int64_t R,
                         std::int64_t C, double eps, const Line<T>& means, const Line<T>& rstds) {
  struct Row {
    const S* x;
    S* y;
    Vec<T> mean, rstd;
  };
  stream_rows<T>(
      R, C,
      [&](std::int64_t r, const auto& beside) {
        const S *const x = xs[r], *const next = xs[r + 1];
        T mean = 0;
        if constexpr (kCentred)
          mean = row_sum<T>(OneThread{}, C, [&](std::int64_t i, auto part) { return get(x + i, part); }) /
                 static_cast<T>(C);
        const Vec<T> m(mean), none(T(0));
        const T variance = row_dot<T>(OneThread{}, C,
                                      [&](std::int64_t i, auto part, Vec<T>& p, Vec<T>& q) {
                                        __builtin_prefetch(next + i);
                                        p = q = only(get(x + i, part) - m, none, part);
                                        beside(i, part);
                                      }) /
                           static_cast<T>(C);
        const T rstd = T(1) / std::sqrt(variance + static_cast<T>(eps));
        if constexpr (kCentred) means[r] = mean;
        rstds[r] = rstd;
        return Row{x, ys[r], m, Vec<T>(rstd)};
      },
      [&](const Row& row, std::int64_t i, auto part) {
        Vec<T> h = (get(row.x + i, part) - row.mean) * row.rstd;
        if constexpr (kAffine) {
          h = fma(h, get(w + i, part), get(b + i, part));
        } else {
          if (w) h = h * get(w + i, part);
          if (b) h = h + get(b + i, part);
        }
        put_row<true>(row.y + i, h, part);
      });
}

template <class S>
struct LayerNormGradients {
  using T = Computed<S>;
  static constexpr int kGroup =
      4;  // rows whose dx, dw and db are made together: dw and db are loaded once for all

  Rows<const S> dy, x;
  const T* w;
  Line<const T> mean, rstd;  // no mean: the RMS norm
  Rows<S> dx;
  std::int64_t C;
  bool past;                  // dx goes past the caches
  const S* addend = nullptr;  // added to dx, which it may be itself: rows of C

  struct Row {
    const S *dy, *x;
    S* dx;
    const S* addend;
    T mean, rstd, g_mean, gh_mean;
  };

  // The two averages of row r.
  template <class Threads>
  TS_INLINE Row averages(const Threads& threads, std::int64_t r) const {
    Row row{dy[r],   x[r], dx[r], addend ? addend + r * C : nullptr, mean ? mean[r] : T(0),
            rstd[r], T(0), T(0)};
    const Vec<T> m(row.mean), s(row.rstd), none(T(0));
    T sums[2];
    threads.template reduce<Add, T, 2>(
        C,
        [&](Vec<T>* sum, std::int64_t i, auto part) {
          Vec<T> g = get(row.dy + i, part);
          if (w) g = g * get(w + i, part);
          sum[0] = sum[0] + g;
          sum[1] = fma(g, only((get(row.x + i, part) - m) * s, none, part), sum[1]);
        },
        sums);
    if (mean) row.g_mean = sums[0] / static_cast<T>(C);
    row.gh_mean = sums[1] / static_cast<T>(C);
    return row;
  }

  // dx of N rows in columns [begin, end), which are added to the running dw and db; either may be null.
  template <int N, bool kPast = false>
  TS_INLINE void finish(const Row* rows, T* dw, T* db, std::int64_t begin, std::int64_t end) const {
    each<T>(begin, end, [&](std::int64_t i, auto part) {
      Vec<T> weight(T(1)), dweight(T(0)), dbias(T(0));
      if (w) weight = get(w + i, part);
      if (dw) dweight = get(dw + i, part);
      if (db) dbias = get(db + i, part);
#pragma GCC unroll 4
      for (int k = 0; k < N; ++k) {
        const Vec<T> g = get(rows[k].dy + i, part), s(rows[k].rstd);
        const Vec<T> h = (get(rows[k].x + i, part) - Vec<T>(rows[k].mean)) * s;
        dweight = fma(g, h, dweight);
        dbias = dbias + g;
        Vec<T> d = (g * weight - fma(h, Vec<T>(rows[k].gh_mean), Vec<T>(rows[k].g_mean))) * s;
        if (addend) d = d + get(rows[k].addend + i, part);
        put_row<kPast>(rows[k].dx + i, d, part);
      }
      if (dw) put(dw + i, dweight, part);
      if (db) put(db + i, dbias, part);
    });
  }
  TS_INLINE void finish(const Row* rows, int count, T* dw, T* db, std::int64_t begin,
                        std::int64_t end) const {
    if (count == kGroup)
      return past ? finish<kGroup, true>(rows, dw, db, begin, end) : finish<kGroup>(rows, dw, db, begin, end);
    for (int k = 0; k < count; ++k) finish<1>(rows + k, dw, db, begin, end);
  }
};

constexpr std::int64_t kBlockRows = 64;  // rows added one after another before they join a piece's sum

template <class T>
TS_INLINE void clear(T* p, std::int64_t n) {
  if (p) std::memset(p, 0, static_cast<std::size_t>(n) * sizeof(T));
}
template <class T>
TS_INLINE void accumulate(T* into, const T* p, std::int64_t n) {
  if (into)
    each<T>(0, n,
            [&](std::int64_t i, auto part) { put(into + i, get(into + i, part) + get(p + i, part), part); });
}

// dx row by row; dw and db as sums over blocks of 64 rows, blocks within a piece, then pieces, each in order.
// The cut depends on R and C alone.
template <class S>
void layer_norm_gradients(const LayerNormGradients<S>& rows, std::int64_t R, Computed<S>* dw,
                          Computed<S>* db) {
  using T = Computed<S>;
  using Row = typename LayerNormGradients<S>::Row;
  constexpr int kGroup = LayerNormGradients<S>::kGroup;
  const std::int64_t C = rows.C;
  Row group[kGroup];
  if (C >= 2 * kChunk<T>) {  // long rows: all threads on a few rows, dw and db straight into place
    clear(dw, C), clear(db, C);
    for (std::int64_t r = 0; r < R; r += kGroup) {
      const int count = static_cast<int>(R - r < kGroup ? R - r : kGroup);
      for (int k = 0; k < count; ++k) group[k] = rows.averages(AllThreads{}, r + k);
      parallel_ranges(C, 2 * kRowGrain, [&](std::int64_t begin, std::int64_t end) {
        rows.finish(group, count, dw, db, begin, end);
      });
    }
    return;
  }
  std::int64_t piece_rows = kRowGrain / (C + 8) + 1;
  if (piece_rows < (R + 23) / 24) piece_rows = (R + 23) / 24;
  const std::int64_t pieces = (R + piece_rows - 1) / piece_rows;
  // Scratch: for every piece its dw and db, then its block's; at most 24 pieces of rows shorter than 1 MiB.
  T* const sums = static_cast<T*>(scratch());
  const std::int64_t pitch = C + 16;  // apart from each other modulo a page
  parallel_for(pieces, [&](std::int64_t piece) {
    T* const base = sums + piece * 2 * pitch;
    T* const own =
        static_cast<T*>(scratch()) + (std::int64_t{56} << 20) / static_cast<std::int64_t>(sizeof(T));
    T *const piece_dw = dw ? base : nullptr, *const piece_db = db ? base + pitch : nullptr;
    T *const block_dw = dw ? own : nullptr, *const block_db = db ? own + pitch : nullptr;
    clear(piece_dw, C), clear(piece_db, C);
    const std::int64_t end = R - piece * piece_rows < piece_rows ? R : (piece + 1) * piece_rows;
    for (std::int64_t block = piece * piece_rows; block < end; block += kBlockRows) {
      clear(block_dw, C), clear(block_db, C);
      const std::int64_t stop = end - block < kBlockRows ? end : block + kBlockRows;
      Row some[kGroup];
      for (std::int64_t r = block; r < stop; r += kGroup) {
        const int count = static_cast<int>(stop - r < kGroup ? stop - r : kGroup);
        for (int k = 0; k < count; ++k) some[k] = rows.averages(OneThread{}, r + k);
        rows.finish(some, count, block_dw, block_db, 0, C);
      }
      accumulate(piece_dw, block_dw, C), accumulate(piece_db, block_db, C);
    }
    if (rows.past) _mm_sfence();
  });
  clear(dw, C), clear(db, C);
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    accumulate(dw, sums + piece * 2 * pitch, C);
    accumulate(db, sums + piece * 2 * pitch + pitch, C);
  }
}

}  // namespace

void layer_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, double eps) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t R = x.shape[0], C = x.shape[1];
    const Rows<const S> xs(x);
    const Rows<S> ys(y);
    const Line<T> means(mean), rstds(rstd);
    const T *const w = weight.as<T>(), *const b = bias.as<T>();
    if (streams_rows<S>(y))
      return w && b ? layer_norm_streamed<true, true>(xs, w, b, ys, R, C, eps, means, rstds)
                    : layer_norm_streamed<true, false>(xs, w, b, ys, R, C, eps, means, rstds);
    for_rows<T>(R, C, [&](const auto& threads, std::int64_t r) {
      layer_norm_row<true>(threads, xs[r], w, b, ys[r], C, eps, &means[r], &rstds[r]);
    });
  });
}

void layer_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const Epilogue* const epilogue = take_epilogue();
    const S* const addend = epilogue ? static_cast<const S*>(epilogue->addend) : nullptr;
    const LayerNormGradients<S> rows{Rows<const S>(dy),
                                     Rows<const S>(x),
                                     weight.as<T>(),
                                     Line<const T>(mean),
                                     Line<const T>(rstd),
                                     Rows<S>(dx),
                                     x.shape[1],
                                     !addend && streams_rows<S>(dx),
                                     addend};
    layer_norm_gradients(rows, x.shape[0], dweight.as<T>(), dbias.as<T>());
  });
}

void rms_norm(In x, In weight, Out y, Out rstd, double eps) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const std::int64_t C = x.shape[1];
    const Rows<const S> xs(x);
    const Rows<S> ys(y);
    const Line<T> rstds(rstd);
    const T *const w = weight.as<T>(), *const none = nullptr;
    if (streams_rows<S>(y))
      return layer_norm_streamed<false, false>(xs, w, none, ys, x.shape[0], C, eps, Line<T>(In{}), rstds);
    for_rows<T>(x.shape[0], C, [&](const auto& threads, std::int64_t r) {
      layer_norm_row<false>(threads, xs[r], w, none, ys[r], C, eps, static_cast<T*>(nullptr), &rstds[r]);
    });
  });
}

void rms_norm_backward(In dy, In x, In weight, In rstd, Out dx, Out dweight) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const LayerNormGradients<S> rows{Rows<const S>(dy),   Rows<const S>(x),    weight.as<T>(),
                                     Line<const T>(In{}), Line<const T>(rstd), Rows<S>(dx),
                                     x.shape[1],          streams_rows<S>(dx)};
    layer_norm_gradients<S>(rows, x.shape[0], dweight.as<T>(), nullptr);
  });
}

}  // namespace ts::cpu::TS_ISA
