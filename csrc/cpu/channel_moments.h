// Mean and variance of the channels of x (N, C, S), each over its K = N S numbers, x read from memory once.
//
// Blocks are the leaves of the tree (reduce.h). Of a block of n numbers the sum is taken, and then, while the
// block lies in the nearest cache, what remains about its mean m:
//   m = sum x / n,  r = sum (x - m),  q = sum (x - m)^2;   its sum is n m + r, its squares are q - r^2 / n.
// r makes good what rounding m lost, so neither suffers from a mean that is large beside the deviation.
// Sums are counted from a pivot, the channel's first number, lest float64 lose the same way.
// Blocks are joined pairwise, as leaves are, in float64 (Chan, Golub and LeVeque, 1979):
//   squares = squares_a + squares_b + (mean_b - mean_a)^2 n_a n_b / (n_a + n_b).
// Sums within a block go by the tree: one result for both layouts, every level and any threads.
#pragma once

#include "cpu/columns.h"
#include "cpu/half.h"

namespace ts::cpu::TS_ISA {

struct Moments {
  double count, sum, squares;  // the sum of what lies above the channel's pivot
  template <class T>
  static Moments of_block(std::int64_t n, T mean, T rest, T squares, double pivot) {
    const double count = static_cast<double>(n), r = rest == rest ? static_cast<double>(rest) : 0;
    const double centred = static_cast<double>(squares) - r * r / count;
    return {count, count * (static_cast<double>(mean) - pivot) + r, centred < 0 ? 0 : centred};
  }
};
inline Moments join(const Moments& a, const Moments& b) {
  const double count = a.count + b.count, apart = b.sum / b.count - a.sum / a.count;
  return {count, a.sum + b.sum, a.squares + b.squares + apart * apart * (a.count * b.count / count)};
}
// A binary counter of blocks: the i-th enters, and what `count` of them come to.
inline void push(Moments* held, std::int64_t i, Moments m) {
  int top = __builtin_popcountll(static_cast<unsigned long long>(i));
  for (std::int64_t carry = i; carry & 1; carry >>= 1) m = join(held[--top], m);
  held[top] = m;
}
inline Moments total(const Moments* held, std::int64_t count) {
  int top = __builtin_popcountll(static_cast<unsigned long long>(count)) - 1;
  Moments m = held[top];
  while (top > 0) m = join(held[--top], m);
  return m;
}

template <class E>
class ChannelMoments {
  using T = Computed<E>;
  static constexpr std::int64_t W = Vec<T>::width, kItem = sizeof(E);
#if defined(__AVX512F__)
  static constexpr int V = 4;
#else
  static constexpr int V = 2;
#endif
  static constexpr std::int64_t kTile = V * W;
  static constexpr std::int64_t kPiece = std::int64_t{1} << 17;        // elements
  static constexpr std::int64_t kTableBytes = std::int64_t{32} << 20;  // of the caller's scratch

  const E* x_;
  std::int64_t C_, K_, down_;  // channels, numbers of one, the stride between two channels
  Axes a_;                     // (N, S), merged where they are one
  bool last_, far_;

 public:
  // `far`: x comes from memory.
  ChannelMoments(const View& x, bool channels_last, bool far)
      : x_(static_cast<const E*>(x.data)),
        C_(x.shape[1]),
        down_(x.strides[1]),
        last_(channels_last),
        far_(far) {
    const std::int64_t shape[2] = {x.shape[0], x.shape[2]}, strides[2] = {x.strides[0], x.strides[2]};
    View both = x;
    both.ndim = 2, both.shape = shape, both.strides = strides;
    find_axes(both, nullptr, both, 2, a_);
    K_ = a_.length;
  }

  // mean and variance (biased) of every channel.
  void operator()(T* mean, T* variance) {
    constexpr std::int64_t kMost = kTableBytes / static_cast<std::int64_t>(2 * sizeof(Moments));
    const std::int64_t C = C_;
    const E* const x = x_;
    for (std::int64_t c = 0; c < C; c += kMost) {
      x_ = x + c * down_, C_ = C - c < kMost ? C - c : kMost;
      some(mean + c, variance + c);
    }
    x_ = x, C_ = C;
  }

 private:
  void some(T* mean, T* variance) const {
    const std::int64_t leaves = (K_ + kLeaf<T> - 1) / kLeaf<T>;
    // A piece is `wide` channels of `blocks` leaves, a complete subtree, walked as memory lies.
    const std::int64_t units = kPiece / (K_ < kLeaf<T> ? K_ : kLeaf<T>)+1;
    std::int64_t wide = last_ ? (units + kTile - 1) / kTile * kTile : runs_long() ? 1 : units;
    if (wide > C_) wide = C_;
    std::int64_t blocks = 1, rows = leaves;  // of the table
    while (blocks < leaves && (2 * blocks * wide <= units ||
                               C_ * rows * static_cast<std::int64_t>(sizeof(Moments)) > kTableBytes)) {
      blocks *= 2;
      rows = (leaves + blocks - 1) / blocks;
    }
    const std::int64_t columns = (C_ + wide - 1) / wide;
    const int levels = 64 - __builtin_clzll(static_cast<unsigned long long>(blocks));
    Moments* const table = static_cast<Moments*>(scratch());  // (rows, channels)
    parallel_for(rows * columns, [&](std::int64_t piece) {
      const std::int64_t first = piece % columns * wide, n = C_ - first < wide ? C_ - first : wide;
      const std::int64_t begin = piece / columns * blocks;
      const std::int64_t end = leaves - begin < blocks ? leaves : begin + blocks;
      // The counters of the piece's channels: behind the table, which may be this thread's too.
      Moments* const held = reinterpret_cast<Moments*>(static_cast<char*>(scratch()) + kTableBytes);
      for (std::int64_t q = begin; q < end; ++q) {
        const auto take = [&](std::int64_t c, std::int64_t count, T m, T r, T squares) {
          if (leaves == 1) {  // nothing to be joined
            const double k = static_cast<double>(count), rest = r == r ? static_cast<double>(r) : 0;
            const double centred = static_cast<double>(squares) - rest * rest / k;
            mean[c] = static_cast<T>(static_cast<double>(m) + rest / k);
            variance[c] = static_cast<T>((centred < 0 ? 0 : centred) / k);
            return;
          }
          push(held + (c - first) * levels, q - begin, Moments::of_block(count, m, r, squares, pivot(c)));
        };
        last_ ? leaf_across(q, first, n, take) : leaf_along(q, first, n, take);
      }
      if (leaves == 1) return;
      for (std::int64_t c = 0; c < n; ++c)
        table[piece / columns * C_ + first + c] = total(held + c * levels, end - begin);
    });
    if (leaves == 1) return;
    parallel_ranges(C_, kPiece / 8 / rows + 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        Moments stack[48];
        for (std::int64_t q = 0; q < rows; ++q) push(stack, q, table[q * C_ + c]);
        const Moments m = total(stack, rows);
        mean[c] = static_cast<T>(pivot(c) + m.sum / m.count),
        variance[c] = static_cast<T>(m.squares / m.count);
      }
    });
  }

  double pivot(std::int64_t c) const {  // 0 where the first number is no number
    const double p = static_cast<double>(static_cast<T>(x_[c * down_]));
    return p - p == 0 ? p : 0;
  }
  bool runs_long() const { return a_.reduced < 2 || a_.shape[a_.reduced - 1] >= kLeaf<T>; }
  std::int64_t offset(std::int64_t leaf) const { return Runs(a_, a_.x, leaf * kLeaf<T>).offset; }
  std::int64_t numbers(std::int64_t leaf) const {
    return K_ - leaf * kLeaf<T> < kLeaf<T> ? K_ - leaf * kLeaf<T> : kLeaf<T>;
  }

  // --- channels first: a channel's numbers in runs of stride 1 --------------------------------------

  // N sums over a block. While it is worked on, what lies `ahead` elements on is asked for, a half of every
  // stripe in each of the two passes, so that memory is never idle.
  template <int N, class Step>
  TS_INLINE void sums(const E* x, std::int64_t begin, std::int64_t n, std::int64_t ahead, int half,
                      const Step& step, T* out) const {
    constexpr int R = kTreeChains * kTreeParts;
    constexpr std::int64_t kHalf = kStripe<T> * kItem / 2;
    Vec<T> sum[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      for (int k = 0; k < N; ++k) sum[r][k] = Vec<T>(T(0));
    Runs runs(a_, a_.x, begin);
    while (n > 0) {
      const std::int64_t run = runs.run(n);
      const E* const p = x + runs.offset;
      runs.advance(run);
      std::int64_t i = 0;
      for (; i + R * W <= run; i += R * W) {
        if (ahead)
          for (std::int64_t k = 0; k < kHalf; k += 64)
            __builtin_prefetch(reinterpret_cast<const char*>(p + i + ahead) + half * kHalf + k);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) step(sum[r], get(p + i + r * W, All{}), All{});
      }
      if (i < run) {  // only in the last run
        Vec<T> last[R][N];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          for (int k = 0; k < N; ++k) last[r][k] = sum[r][k];
        int r = 0;
        for (; i + W <= run; i += W, ++r) step(last[r], get(p + i, All{}), All{});
        if (i < run) step(last[r], get(p + i, First{run - i}), First{run - i});
#pragma GCC unroll 16
        for (int q = 0; q < R; ++q)
          for (int k = 0; k < N; ++k) sum[q][k] = last[q][k];
      }
      n -= run;
    }
    Vec<T> lanes[N];
    join_chains<Add, T, N>(sum, lanes);
    for (int k = 0; k < N; ++k) out[k] = fold<Add, T>(lanes[k]);
  }
  // What is taken of a block: its mean, and what remains about it. `total(N, pass, step, sums)` makes N sums.
  template <class Total>
  TS_INLINE static void block(std::int64_t n, const Total& total, T* results) {
    T sum;
    total(std::integral_constant<int, 1>{}, 0, [](Vec<T>* s, Vec<T> v, auto) { s[0] = s[0] + v; }, &sum);
    const T mean = sum / static_cast<T>(n);
    total(
        std::integral_constant<int, 2>{}, 1,
        [m = Vec<T>(mean)](Vec<T>* s, Vec<T> v, auto part) {
          const Vec<T> d = only(v - m, Vec<T>(T(0)), part);
          s[0] = s[0] + d;
          s[1] = fma(d, d, s[1]);
        },
        results + 1);
    results[0] = mean;
  }

  template <class Take>
  void leaf_along(std::int64_t q, std::int64_t first, std::int64_t count, const Take& take) const {
    const std::int64_t n = numbers(q), begin = q * kLeaf<T>;
    std::int64_t ahead = 0;
    if (far_) ahead = count > 1 ? down_ : (begin + n < K_ ? offset(q + 1) : down_) - offset(q);
    const bool in_place = a_.inner_x() == 1 && (a_.reduced < 2 || a_.shape[a_.reduced - 1] % kStripe<T> == 0);
    for (std::int64_t c = first; c < first + count; ++c) {
      const E* const x = x_ + c * down_;
      T results[3];
      if (in_place) {
        block(
            n,
            [&](auto N, int pass, const auto& step, T* out) {
              sums<decltype(N)::value>(x, begin, n, ahead, pass, step, out);
            },
            results);
      } else {  // runs that end within a register: side by side first
        alignas(64) E buffer[kLeaf<T>];
        gather(a_, a_.x, x, begin, n, buffer, [](E v) { return v; });
        block(
            n,
            [&](auto N, int, const auto& step, T* out) {
              leaf<Add, T, decltype(N)::value>(
                  0, n, [&](Vec<T>* s, std::int64_t i, auto part) { step(s, get(buffer + i, part), part); },
                  out);
            },
            results);
      }
      take(c, n, results[0], results[1], results[2]);
    }
  }

  // --- channels last: registers of neighbouring channels --------------------------------------------

  // Asks for the lines of the block that comes next, in the order in which they lie, a few at each row of
  // this one.
  struct AskRows {
    const char* row = nullptr;  // null: not at all
    std::int64_t down = 0, left = 0;
    int lines = 1, line = 0;
    TS_INLINE void operator()(int count) {
      if (!row) return;
      for (int k = 0; k < count && left > 0; ++k) {
        __builtin_prefetch(row + 64 * line, 0, 2);
        if (++line == lines) line = 0, row += down, --left;
      }
    }
  };

  template <class Take>
  void leaf_across(std::int64_t q, std::int64_t first, std::int64_t count, const Take& take) const {
    const std::int64_t n = numbers(q), end = first + count;
    std::int64_t offsets[kLeaf<T>];
    const bool even = a_.reduced < 2;  // rows have one distance
    const std::int64_t step = a_.reduced ? a_.x[a_.reduced - 1] : 0, base = offset(q);
    if (!even) {
      Runs runs(a_, a_.x, q * kLeaf<T>);
      for (std::int64_t i = 0; i < n;) {
        const std::int64_t run = runs.run(n - i);
        for (std::int64_t k = 0; k < run; ++k) offsets[i + k] = runs.offset + k * step;
        runs.advance(run);
        i += run;
      }
    }
    const auto tile = [&](std::int64_t c, auto registers, auto part, std::int64_t known = 0) {
      constexpr int Vs = decltype(registers)::value, V2 = Vs > 1 ? 2 : 1;
      const E* const x = x_ + c * down_;
      AskRows ask;
      if (far_ && even) {
        const std::int64_t next = c + kTile < end ? c + kTile : first;
        ask.row =
            reinterpret_cast<const char*>(x_ + next * down_ + (next > c ? base : base + kLeaf<T> * step));
        ask.down = step * kItem, ask.left = n;
        ask.lines = Vs * W * kItem > 64 ? static_cast<int>(Vs * W * kItem / 64) : 1;
      }
      const auto row = [&](std::int64_t r) { return x + (even ? base + r * step : offsets[r]); };
      const Tile<T, 1, Vs> sum = leaf_columns<Add, T, 1, Vs>(n, [&](Vec<T>* s, std::int64_t r, int v) {
        if (v == 0) ask((Vs + 1) / 2);
        s[0] = s[0] + get(row(r) + v * W, part);
      });
      T means[Vs * W], rests[Vs * W], squares[Vs * W];
      for (int v = 0; v < Vs; ++v) (sum.v[0][v] / Vec<T>(static_cast<T>(n))).store(means + v * W);
      for (int at = 0; at < Vs; at += V2) {
        Vec<T> m[V2];
        for (int v = 0; v < V2; ++v) m[v] = Vec<T>::load(means + (at + v) * W);
        const Tile<T, 2, V2> both = leaf_columns<Add, T, 2, V2>(n, [&](Vec<T>* s, std::int64_t r, int v) {
          if (v == 0) ask(1);
          const Vec<T> d = get(row(r) + (at + v) * W, part) - m[v];
          s[0] = s[0] + d;
          s[1] = fma(d, d, s[1]);
        });
        for (int v = 0; v < V2; ++v)
          both.v[0][v].store(rests + (at + v) * W), both.v[1][v].store(squares + (at + v) * W);
      }
      std::int64_t channels = Vs * W;
      if constexpr (std::is_same_v<decltype(part), First>) channels = part.n;
      for (std::int64_t k = known; k < channels; ++k) take(c + k, n, means[k], rests[k], squares[k]);
    };
    std::int64_t c = first;
    for (; c + kTile <= end; c += kTile) tile(c, std::integral_constant<int, V>{}, All{});
    if (c + W < end && count > kTile)  // moved back to end with the range
      return tile(end - kTile, std::integral_constant<int, V>{}, All{}, c - (end - kTile));
    if constexpr (V > 2)
      for (; c + 2 * W <= end; c += 2 * W) tile(c, std::integral_constant<int, 2>{}, All{});
    for (; c < end; c += W) tile(c, std::integral_constant<int, 1>{}, First{end - c < W ? end - c : W});
  }
};

}  // namespace ts::cpu::TS_ISA
