// A sparse matrix in CSR form, as kernels walk it: a row of results from the rows of x that its entries name.
#pragma once

#include "cpu/half.h"
#include "cpu/lines.h"
#include "cpu/reduce.h"

namespace ts::cpu::TS_ISA {

template <class T>
TS_INLINE T fma_one(T a, T b, T c) {
#if defined(__FMA__)
  return sizeof(T) == 4 ? static_cast<T>(__builtin_fmaf(static_cast<float>(a), static_cast<float>(b),
                                                        static_cast<float>(c)))
                        : static_cast<T>(__builtin_fma(a, b, c));
#else
  return a * b + c;
#endif
}

template <class T>
struct Matrix {
  const std::int64_t *starts, *columns;
  const T* values;  // null: ones
  T start = T(0);   // what the first term is added to: -0 keeps the sign of a 0

  TS_INLINE T value(std::int64_t k) const { return values ? values[k] : T(1); }

  // One row into B neighbouring outputs, a few registers at a time. Either side may be halves.
  template <class S, class R>
  TS_INLINE void row(std::int64_t m, const S* x, std::int64_t pitch, R* y, std::int64_t B) const {
    constexpr std::int64_t W = Vec<T>::width;
    constexpr int kRegisters = 4;
    const std::int64_t first = starts[m], last = starts[m + 1];
    const Vec<T> none(first == last ? T(0) : start);
    if (last - first == 2) {  // what it knows of its terms stays in registers
      const S *const a = x + columns[first] * pitch, *const c = x + columns[first + 1] * pitch;
      const Vec<T> u(value(first)), v(value(first + 1));
      each<T>(0, B, [&](std::int64_t i, auto part) {
        put(y + i, fma(v, get(c + i, part), fma(u, get(a + i, part), none)), part);
      });
      return;
    }
    std::int64_t b = 0;
    for (; b + kRegisters * W <= B; b += kRegisters * W) {
      Vec<T> sum[kRegisters];
      for (int r = 0; r < kRegisters; ++r) sum[r] = none;
      for (std::int64_t k = first; k < last; ++k) {
        const S* const from = x + columns[k] * pitch + b;
        const Vec<T> v(value(k));
        for (int r = 0; r < kRegisters; ++r) sum[r] = fma(v, get(from + r * W, All{}), sum[r]);
      }
      for (int r = 0; r < kRegisters; ++r) put(y + b + r * W, sum[r], All{});
    }
    each<T>(b, B, [&](std::int64_t i, auto part) {
      Vec<T> sum = none;
      for (std::int64_t k = first; k < last; ++k)
        sum = fma(Vec<T>(value(k)), get(x + columns[k] * pitch + i, part), sum);
      put(y + i, sum, part);
    });
  }
  // The row of x that row m copies, if it does.
  TS_INLINE const T* copied(std::int64_t m, const T* x, std::int64_t pitch) const {
    const std::int64_t first = starts[m];
    return starts[m + 1] == first + 1 && value(first) == T(1) ? x + columns[first] * pitch : nullptr;
  }
  template <class S>
  TS_INLINE T one(std::int64_t m, const S* x, std::int64_t pitch) const {
    T sum = starts[m] == starts[m + 1] ? T(0) : start;
    for (std::int64_t k = starts[m]; k < starts[m + 1]; ++k)
      sum = fma_one(value(k), T(x[columns[k] * pitch]), sum);
    return sum;
  }
};

// Rows of the matrix applied to lines (x and y contiguous along the line): a register of outputs at a time,
// term by term, each term's inputs brought by a shuffle. Made once for many lines.
template <class T>
class LineTerms {
 public:
  // In `room` of `bytes`; false where lanes would mostly wait for a long row, or the room does not do. M
  // rows, N columns.
  bool make(const Matrix<T>& matrix, std::int64_t M, std::int64_t N, char* room, std::int64_t bytes) {
    rows_ = M, blocks_ = (M + W - 1) / W, start_ = matrix.start;
    bool plain = N >= W, two = false;
    const auto row_terms = [&](std::int64_t m) { return matrix.starts[m + 1] - matrix.starts[m]; };
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < blocks_; ++i) {
      std::int64_t most = 0;
      for (std::int64_t m = i * W; m < M && m < (i + 1) * W; ++m)
        most = row_terms(m) > most ? row_terms(m) : most;
      total += most;
    }
    if (total * W > 4 * (matrix.starts[M] + W)) return false;
    const std::int64_t table = (blocks_ + 8) / 8 * 64;
    used_ = table + (total * static_cast<std::int64_t>(sizeof(Term)) + 63) / 64 * 64;
    if (used_ > bytes) return false;
    first_ = reinterpret_cast<std::int64_t*>(room);
    terms_ = reinterpret_cast<Term*>(room + table);
    std::int64_t made = 0;
    for (std::int64_t i = 0; i < blocks_; ++i) {
      first_[i] = made;
      const std::int64_t lanes = M - i * W < W ? M - i * W : W;
      for (std::int64_t j = 0;; ++j) {
        std::int64_t at[W], some = -1;
        for (std::int64_t l = 0; l < lanes; ++l)
          if (row_terms(i * W + l) > j) some = matrix.columns[matrix.starts[i * W + l] + j];
        if (some < 0) break;
        Term term{LineTap<T>(&some, 1, 1, N), {}, {}, true};
        for (std::int64_t l = 0; l < W; ++l) {
          const bool has = l < lanes && row_terms(i * W + l) > j;
          const std::int64_t k = has ? matrix.starts[i * W + l] + j : 0;
          at[l] = has ? matrix.columns[k] : some;
          term.values[l] = has ? matrix.value(k) : T(0);
          term.there[l] = has ? IntOf<T>(-1) : IntOf<T>(0);
          term.all = term.all && (has || l >= lanes);
        }
        term.tap = LineTap<T>(at, 1, W, N);
        plain = plain && term.all && term.tap.near;
        two = two || term.tap.two;
        terms_[made++] = term;
      }
      plain = plain && made - first_[i] == first_[1];
    }
    first_[blocks_] = made;
    const std::int64_t each = first_[1];
    plain_ = plain && (each == 1 || each == 2 || each == 4) ? static_cast<int>(each) : 0;
    plain_two_ = two;
    return true;
  }
  std::int64_t used() const { return used_; }
  // Every register of outputs is a sum of 1, 2 or 4 whole registers: what `plain` is for.
  bool is_plain() const { return plain_ != 0; }
  bool reads_behind() const { return plain_two_; }

  // R lines of these, from which a register more than they have may be read where reads_behind().
  template <int R, class S>
  TS_INLINE void plain(const T* const* from, S* const* to) const {
    if (plain_ == 1) return plain_two_ ? plain<1, 2, R>(from, to) : plain<1, 1, R>(from, to);
    if (plain_ == 2) return plain_two_ ? plain<2, 2, R>(from, to) : plain<2, 1, R>(from, to);
    return plain_two_ ? plain<4, 2, R>(from, to) : plain<4, 1, R>(from, to);
  }

  // R lines, `from_pitch` and `to_pitch` apart: what a term knows is looked at once for all.
  template <int R, class S>
  TS_INLINE void apply(const T* from, std::int64_t from_pitch, S* to, std::int64_t to_pitch) const {
    for (std::int64_t i = 0; i < blocks_; ++i) {
      Vec<T> sum[R], before[R];
      for (int r = 0; r < R; ++r) sum[r] = Vec<T>(T(0)), before[r] = Vec<T>(start_);
      for (std::int64_t k = first_[i]; k < first_[i + 1]; ++k) {
        const Term& term = terms_[k];
        const Vec<T> value = Vec<T>::load(term.values);
        Vec<T> x[R];
        term.tap.template read<R>(from, from_pitch, x);
        if (term.all) {
          for (int r = 0; r < R; ++r) sum[r] = before[r] = fma(value, x[r], before[r]);
        } else {
          const Mask<T> there(term.there);
          for (int r = 0; r < R; ++r) sum[r] = before[r] = select(there, fma(value, x[r], before[r]), sum[r]);
        }
      }
      const std::int64_t left = rows_ - i * W;
      for (int r = 0; r < R; ++r) {
        S* const out = to + r * to_pitch + i * W;
        if (left >= W)
          put(out, sum[r], All{});
        else
          put(out, sum[r], First{left});
      }
    }
  }
  template <class S>
  TS_INLINE void operator()(const T* from, S* to) const {
    apply<1>(from, 0, to, 0);
  }

 private:
  static constexpr std::int64_t W = Vec<T>::width;
  struct Term {
    LineTap<T> tap;
    T values[W];
    typename Vec<T>::MaskReg there;  // lanes that have this term
    bool all;
  };
  template <int K, int Registers, int R, class S>
  TS_INLINE void plain(const T* const* from, S* const* to) const {
    const auto add = [&](const Term* term, Vec<T>(&sum)[R]) {
      for (int r = 0; r < R; ++r) sum[r] = Vec<T>(start_);
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) {
        const Vec<T> value = Vec<T>::load(term[k].values);
        Vec<T> x[R];
        term[k].tap.template whole<Registers>(from, x);
        for (int r = 0; r < R; ++r) sum[r] = fma(value, x[r], sum[r]);
      }
    };
    const Term* term = terms_;
    Vec<T> sum[R];
    std::int64_t m = 0;
    for (; m + W <= rows_; m += W, term += K) {
      add(term, sum);
      for (int r = 0; r < R; ++r) put(to[r] + m, sum[r], All{});
    }
    if (m == rows_) return;
    add(term, sum);
    for (int r = 0; r < R; ++r) put(to[r] + m, sum[r], First{rows_ - m});
  }

  T start_ = T(0);
  int plain_ = 0;  // terms of each register of outputs
  bool plain_two_ = false;
  std::int64_t rows_ = 0, blocks_ = 0, used_ = 0;
  std::int64_t* first_ = nullptr;
  Term* terms_ = nullptr;
};

}  // namespace ts::cpu::TS_ISA
