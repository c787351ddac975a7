// A sparse matrix times dense rows: y_m = sum over k in row m of v_k x_{c_k}.
//
// A N B: the axes before, at and after the summed one of x; M rows of the matrix (CSR: starts, columns c,
// values v). A row's terms are added one after another with FMA, in the order of k, whatever the layout and
// the threads. Reads the matrix once for each of A, each x_{c_k} once, and writes y once.
#include "cpu/kernels.h"
#include "cpu/lines.h"
#include "cpu/reduce.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

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

  TS_INLINE T value(std::int64_t k) const { return values ? values[k] : T(1); }

  // One row into B neighbouring outputs, a few registers at a time.
  TS_INLINE void row(std::int64_t m, const T* x, std::int64_t pitch, T* y, std::int64_t B) const {
    constexpr std::int64_t W = Vec<T>::width;
    constexpr int kRegisters = 4;
    const std::int64_t first = starts[m], last = starts[m + 1];
    std::int64_t b = 0;
    for (; b + kRegisters * W <= B; b += kRegisters * W) {
      Vec<T> sum[kRegisters];
      for (int r = 0; r < kRegisters; ++r) sum[r] = Vec<T>(T(0));
      for (std::int64_t k = first; k < last; ++k) {
        const T* const from = x + columns[k] * pitch + b;
        const Vec<T> v(value(k));
        for (int r = 0; r < kRegisters; ++r) sum[r] = fma(v, Vec<T>::load(from + r * W), sum[r]);
      }
      for (int r = 0; r < kRegisters; ++r) sum[r].store(y + b + r * W);
    }
    each<T>(b, B, [&](std::int64_t i, auto part) {
      Vec<T> sum(T(0));
      for (std::int64_t k = first; k < last; ++k)
        sum = fma(Vec<T>(value(k)), get(x + columns[k] * pitch + i, part), sum);
      put(y + i, sum, part);
    });
  }
  TS_INLINE T one(std::int64_t m, const T* x, std::int64_t pitch) const {
    T sum = 0;
    for (std::int64_t k = starts[m]; k < starts[m + 1]; ++k)
      sum = fma_one(value(k), x[columns[k] * pitch], sum);
    return sum;
  }
};

// One sum for each of many lines (B = 1, x and y contiguous along the line): a register of outputs at a time,
// term by term, each term's inputs brought by a shuffle. False where the lines are few or lie otherwise.
template <class T>
bool multiply_lines(const Matrix<T>& matrix, In x, Out y) {
  constexpr std::int64_t W = Vec<T>::width, kGrain = 1 << 15;
  const std::int64_t A = y.shape[0], M = y.shape[1], N = x.shape[1], blocks = (M + W - 1) / W;
  if (A < 8 || x.strides[1] != 1 || y.strides[1] != 1) return false;
  struct Term {
    LineTap<T> tap;
    T values[W];
    typename Vec<T>::MaskReg there;  // lanes that have this term
    bool all;
  };
  const auto row_terms = [&](std::int64_t m) { return matrix.starts[m + 1] - matrix.starts[m]; };
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < blocks; ++i) {
    std::int64_t most = 0;
    for (std::int64_t m = i * W; m < M && m < (i + 1) * W; ++m)
      most = row_terms(m) > most ? row_terms(m) : most;
    total += most;
  }
  // Not where lanes would mostly wait for a long row.
  if (total * W > 4 * (matrix.starts[M] + W)) return false;
  std::int64_t* const first = static_cast<std::int64_t*>(scratch());
  const std::int64_t room = (blocks + 8) / 8 * 64;
  if (room + total * static_cast<std::int64_t>(sizeof(Term)) > static_cast<std::int64_t>(kScratchBytes))
    return false;
  Term* const terms = reinterpret_cast<Term*>(static_cast<char*>(scratch()) + room);
  std::int64_t made = 0;
  for (std::int64_t i = 0; i < blocks; ++i) {
    first[i] = made;
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
      terms[made++] = term;
    }
  }
  first[blocks] = made;
  parallel_ranges(A, kGrain / (matrix.starts[M] + M) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t a = begin; a < end; ++a) {
      const T* const from = x.as<T>() + a * x.strides[0];
      T* const to = y.as<T>() + a * y.strides[0];
      for (std::int64_t i = 0; i < blocks; ++i) {
        Vec<T> sum(T(0));
        for (std::int64_t k = first[i]; k < first[i + 1]; ++k) {
          const Term& term = terms[k];
          const Vec<T> next = fma(Vec<T>::load(term.values), term.tap(from), sum);
          sum = term.all ? next : select(Mask<T>(term.there), next, sum);
        }
        if (M - i * W >= W)
          sum.store(to + i * W);
        else
          sum.store_partial(to + i * W, M - i * W);
      }
    }
  });
  return true;
}

}  // namespace

void csr_matmul(In starts, In columns, In values, In x, Out y) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Matrix<T> matrix{starts.as<std::int64_t>(), columns.as<std::int64_t>(), values.as<T>()};
    const std::int64_t A = y.shape[0], M = y.shape[1], B = y.shape[2];
    if (B == 1 && multiply_lines(matrix, x, y)) return;
    const bool dense = B > 1 && x.strides[2] == 1 && y.strides[2] == 1;
    constexpr std::int64_t kGrain = 1 << 15;  // terms of a piece
    const std::int64_t terms = (columns.shape[0] / M + 1) * B;
    const std::int64_t rows = kGrain / terms + 1, blocks = (M + rows - 1) / rows;
    const std::int64_t together = rows > M ? rows / M : 1;
    parallel_ranges(A * blocks, together, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* const xa = x.as<T>() + i / blocks * x.strides[0];
        T* const ya = y.as<T>() + i / blocks * y.strides[0];
        const std::int64_t first = i % blocks * rows, last = M - first < rows ? M : first + rows;
        for (std::int64_t m = first; m < last; ++m) {
          T* const to = ya + m * y.strides[1];
          if (dense) {
            matrix.row(m, xa, x.strides[1], to, B);
          } else {
            for (std::int64_t b = 0; b < B; ++b)
              to[b * y.strides[2]] = matrix.one(m, xa + b * x.strides[2], x.strides[1]);
          }
        }
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
