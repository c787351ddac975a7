// Indexing along one axis: take, index_add, index_set; the range of indices.
//
// A N B: the axes before, at and after the indexed one; M the number of indices.
// Elements move by their size alone. What two equal indices do is defined: in index_add their rows are
// added in ascending order of m, in index_set the last one wins; work is cut into disjoint sets of
// destinations (rows of A, columns of B, ranges of N), never by m, so nothing is added concurrently.
#include "cpu/grouped_rows.h"
#include "cpu/index_half.h"
#include "cpu/kernels.h"
#include "cpu/lines.h"
#include "cpu/parallel.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrainBytes = 128 << 10;  // bytes written by a piece
constexpr std::int64_t kChunk = 1 << 16;         // indices between two points where Ctrl-C is seen

// Single elements from many lines that lie one after another: false where the lines are few or lie otherwise.
template <class T>
bool take_lines(In x, In index, Out y) {
  constexpr std::int64_t W = Vec<T>::width;
  const std::int64_t A = y.shape[0], M = y.shape[1], blocks = (M + W - 1) / W;
  if (A < 8 || x.strides[1] != 1 || y.strides[1] != 1) return false;
  if (blocks * static_cast<std::int64_t>(sizeof(LineTap<T>)) > static_cast<std::int64_t>(kScratchBytes))
    return false;
  LineTap<T>* const taps = static_cast<LineTap<T>*>(scratch());
  for (std::int64_t i = 0; i < blocks; ++i)
    taps[i] = LineTap<T>(index.as<std::int64_t>() + i * W * index.strides[0], index.strides[0],
                         M - i * W < W ? M - i * W : W, x.shape[1]);
  parallel_ranges(A, kGrainBytes / (M * static_cast<std::int64_t>(sizeof(T))) + 1,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t a = begin; a < end; ++a) {
                      const T* const from = x.as<T>() + a * x.strides[0];
                      T* const to = y.as<T>() + a * y.strides[0];
                      for (std::int64_t i = 0; i < M / W; ++i) taps[i](from).store(to + i * W);
                      if (M % W) taps[blocks - 1](from).store_partial(to + M / W * W, M % W);
                    }
                  });
  return true;
}

template <class T>
void take_typed(In x, In index, Out y) {
  const std::int64_t M = y.shape[1], B = y.shape[2];
  const std::int64_t rows = y.shape[0] * M;
  if (!rows || !B) return;
  if constexpr (sizeof(T) == 4 || sizeof(T) == 8)
    if (B == 1 && take_lines<T>(x, index, y)) return;
  const std::int64_t row_bytes = B * static_cast<std::int64_t>(sizeof(T));
  const bool dense = B == 1 || (x.strides[2] == 1 && y.strides[2] == 1);
  const std::int64_t xs = x.strides[1], xb = x.strides[2], ys = y.strides[1], yb = y.strides[2],
                     is = index.strides[0];
  const std::int64_t grain = kGrainBytes / row_bytes + 1;
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t a = begin / M, m0 = begin % M;
      const std::int64_t m1 = M < m0 + (end - begin) ? M : m0 + (end - begin);
      const std::int64_t* const at = index.as<std::int64_t>();
      const T* const source = x.as<T>() + a * x.strides[0];
      T* const target = y.as<T>() + a * y.strides[0];
      if (B == 1) {
        take_elements(source, x.shape[1], xs, at + m0 * is, is, target + m0 * ys, ys, m1 - m0);
      } else if (dense) {
        for (std::int64_t m = m0; m < m1; ++m) {
          if (m + kAhead < m1) prefetch(source + at[(m + kAhead) * is] * xs, row_bytes, false);
          copy_bytes(reinterpret_cast<char*>(target + m * ys),
                     reinterpret_cast<const char*>(source + at[m * is] * xs), row_bytes);
        }
      } else {
        for (std::int64_t m = m0; m < m1; ++m) {
          const T* const from = source + at[m * is] * xs;
          T* const to = target + m * ys;
          for (std::int64_t b = 0; b < B; ++b) to[b * yb] = from[b * xb];
        }
      }
      begin += m1 - m0;
    }
  });
}

// y[at[m]] = x[m] for rows of B, of equal indices the last: a table says which one that is, so that a row of
// y is written once and threads share the sources. False where the rows are not worth it or lie otherwise.
template <class T>
bool set_rows(In index, In x, Out y) {
  const std::int64_t M = x.shape[1], N = y.shape[1], B = x.shape[2];
  const std::int64_t row_bytes = B * static_cast<std::int64_t>(sizeof(T));
  if (x.shape[0] != 1 || x.strides[2] != 1 || y.strides[2] != 1 || row_bytes < 256 ||
      M * row_bytes < kGrainBytes / 4 || M > UINT32_MAX || N * 4 > static_cast<std::int64_t>(kScratchBytes))
    return false;
  std::uint32_t* const last = static_cast<std::uint32_t*>(scratch());
  const std::int64_t* const at = index.as<std::int64_t>();
  const std::int64_t is = index.strides[0], xs = x.strides[1], ys = y.strides[1];
  for (std::int64_t m = 0; m < M; ++m) last[at[m * is]] = static_cast<std::uint32_t>(m);
  parallel_ranges(M, kGrainBytes / row_bytes + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t m = begin; m < end; ++m) {
      if (m + kAhead < end) prefetch(y.as<T>() + at[(m + kAhead) * is] * ys, row_bytes, true);
      const std::int64_t n = at[m * is];
      if (last[n] == m)
        copy_bytes(reinterpret_cast<char*>(y.as<T>() + n * ys),
                   reinterpret_cast<const char*>(x.as<T>() + m * xs), row_bytes);
    }
  });
  return true;
}

// y[:, index[m]] = op(y[:, index[m]], x[:, m]), m ascending. Reads x once, reads and writes M rows of y.
template <class T, class Op>
void combine(In index, In x, Out y, const Op& op) {
  const std::int64_t A = x.shape[0], M = x.shape[1], B = x.shape[2];
  if (!A || !M || !B) return;
  const std::int64_t size = sizeof(T), is = index.strides[0];
  if (A == 1 && x.strides[2] == 1 && y.strides[2] == 1 &&
      combine_grouped(index.as<std::int64_t>(), is, M, x.as<T>(), x.strides[1], y.as<T>(), y.strides[1],
                      y.shape[1], B, op))
    return;
  const bool small = A * M * B * size <= 2 * kGrainBytes;
  // A piece is some rows of A or, where these are few, columns of one: up to 16 blocks of 512 bytes or, where
  // that would leave one thread alone, 128.
  std::int64_t columns = B;
  if (!small && A < 16) {
    const std::int64_t least = (B * size <= 1024 ? 128 : 512) / size;
    columns = (B + 15) / 16 < least ? least : ((B + 15) / 16 + least - 1) / least * least;
  }
  const std::int64_t column_blocks = (B + columns - 1) / columns, units = A * column_blocks;
  const std::int64_t grain = small ? units : kGrainBytes / ((M < kChunk ? M : kChunk) * columns * size) + 1;
  for (std::int64_t first = 0; first < M; first += kChunk) {
    const std::int64_t last = first + kChunk < M ? first + kChunk : M;
    parallel_ranges(units, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::int64_t a = unit / column_blocks, b = unit % column_blocks * columns;
        const std::int64_t count = columns < B - b ? columns : B - b;
        const std::int64_t* const at = index.as<std::int64_t>();
        const T* const source = x.as<T>() + a * x.strides[0] + b * x.strides[2];
        T* const target = y.as<T>() + a * y.strides[0] + b * y.strides[2];
        const std::int64_t xs = x.strides[1], ys = y.strides[1];
        if (count == 1) {
          combine_elements(target, ys, at + first * is, is, source + first * xs, xs, last - first, op);
          continue;
        }
        for (std::int64_t m = first; m < last; ++m) {
          if (m + kAhead < last) prefetch(target + at[(m + kAhead) * is] * ys, count * size, true);
          combine_row(target + at[m * is] * ys, y.strides[2], source + m * xs, x.strides[2], count, op);
        }
      }
    });
  }
}

}  // namespace

// Reads the indices once, and one of those that are repeated by a stride of 0: their axes are left out.
void index_range(In index, Out range) {
  constexpr std::int64_t kGrain = 65536;
  using I = std::int64_t;
  I* const out = range.as<I>();
  I shape[kMaxRank], strides[kMaxRank], n = 1;
  int ndim = 0;
  for (int d = 0; d < index.ndim; ++d) {
    if (index.strides[d] == 0 || index.shape[d] == 1) continue;
    n *= shape[ndim] = index.shape[d];
    strides[ndim++] = index.strides[d];
  }
  const I pieces = (n + kGrain - 1) / kGrain;
  I* const partial = pieces > 1 ? static_cast<I*>(scratch()) : out;
  parallel_ranges(n, kGrain, [&](I begin, I end) {
    Odometer<1> walk(shape, {strides}, ndim, begin);
    I low = INT64_MAX, high = INT64_MIN;
    const I stride = walk.inner_stride(0);
    for (I left = end - begin; left > 0;) {
      const I run = walk.run(left);
      const I* const p = index.as<I>() + walk.offset(0);
      I i = 0;
      if (stride == 1) {
        constexpr int W = Vec<I>::width;
        Vec<I> lows(INT64_MAX), highs(INT64_MIN), lows2 = lows, highs2 = highs;  // two: a minimum takes time
        for (; i + 2 * W <= run; i += 2 * W) {
          const Vec<I> v = Vec<I>::load(p + i), w = Vec<I>::load(p + i + W);
          lows = min(v, lows), highs = max(v, highs);
          lows2 = min(w, lows2), highs2 = max(w, highs2);
        }
        lows = min(lows, lows2), highs = max(highs, highs2);
        for (int lane = 0; lane < Vec<I>::width; ++lane) {
          if (lows[lane] < low) low = lows[lane];
          if (highs[lane] > high) high = highs[lane];
        }
      }
      for (; i < run; ++i) {
        const I v = p[i * stride];
        if (v < low) low = v;
        if (v > high) high = v;
      }
      walk.advance(run);
      left -= run;
    }
    partial[begin / kGrain * 2] = low, partial[begin / kGrain * 2 + 1] = high;
  });
  I low = partial[0], high = partial[1];
  for (I piece = 1; piece < pieces; ++piece) {
    if (partial[2 * piece] < low) low = partial[2 * piece];
    if (partial[2 * piece + 1] > high) high = partial[2 * piece + 1];
  }
  out[0] = low, out[1] = high;
}

// Reads M rows of x, writes y once.
void take(In x, In index, Out y) {
  with_size(y.dtype, [&]<class T>(Type<T>) { take_typed<T>(x, index, y); });
}

void index_add(In index, In x, Out y) {
  if (is_half(y.dtype))
    return with_stored(y.dtype, [&]<class S>(Type<S>) {
      if constexpr (is_half_type<S>) add_half_rows<S>(index, x, y);
    });
  with_any(y.dtype, [&]<class T>(Type<T>) { combine<Summand<T>>(index, x, y, Plus<Summand<T>>{}); });
}

void index_set(In index, In x, Out y) {
  with_size(y.dtype, [&]<class T>(Type<T>) {
    if (!set_rows<T>(index, x, y)) combine<T>(index, x, y, Replace<T>{});
  });
}

}  // namespace ts::cpu::TS_ISA
