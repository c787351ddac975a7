// Any reduction by the tree over any axes: reduce(axes, operands, term) takes each output along the axis that
// memory favours. Reads every input once.
//
// A Term says what is added up and what becomes of the total:
//   using Op; kSums, kInputs (1 or 2), kParams (per-output numbers that step or finish need), kOutputs
//   step(sums, x, x2, params, part)   takes a register of elements into sums[0..kSums)
//   finish(sums, params, results)     the outputs, for a register of neighbouring totals
//   kVector (optional)                the second input is one vector for all outputs (strides 0)
#pragma once

#include "cpu/columns.h"
#include "cpu/half.h"
#include "cpu/stream.h"

namespace ts::cpu::TS_ISA {

// Elements may be stored as halves, S: they are computed as T, and what is not an element is T.
template <class S>
struct Operands {
  using T = Computed<S>;
  const S* x = nullptr;
  const S* x2 = nullptr;
  const T* params[4] = {};  // these and the outputs lie as y does
  T* y[2] = {};
  T* partials = nullptr;  // room for the chunks' results: the caller's scratch
};

constexpr std::int64_t kReduceGrain = 1 << 16;                // elements of a piece
constexpr std::int64_t kTableBytes = std::int64_t{24} << 20;  // what far_columns begins with

// p[0], p[2], ...: of two registers, the second of which begins one element early, lest what lies behind the
// last is read.
template <class T, int... I>
TS_INLINE Vec<T> evens(const T* p, std::integer_sequence<int, I...>) {
  constexpr int W = Vec<T>::width;
  constexpr typename Vec<T>::MaskReg from = {static_cast<IntOf<T>>(2 * I + (I < W / 2 ? 0 : 1))...};
  return Vec<T>(__builtin_shuffle(Vec<T>::load(p).r, Vec<T>::load(p + W - 1).r, from));
}
template <class T>
TS_INLINE Vec<T> get_pairs(const T* p, All) {
  return evens(p, std::make_integer_sequence<int, Vec<T>::width>{});
}
template <class T>
TS_INLINE Vec<T> get_pairs(const T* p, First part) {
  T lanes[Vec<T>::width] = {};
  for (int i = 0; i < part.n; ++i) lanes[i] = p[2 * i];
  return Vec<T>::load(lanes);
}

// A register of params or results for `part` of the outputs from offset `at`, `stride` apart.
template <class T>
TS_INLINE Vec<T> get_strided(const T* p, std::int64_t stride, All) {
  if (stride == 1) return Vec<T>::load(p);
  T lanes[Vec<T>::width];
  for (int i = 0; i < Vec<T>::width; ++i) lanes[i] = p[i * stride];
  return Vec<T>::load(lanes);
}
template <class T>
TS_INLINE Vec<T> get_strided(const T* p, std::int64_t stride, First part) {
  T lanes[Vec<T>::width] = {};
  for (int i = 0; i < part.n; ++i) lanes[i] = p[i * stride];
  return Vec<T>::load(lanes);
}
template <class T, class Part>
TS_INLINE void put_strided(T* p, std::int64_t stride, Vec<T> v, Part part) {
  if (stride == 1) return put(p, v, part);
  T lanes[Vec<T>::width];
  v.store(lanes);
  std::int64_t n = Vec<T>::width;
  if constexpr (std::is_same_v<Part, First>) n = part.n;
  for (std::int64_t i = 0; i < n; ++i) p[i * stride] = lanes[i];
}

// What may follow a reduction while its elements are still in cache: another one of the same elements, or
// nothing.
struct Nothing {
  TS_INLINE void row(Offsets) const {}
  template <int Vs, class Part>
  TS_INLINE void tile(Offsets, Part) const {}
  void run() const {}
};

template <class Term>
constexpr bool takes_vector() {
  if constexpr (requires { Term::kVector; })
    return Term::kVector;
  else
    return false;
}

// The totals of rows and of tiles of columns, and what becomes of them; whatever may follow.
template <class S, class Term>
struct Totals {
  using T = Computed<S>;
  using Op = typename Term::Op;
  static constexpr int N = Term::kSums;
  static constexpr std::int64_t W = Vec<T>::width;
  static constexpr bool kPlain = N == 1 && Term::kInputs == 1 && Term::kParams == 0;

  const Axes& a;
  const Operands<S>& o;
  const Term& term;

  bool far() const { return a.outputs * a.length * static_cast<std::int64_t>(sizeof(S)) >= kFarBytes; }
  static bool crosses_lines(const S* p) { return reinterpret_cast<std::uintptr_t>(p) % kTreeBytes != 0; }

  // --- along rows: one output at a time -------------------------------------------------------------

  void total_of_row(Offsets at, std::int64_t begin, std::int64_t end, T* sums) const {
    Vec<T> params[4];
    for (int k = 0; k < Term::kParams; ++k) params[k] = Vec<T>(Lane<T>(o.params[k][at.y]));
    const S* const base = o.x + at.x;
    const S* const base2 = Term::kInputs == 2 ? o.x2 + at.x2 : base;
    if constexpr (kPlain && std::is_same_v<S, T> && std::is_floating_point_v<T>)
      if (a.reduced == 1 && a.x[0] == 2) return tree<Op, T, N>(begin, end, Pairs{term, base}, sums);
    Pairwise<Op, T, N> above;
    if (a.reduced > 1 && a.shape[a.reduced - 1] % kStripe<T> == 0 && a.x[a.reduced - 1] == 1 &&
        (Term::kInputs == 1 || a.x2[a.reduced - 1] == 1)) {  // runs of whole stripes need no copy
      for (std::int64_t i = begin; i < end; i += kLeaf<T>) {
        T leaf_sums[N];
        leaf_of_runs(base, base2, i, end - i < kLeaf<T> ? end - i : kLeaf<T>, params, leaf_sums);
        above.push(leaf_sums);
      }
      return above.finish(sums);
    }
    const bool in_place =
        a.reduced == 0 || (a.reduced == 1 && a.x[0] == 1 && (Term::kInputs == 1 || a.x2[0] == 1));
    const bool asks = in_place && (far() || crosses_lines(base)),
               asks2 = Term::kInputs == 2 && in_place && (far() || crosses_lines(base2));
    alignas(64) S buffer[kLeaf<T>];
    alignas(64) S buffer2[Term::kInputs == 2 ? kLeaf<T> : 1];
    for (std::int64_t i = begin;; i += kLeaf<T>) {
      const bool last = end - i <= kLeaf<T>;
      const std::int64_t n = last ? end - i : kLeaf<T>;
      const S* const x = in_place ? base + i : elements(a, a.x, base, i, n, buffer);
      const S* x2 = x;
      if constexpr (Term::kInputs == 2) x2 = in_place ? base2 + i : elements(a, a.x2, base2, i, n, buffer2);
      const auto step = [&](Vec<T>* s, std::int64_t p, auto part) {
        term.step(s, get(x + p, part), Term::kInputs == 2 ? get(x2 + p, part) : Vec<T>(Lane<T>(0)), params,
                  part);
      };
      const Ahead<T, std::remove_const_t<decltype(step)>, S> ahead{step, asks ? x : nullptr,
                                                                   asks2 ? x2 : nullptr};
      leaf<Op, T, N>(0, n, ahead, sums);
      if (last && i == begin) return;
      above.push(sums);
      if (last) return above.finish(sums);
    }
  }
  // Every second element of one row, added as it comes: through a buffer, memory would rest while that is
  // added.
  struct Pairs {
    const Term& term;
    const S* x;
    template <class Part>
    TS_INLINE void operator()(Vec<T>* s, std::int64_t i, Part part) const {
      term.step(s, get_pairs(x + 2 * i, part), Vec<T>(Lane<T>(0)), static_cast<const Vec<T>*>(nullptr), part);
    }
    TS_INLINE void ahead(std::int64_t i) const {
      if constexpr (kTreeParts == 1)
        for (int r = 0; r < 2 * kTreeChains; ++r)
          __builtin_prefetch(reinterpret_cast<const char*>(x + 2 * i + r * kTreeLanes<T>) + 2048);
    }
  };
  static constexpr std::int64_t kRunAhead = 2048 / static_cast<std::int64_t>(sizeof(S));
  TS_INLINE static void ask(const S* stripe) {
    for (int j = 0; j < kTreeChains; ++j) __builtin_prefetch(stripe + j * kTreeLanes<T>);
  }
  TS_INLINE void leaf_of_runs(const S* x, const S* x2, std::int64_t begin, std::int64_t n,
                              const Vec<T>* params, T* sums) const {
    constexpr int R = kTreeChains * kTreeParts;
    Vec<T> sum[R][N];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      for (int k = 0; k < N; ++k) sum[r][k] = Vec<T>(Lane<T>(Op::template identity<T>));
    Runs runs(a, a.x, begin), runs2(a, a.x2, begin);
    const bool asks =
        far();  // for what follows in this run or the next: the hardware looks no further than a page
    while (n > 0) {
      const std::int64_t run = runs.run(n), ahead = kRunAhead < run ? kRunAhead : run;
      const S* const p = x + runs.offset;
      const S* const p2 = x2 + runs2.offset;
      runs.advance(run), runs2.advance(run);
      for (std::int64_t i = 0; i < run; i += R * W) {
        if (asks) {
          const std::int64_t at = i + ahead, next = at - run;
          ask(next < 0 ? p + at : x + runs.offset + next);
          if constexpr (Term::kInputs == 2) ask(next < 0 ? p2 + at : x2 + runs2.offset + next);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          Vec<T> other(Lane<T>(0));
          if constexpr (Term::kInputs == 2) other = get(p2 + i + r * W, All{});
          term.step(sum[r], get(p + i + r * W, All{}), other, params, All{});
        }
      }
      n -= run;
    }
    Vec<T> lanes[N];
    join_chains<Op, T, N>(sum, lanes);
    for (int k = 0; k < N; ++k) sums[k] = fold<Op, T>(lanes[k]);
  }
  void finish_row(std::int64_t y, const T* sums) const {
    Vec<T> s[N], params[4], results[2];
    for (int k = 0; k < N; ++k) s[k] = Vec<T>(Lane<T>(sums[k]));
    for (int k = 0; k < Term::kParams; ++k) params[k] = Vec<T>(Lane<T>(o.params[k][y]));
    term.finish(s, params, results);
    for (int k = 0; k < Term::kOutputs; ++k) o.y[k][y] = static_cast<T>(results[k][0]);
  }

  // --- across columns: Vs registers of neighbouring outputs at a time -------------------------------

  // The totals of rows [begin, end) of the outputs from `at`: the first Vs registers, or `part` of one.
  template <int Vs, class Part>
  Tile<T, N, Vs> total_of_columns(Offsets at, std::int64_t begin, std::int64_t end, Part part) const {
    Vec<T> params[Vs][4];
    const std::int64_t stride = a.kept_y[a.kept - 1];
    for (int v = 0; v < Vs; ++v)
      for (int k = 0; k < Term::kParams; ++k)
        params[v][k] = get_strided(o.params[k] + at.y + v * W * stride, stride, part);
    const S* const x = o.x + at.x;
    const S* const x2 = Term::kInputs == 2 ? o.x2 + at.x2 : nullptr;
    const auto take = [&](Vec<T>* sums, const S* px, const S* px2, int v) {
      Vec<T> other(Lane<T>(0));
      if constexpr (takes_vector<Term>())
        other = Vec<T>(Lane<T>(*px2));
      else if constexpr (Term::kInputs == 2)
        other = get(px2 + v * W, part);
      term.step(sums, get(px + v * W, part), other, params[v], All{});
    };
    if (a.reduced == 1)
      return tree_columns<Op, T, N, Vs>(begin, end, [&](std::int64_t first, std::int64_t) {
        return [&, px = x + first * a.x[0], px2 = x2 + (Term::kInputs == 2 ? first * a.x2[0] : 0)](
                   Vec<T>* sums, std::int64_t row, int v) {
          take(sums, px + row * a.x[0], px2 + row * a.x2[0], v);
        };
      });
    std::int64_t offsets[kLeaf<T>], offsets2[Term::kInputs == 2 ? kLeaf<T> : 1];
    const auto list = [&](const std::int64_t* strides, std::int64_t first, std::int64_t n,
                          std::int64_t* list) {
      Runs runs(a, strides, first);
      while (n > 0) {
        const std::int64_t run = runs.run(n);
        for (std::int64_t i = 0; i < run; ++i)
          *list++ = runs.offset + (a.reduced ? i * strides[a.reduced - 1] : 0);
        runs.advance(run);
        n -= run;
      }
    };
    return tree_columns<Op, T, N, Vs>(begin, end, [&](std::int64_t first, std::int64_t n) {
      list(a.x, first, n, offsets);
      if constexpr (Term::kInputs == 2) list(a.x2, first, n, offsets2);
      return [&](Vec<T>* sums, std::int64_t row, int v) {
        take(sums, x + offsets[row], Term::kInputs == 2 ? x2 + offsets2[row] : nullptr, v);
      };
    });
  }
  template <int Vs, class Part>
  void finish_columns(std::int64_t y, const Tile<T, N, Vs>& total, Part part) const {
    const std::int64_t stride = a.kept_y[a.kept - 1];
    for (int v = 0; v < Vs; ++v) {
      Vec<T> sums[N], params[4], results[2];
      for (int k = 0; k < N; ++k) sums[k] = total.v[k][v];
      for (int k = 0; k < Term::kParams; ++k)
        params[k] = get_strided(o.params[k] + y + v * W * stride, stride, part);
      term.finish(sums, params, results);
      for (int k = 0; k < Term::kOutputs; ++k)
        put_strided(o.y[k] + y + v * W * stride, stride, results[k], part);
    }
  }
};

template <class S, class Term, class Next = Nothing>
struct Reduction : Totals<S, Term> {
  using Totals = ts::cpu::TS_ISA::Totals<S, Term>;
  using Totals::a, Totals::o, Totals::term, Totals::N, Totals::W;
  using Totals::far, Totals::crosses_lines, Totals::total_of_row, Totals::finish_row, Totals::kRunAhead;
  using typename Totals::Op;
  using typename Totals::T;
#if defined(__AVX512F__)
  static constexpr int V = N == 1 ? 4 : 2;
#else
  static constexpr int V = 2;  // a line
#endif
  // What one piece takes of a long row, a complete subtree: less where two inputs come from memory.
  static constexpr std::int64_t kPiece = Term::kInputs == 2 ? kChunk<T> / 4 : kChunk<T>;
  static constexpr bool kAlone = Totals::kPlain && std::is_same_v<Next, Nothing>;

  const Next& next;

  // --- along rows: one output at a time -------------------------------------------------------------

  static bool partials_fit(std::int64_t totals) {
    return totals <= static_cast<std::int64_t>(kScratchBytes / (N * sizeof(T)));
  }
  TS_INLINE void row(Offsets at) const {
    T sums[N];
    total_of_row(at, 0, a.length, sums);
    finish_row(at.y, sums);
    next.row(at);
  }
  // Short rows: of a register's width of them the folds are made together, and so are the results.
  static constexpr bool kTogether = kAlone && sizeof(T) >= 4;
  static constexpr std::int64_t kShort = 4 * kStripe<T>;
  std::int64_t rows_together(std::int64_t begin, std::int64_t end) const {
    const std::int64_t sx = a.kept_x[0], sy = a.kept_y[0];
    for (; begin + W <= end; begin += W) {
      const S* const x = o.x + begin * sx;
      const bool asks = far() || crosses_lines(x);
      Vec<T> lanes[W], results[2];
      const auto row = [&](std::int64_t r) {
        return [this, p = x + r * sx](Vec<T>* s, std::int64_t i, auto part) {
          term.step(s, get(p + i, part), Vec<T>(Lane<T>(0)), static_cast<const Vec<T>*>(nullptr), part);
        };
      };
      if (a.length <= W) {
        const auto each_row = [&](auto part) {
#pragma GCC unroll 16
          for (std::int64_t r = 0; r < W; ++r) {
            lanes[r] = Vec<T>(Lane<T>(Op::template identity<T>));
            row(r)(lanes + r, 0, part);
          }
        };
        a.length == W ? each_row(All{}) : each_row(First{a.length});
      } else {
        for (std::int64_t r = 0; r < W; ++r) {
          const auto step = row(r);
          const Ahead<T, std::remove_const_t<decltype(step)>, S> ahead{step, asks ? x + r * sx : nullptr,
                                                                       nullptr};
          leaf_lanes<Op, T, 1>(0, a.length, ahead, lanes + r);
        }
      }
      const Vec<T> sums = fold_together<Op, T>(lanes);
      term.finish(&sums, static_cast<const Vec<T>*>(nullptr), results);
      for (int k = 0; k < Term::kOutputs; ++k) put_strided(o.y[k] + begin * sy, sy, results[k], All{});
    }
    return begin;
  }
  void rows() const {
    // A single row of a few pieces is cut finer: of 100,000 doubles a second thread would else have none.
    // Each is a complete subtree, so the sums are the same.
    std::int64_t size = a.outputs == 1 && a.length < 8 * kPiece ? kChunk<T> / 4 : kPiece;
    while (a.outputs < 64 && !partials_fit(a.outputs * (a.length / size + 1))) size *= 2;
    if (a.length < 2 * size || a.outputs >= 64) {  // enough rows for all threads
      const std::int64_t most = a.length >= kReduceGrain ? 1 : kReduceGrain / (a.length + 8);
      parallel_ranges(a.outputs, even_grain(a.outputs, most), [&](std::int64_t begin, std::int64_t end) {
        if constexpr (kTogether)
          if (a.kept == 1 && a.reduced == 1 && a.x[0] == 1 && a.length <= kShort)
            begin = rows_together(begin, end);
        for (std::int64_t i = begin; i < end; ++i) row(output_offsets(a, i, a.kept));
      });
      return;
    }
    const std::int64_t chunks = (a.length + size - 1) / size;
    parallel_for(a.outputs * chunks, [&](std::int64_t piece) {
      const std::int64_t begin = piece % chunks * size;
      const std::int64_t end = a.length - begin < size ? a.length : begin + size;
      total_of_row(output_offsets(a, piece / chunks, a.kept), begin, end, o.partials + piece * N);
    });
    for (std::int64_t i = 0; i < a.outputs; ++i) {
      Pairwise<Op, T, N> above;
      for (std::int64_t q = 0; q < chunks; ++q) above.push(o.partials + (i * chunks + q) * N);
      T sums[N];
      above.finish(sums);
      finish_row(output_offsets(a, i, a.kept).y, sums);
    }
    next.run();
  }

  // --- across columns -------------------------------------------------------------------------------

  template <int Vs, class Part>
  TS_INLINE void tile(Offsets at, Part part) const {
    this->template finish_columns<Vs>(at.y, this->template total_of_columns<Vs>(at, 0, a.length, part), part);
    next.template tile<Vs>(at, part);
  }
  // Calls body(column, count of registers, part) for the register tiles of columns [begin, end). The last
  // tile is moved back to end at `end`: a column summed twice gives the same bits, unless its parameter lay
  // where its result went.
  template <class Body>
  TS_INLINE void each_tile(std::int64_t begin, std::int64_t end, const Body& body) const {
    std::int64_t c = begin;
    for (; c + V * W <= end; c += V * W) body(c, std::integral_constant<int, V>{}, All{});
    if (c == end) return;
    if (end - begin >= V * W && o.params[0] != o.y[0])
      return body(end - V * W, std::integral_constant<int, V>{}, All{});
    if constexpr (V > 2)
      for (; c + 2 * W <= end; c += 2 * W) body(c, std::integral_constant<int, 2>{}, All{});
    for (; c < end; c += W) body(c, std::integral_constant<int, 1>{}, First{end - c < W ? end - c : W});
  }
  // Columns of a matrix that no cache holds: rows as memory has them, each into the running sums of its lane
  // and chain, which are kept in a table; four rows of one lane and chain at once. The additions are those of
  // columns.h.
  static constexpr std::int64_t kTableColumns = 8192 / static_cast<std::int64_t>(sizeof(T)), kRowsOnce = 4;
  static constexpr std::int64_t kMostPartials = std::int64_t{16} << 20;  // bytes
  void far_columns() const {
    const int last = a.kept - 1;
    const std::int64_t width = a.kept_shape[last], outer = a.outputs / width;
    const std::int64_t leaves = (a.length + kLeaf<T> - 1) / kLeaf<T>;
    // Pieces: whole rows of chunks of leaves, or, of few rows, a share of the columns.
    std::int64_t chunk = kLeaf<T>;
    while (chunk * 16 < a.length) chunk *= 2;
    std::int64_t chunks = (a.length + chunk - 1) / chunk;
    if (leaves < 8 || outer * chunks * width * static_cast<std::int64_t>(sizeof(T)) > kMostPartials)
      chunk = leaves * kLeaf<T>, chunks = 1;
    std::int64_t wide = width;
    if (chunks == 1) wide = (width + num_threads() - 1) / num_threads();
    wide = (wide + W - 1) / W * W;  // whole registers: the table's rows and those of the stack do not overlap
    if (wide > kTableColumns) wide = kTableColumns;
    const std::int64_t tiles = (width + wide - 1) / wide;
    parallel_for(outer * chunks * tiles, [&](std::int64_t piece) {
      const std::int64_t c = piece % tiles * wide, count = width - c < wide ? width - c : wide;
      const std::int64_t q = piece / tiles % chunks, i = piece / tiles / chunks, begin = q * chunk;
      const Offsets first = output_offsets(a, i, last);
      T* const room = static_cast<T*>(scratch()) + kMostPartials / static_cast<std::int64_t>(sizeof(T));
      const T* const total =
          sum_of_strip(o.x + first.x + c + begin * a.x[0],
                       a.length - begin < chunk ? a.length - begin : chunk, wide, count, room);
      for_strip(count, [&](std::int64_t v, auto part) {
        const Vec<T> sum = Vec<T>::load(total + v);
        if (chunks > 1) return put(o.partials + (i * chunks + q) * width + c + v, sum, part);
        Tile<T, N, 1> tile;
        tile.v[0][0] = sum;
        this->template finish_columns<1>(first.y + (c + v) * a.kept_y[last], tile, part);
      });
    });
    if (chunks > 1)
      for (std::int64_t i = 0; i < outer; ++i) finish_chunks(i, chunks);
  }
  template <class Body>
  TS_INLINE static void for_strip(std::int64_t count, const Body& body) {
    std::int64_t v = 0;
    for (; v + W <= count; v += W) body(v, All{});
    if (v < count) body(v, First{count - v});
  }
  // The same of the table and the stack, whose rows are whole registers.
  template <class Body>
  TS_INLINE static void for_room(std::int64_t count, const Body& body) {
    for (std::int64_t v = 0; v < count; v += W) body(v);
  }
  // The totals of `count` columns of n rows, in `room`: the table, `wide` numbers a row, and a stack of
  // leaves behind.
  const T* sum_of_strip(const S* x, std::int64_t n, std::int64_t wide, std::int64_t count, T* room) const {
    constexpr int L = kTreeLanes<T>;
    const std::int64_t down = a.x[0];
    T *const table = room, *const stack = table + kStripe<T> * wide;
    const auto total = [&](std::int64_t level, std::int64_t v) { return stack + level * wide + v; };
    const auto take = [&](Vec<T>* sum, const S* p, auto part) {
      term.step(sum, get(p, part), Vec<T>(Lane<T>(0)), static_cast<const Vec<T>*>(nullptr), All{});
    };
    const Vec<T> none(Lane<T>(Op::template identity<T>));
    int top = 0;
    std::int64_t leaves = 0;
    for (; n > 0; x += kLeaf<T> * down, n -= kLeaf<T>, ++leaves) {
      const std::int64_t rows = n < kLeaf<T> ? n : kLeaf<T>;
      std::int64_t row = 0;
      for (; row + kRowsOnce * kStripe<T> <= rows; row += kRowsOnce * kStripe<T>)
        for (std::int64_t r = 0; r < kStripe<T>; ++r) {
          const S* const p = x + (row + r) * down;
          T* const sums = table + r * wide;
          for_strip(count, [&](std::int64_t v, auto part) {
            Vec<T> sum = row == 0 ? none : Vec<T>::load(sums + v);
            const std::int64_t ahead = v + kRunAhead < count ? kRunAhead : kRunAhead + down - count;
#pragma GCC unroll 4
            for (std::int64_t k = 0; k < kRowsOnce; ++k) {
              const S* const from = p + k * kStripe<T> * down + v;
              if (v * static_cast<std::int64_t>(sizeof(S)) % kLine ==
                  0)  // in this row, or where the next begins
                __builtin_prefetch(from + ahead);
              take(&sum, from, part);
            }
            sum.store(sums + v);
          });
        }
      if (row == 0)
        for (std::int64_t k = 0; k < kStripe<T> * wide; k += W) none.store(table + k);
      for (; row < rows; ++row)
        for_strip(count, [&](std::int64_t v, auto part) {
          T* const sums = table + row % kStripe<T> * wide + v;
          Vec<T> sum = Vec<T>::load(sums);
          take(&sum, x + row * down + v, part);
          sum.store(sums);
        });
      int level = top;
      for_room(count, [&](std::int64_t v) {
        Vec<T> lane[L];
        const auto chain = [&](int k, int l) { return Vec<T>::load(table + (k * L + l) * wide + v); };
        for (int l = 0; l < L; ++l)
          lane[l] = Op::apply(Op::apply(chain(0, l), chain(1, l)), Op::apply(chain(2, l), chain(3, l)));
        for (int half = L / 2; half > 0; half /= 2)
          for (int l = 0; l < half; ++l) lane[l] = Op::apply(lane[l], lane[l + half]);
        Vec<T> sum = lane[0];
        level = top;
        for (std::int64_t carry = leaves; carry & 1; carry >>= 1)
          sum = Op::apply(Vec<T>::load(total(--level, v)), sum);
        sum.store(total(level, v));
      });
      top = level + 1;
    }
    for (--top; top > 0; --top)
      for_room(count, [&](std::int64_t v) {
        Op::apply(Vec<T>::load(total(top - 1, v)), Vec<T>::load(total(top, v))).store(total(top - 1, v));
      });
    return total(0, 0);
  }
  void columns() const {
    const int last = a.kept - 1;
    const std::int64_t width = a.kept_shape[last], outer = a.outputs / width;
    if constexpr (kAlone)
      if (a.reduced == 1 && a.outputs * a.length * static_cast<std::int64_t>(sizeof(S)) >= kTableBytes &&
          width >= kTableColumns / 4 && a.length >= 8 * kStripe<T>)
        return far_columns();
    const std::int64_t sx = a.kept_x[last], sx2 = a.kept_x2[last], sy = a.kept_y[last];
    const auto offsets = [&](Offsets at, std::int64_t c) {
      return Offsets{at.x + c * sx, at.x2 + c * sx2, at.y + c * sy};
    };
    // Pieces: several outer indices, or a tile of columns, or a chunk of the rows of a tile.
    std::int64_t wide = (kReduceGrain / a.length + V * W - 1) / (V * W) * (V * W);
    if (wide < V * W) wide = V * W;
    if (wide > width) wide = width;
    std::int64_t chunk = kLeaf<T>;
    while (chunk * wide < kReduceGrain * 4) chunk *= 2;
    std::int64_t chunks = a.length < 2 * chunk ? 1 : (a.length + chunk - 1) / chunk;
    if (!partials_fit(outer * width * chunks)) chunks = 1;  // and pieces enough without
    if (chunks == 1) {
      const std::int64_t tiles = (width + wide - 1) / wide;
      const std::int64_t grain = kReduceGrain / (wide * a.length) + 1;
      parallel_ranges(outer * tiles, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const Offsets at = output_offsets(a, i / tiles, last);
          const std::int64_t first = i % tiles * wide, stop = width - first < wide ? width : first + wide;
          each_tile(first, stop, [&](std::int64_t c, auto count, auto part) {
            this->template tile<decltype(count)::value>(offsets(at, c), part);
          });
        }
      });
      return;
    }
    parallel_for(outer * chunks, [&](std::int64_t piece) {
      const Offsets at = output_offsets(a, piece / chunks, last);
      const std::int64_t begin = piece % chunks * chunk,
                         end = a.length - begin < chunk ? a.length : begin + chunk;
      each_tile(0, width, [&](std::int64_t c, auto count, auto part) {
        constexpr int Vs = decltype(count)::value;
        const auto total = this->template total_of_columns<Vs>(offsets(at, c), begin, end, part);
        for (int k = 0; k < N; ++k)
          for (int v = 0; v < Vs; ++v)
            put(o.partials + (piece * N + k) * width + c + v * W, total.v[k][v], part);
      });
    });
    for (std::int64_t i = 0; i < outer; ++i) finish_chunks(i, chunks);
    next.run();
  }
  // The outputs of the i-th outer index of the totals of its chunks.
  void finish_chunks(std::int64_t i, std::int64_t chunks) const {
    const int last = a.kept - 1;
    const std::int64_t width = a.kept_shape[last];
    const Offsets at = output_offsets(a, i, last);
    for_strip(width, [&](std::int64_t c, auto part) {
      Tile<T, N, 1> stack[48];
      int top = 0;
      for (std::int64_t q = 0; q < chunks; ++q) {
        Tile<T, N, 1> sum;
        for (int k = 0; k < N; ++k)
          sum.v[k][0] = get(o.partials + ((i * chunks + q) * N + k) * width + c, part);
        for (std::int64_t carry = q; carry & 1; carry >>= 1) sum = apply<Op>(stack[--top], sum);
        stack[top++] = sum;
      }
      Tile<T, N, 1> sum = stack[--top];
      while (top > 0) sum = apply<Op>(stack[--top], sum);
      this->template finish_columns<1>(at.y + c * a.kept_y[last], sum, part);
    });
  }

  void run() const {
    if (a.outputs == 0) return;
    if (a.length == 0) {  // of nothing: the identity
      T none[N];
      for (int k = 0; k < N; ++k) none[k] = Op::template identity<T>;
      for (std::int64_t i = 0; i < a.outputs; ++i) finish_row(output_offsets(a, i, a.kept).y, none);
      return next.run();
    }
    // Products and the extremes of integers go along rows only: the code across columns is large, and they
    // are rare.
    if constexpr (std::is_same_v<Op, Add> || (std::is_floating_point_v<T> && !std::is_same_v<Op, Multiply>)) {
      const int last = a.kept - 1;
      if (a.kept > 0 && a.kept_x[last] == 1 &&
          (Term::kInputs == 1 || takes_vector<Term>() || a.kept_x2[last] == 1) && a.inner_x() != 1)
        return columns();
    }
    rows();
  }
};

template <class S, class Term>
void reduce(const Axes& a, const Operands<S>& o, const Term& term) {
  const Nothing nothing;
  Reduction<S, Term>{{a, o, term}, nothing}.run();
}

// One reduction and then another of the same elements, which may need the first one's results: row by row, or
// tile by tile, where they fit in cache.
template <class S, class One, class Two>
void reduce_twice(const Axes& a, const Operands<S>& o, const One& first, const Operands<S>& o2,
                  const Two& second) {
  const Nothing nothing;
  const Reduction<S, Two> then{{a, o2, second}, nothing};
  Reduction<S, One, Reduction<S, Two>>{{a, o, first}, then}.run();
}

}  // namespace ts::cpu::TS_ISA
