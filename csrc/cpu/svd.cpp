// Singular values and vectors.
//
// B matrices of N x N, row-major. Reflections from both sides make A = U B V' bidiagonal (Golub & Kahan
// 1965); implicit QR steps then make B diagonal, with a shift of zero where one would cost small values their
// precision (Demmel & Kahan 1990). B's two diagonals are double precision throughout; the vectors, kept as
// rows of U' and V', follow by rotations (rotations.h).
//
// Cost: 8 N^3 / 3 flops in two passes over what is left of A a step; with vectors 8 N^3 / 3 more in blocks,
// and about 12 N^3 of rotations.
#include <limits>

#include "cpu/reflector.h"
#include "cpu/rotations.h"

namespace ts::cpu::TS_ISA {
namespace {

// a (n x n) -> d and e (its diagonals), left reflections in its columns, right ones in its rows. u, w: n
// elements.
template <class T>
void bidiagonal(T* a, std::int64_t n, double* d, double* e, T* tau_left, T* tau_right, T* u, T* w) {
  for (std::int64_t k = 0; k < n; ++k) {
    T* const pivot = a + k * n + k;
    const T tau = tau_left[k] = reflect(pivot, n, n - k);
    d[k] = static_cast<double>(*pivot);
    const std::int64_t rows = n - k - 1, columns = n - k - 1;
    if (columns == 0) break;
    for (std::int64_t i = 0; i < rows; ++i) u[i] = pivot[(i + 1) * n];
    // w = tau A' u, a strip of columns a piece; the row of the pivot is finished at once.
    const std::int64_t strip = columns < 2 * kRowsTogether ? columns : 4 * kRowsTogether;
    parallel_ranges(columns, strip, [&](std::int64_t begin, std::int64_t end) {
      T *const row = pivot + 1 + begin, *const sum = w + begin;
      const std::int64_t width = end - begin;
      std::memcpy(sum, row, static_cast<std::size_t>(width) * sizeof(T));
      for (std::int64_t i = 0; i < rows; ++i) axpy(sum, u[i], row + (i + 1) * n, width);
      for (std::int64_t j = 0; j < width; ++j) sum[j] *= tau;
      axpy(row, T(-1), sum, width);
    });
    T* const v = pivot + 1;
    const T right = tau_right[k] = reflect(v, 1, columns);
    e[k] = static_cast<double>(*v);
    const T first = *v;
    *v = T(1);
    // A -= u w', then A -= right (A v) v', a row at a time.
    parallel_ranges(rows, rows < 2 * kRowsTogether ? rows : kRowsTogether,
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t i = begin; i < end; ++i) {
                        T* const row = v + (i + 1) * n;
                        if (tau != T(0)) axpy(row, -u[i], w, columns);
                        if (right != T(0)) axpy(row, -right * dot(row, v, columns), v, columns);
                      }
                    });
    *v = first;
  }
}

// The rotation that takes (f, g) to (r, 0): c f + s g = r, c g - s f = 0.
struct Turn {
  double c, s, r;
  TS_INLINE Turn(double f, double g) : c(1), s(0), r(f) {
    if (g == 0) return;
    r = f < 0 ? -length(f, g) : length(f, g);
    c = f / r, s = g / r;
  }
};

// The smaller singular value of (f g; 0 h).
double smaller(double f, double g, double h) {
  f = std::abs(f), g = std::abs(g), h = std::abs(h);
  const double low = f < h ? f : h, high = f < h ? h : f;
  if (low == 0) return 0;
  const double sum = 1 + low / high, difference = (high - low) / high;
  if (g < high) {
    const double square = (g / high) * (g / high);
    return low * 2 / (std::sqrt(sum * sum + square) + std::sqrt(difference * difference + square));
  }
  const double ratio = high / g;
  return 2 * low * ratio / (length(1.0, sum * ratio) + length(1.0, difference * ratio));
}

// The diagonals of a bidiagonal matrix and the rotations of the rows of U' and V'.
template <class T>
struct Bidiagonal {
  double *d, *e;  // e[i] beside d[i] and d[i + 1]
  std::int64_t n;
  Rotations<T>&left, &right;

  static constexpr double kEps = std::numeric_limits<T>::epsilon() / 2;
  static constexpr double kTolerance = 20 * kEps;

  // Makes d the singular values, in any order. False where that takes too many steps.
  bool diagonalise() {
    // Values below `tiny` count as zero: they are below what the smallest one can lose.
    double least = std::abs(d[0]), low = least;
    for (std::int64_t i = 1; i < n; ++i) {
      low = low == 0 ? 0 : std::abs(d[i]) * (low / (low + std::abs(e[i - 1])));
      least = low < least ? low : least;
    }
    const double floor =
        6.0 * static_cast<double>(n) * static_cast<double>(n) * std::numeric_limits<double>::min();
    const double relative = kTolerance * least / std::sqrt(static_cast<double>(n));
    const double tiny = relative > floor ? relative : floor;
    std::int64_t last = n - 1, block_first = -1, block_last = -1;
    bool downwards = true;
    std::int64_t steps = 6 * n * n + 60;
    while (last > 0) {
      if (std::abs(d[last]) <= tiny) d[last] = 0;
      double most = std::abs(d[last]);
      std::int64_t first = last;
      for (; first > 0; --first) {
        if (std::abs(e[first - 1]) <= tiny) {
          e[first - 1] = 0;
          break;
        }
        if (std::abs(d[first - 1]) <= tiny) d[first - 1] = 0;
        const double larger =
            std::abs(d[first - 1]) > std::abs(e[first - 1]) ? std::abs(d[first - 1]) : std::abs(e[first - 1]);
        most = larger > most ? larger : most;
      }
      if (first == last) {
        --last;
        continue;
      }
      // From the large end to the small one; the direction stays while the block shrinks.
      if (first > block_last || last < block_first || block_first < 0)
        downwards = std::abs(d[first]) >= std::abs(d[last]);
      block_first = first, block_last = last;
      const double small = deflate(first, last, downwards);
      if (small != small) return false;  // NaN never comes to an end
      if (small >= 0) {
        if ((steps -= last - first) < 0) return false;
        const double end = std::abs(downwards ? d[first] : d[last]);
        double shift = 0;
        if (static_cast<double>(n) * kTolerance * (small / most) >
            (kEps > 0.01 * kTolerance ? kEps : 0.01 * kTolerance)) {
          shift = downwards ? smaller(d[last - 1], e[last - 1], d[last])
                            : smaller(d[first], e[first], d[first + 1]);
          if (end > 0 && (shift / end) * (shift / end) < kEps) shift = 0;
        }
        if (shift == 0)
          downwards ? plain_down(first, last) : plain_up(first, last);
        else
          downwards ? shifted_down(first, last, shift) : shifted_up(first, last, shift);
        double& end_e = e[downwards ? last - 1 : first];
        if (std::abs(end_e) <= tiny) end_e = 0;
      }
    }
    return true;
  }

  // Sets an e to zero that no longer matters, and returns -1; else a bound of the block's smallest value.
  double deflate(std::int64_t first, std::int64_t last, bool down) {
    const std::int64_t from = down ? first : last, to = down ? last : first, by = down ? 1 : -1;
    double& nearest = e[down ? last - 1 : first];
    if (std::abs(nearest) <= kTolerance * std::abs(d[to])) return nearest = 0, -1;
    double low = std::abs(d[from]), least = low;
    for (std::int64_t i = from; i != to; i += by) {
      double& beside = e[down ? i : i - 1];
      if (std::abs(beside) <= kTolerance * low) return beside = 0, -1;
      low = std::abs(d[i + by]) * (low / (low + std::abs(beside)));
      least = low < least ? low : least;
    }
    return least;
  }

  // QR steps without a shift: every value keeps its relative precision.
  void plain_down(std::int64_t first, std::int64_t last) {
    double c = 1, old_c = 1, old_s = 0;
    for (std::int64_t i = first; i < last; ++i) {
      const Turn r(d[i] * c, e[i]);
      if (i > first) e[i - 1] = old_s * r.r;
      const Turn l(old_c * r.r, d[i + 1] * r.s);
      d[i] = l.r;
      c = r.c, old_c = l.c, old_s = l.s;
      right.add(i, r.c, r.s);
      left.add(i, l.c, l.s);
    }
    const double h = d[last] * c;
    d[last] = h * old_c;
    e[last - 1] = h * old_s;
  }
  void plain_up(std::int64_t first, std::int64_t last) {
    double c = 1, old_c = 1, old_s = 0;
    for (std::int64_t i = last; i > first; --i) {
      const Turn l(d[i] * c, e[i - 1]);
      if (i < last) e[i] = old_s * l.r;
      const Turn r(old_c * l.r, d[i - 1] * l.s);
      d[i] = r.r;
      c = l.c, old_c = r.c, old_s = r.s;
      left.add(i - 1, l.c, -l.s);
      right.add(i - 1, r.c, -r.s);
    }
    const double h = d[first] * c;
    d[first] = h * old_c;
    e[first] = h * old_s;
  }

  // The same with a shift, which decides how soon the end comes off.
  void shifted_down(std::int64_t first, std::int64_t last, double shift) {
    double f = (std::abs(d[first]) - shift) * (std::copysign(1.0, d[first]) + shift / d[first]), g = e[first];
    for (std::int64_t i = first; i < last; ++i) {
      const Turn r(f, g);
      if (i > first) e[i - 1] = r.r;
      f = r.c * d[i] + r.s * e[i];
      e[i] = r.c * e[i] - r.s * d[i];
      g = r.s * d[i + 1];
      d[i + 1] = r.c * d[i + 1];
      const Turn l(f, g);
      d[i] = l.r;
      f = l.c * e[i] + l.s * d[i + 1];
      d[i + 1] = l.c * d[i + 1] - l.s * e[i];
      if (i + 1 < last) {
        g = l.s * e[i + 1];
        e[i + 1] = l.c * e[i + 1];
      }
      right.add(i, r.c, r.s);
      left.add(i, l.c, l.s);
    }
    e[last - 1] = f;
  }
  void shifted_up(std::int64_t first, std::int64_t last, double shift) {
    double f = (std::abs(d[last]) - shift) * (std::copysign(1.0, d[last]) + shift / d[last]), g = e[last - 1];
    for (std::int64_t i = last; i > first; --i) {
      const Turn l(f, g);
      if (i < last) e[i] = l.r;
      f = l.c * d[i] + l.s * e[i - 1];
      e[i - 1] = l.c * e[i - 1] - l.s * d[i];
      g = l.s * d[i - 1];
      d[i - 1] = l.c * d[i - 1];
      const Turn r(f, g);
      d[i] = r.r;
      f = r.c * e[i - 1] + r.s * d[i - 1];
      d[i - 1] = r.c * d[i - 1] - r.s * e[i - 1];
      if (i - 1 > first) {
        g = r.s * e[i - 2];
        e[i - 2] = r.c * e[i - 2];
      }
      left.add(i - 1, l.c, -l.s);
      right.add(i - 1, r.c, -r.s);
    }
    e[first] = f;
  }
};

// a (n x n), overwritten -> s descending, and rows of u and v (or null).
template <class T>
bool svd_one(T* a, std::int64_t n, T* s, T* u, T* v) {
  double *const d = static_cast<double*>(scratch()), *const e = d + n;
  T *const tau_left = reinterpret_cast<T*>(e + n), *const tau_right = tau_left + n;
  T *const x = tau_right + n, *const y = x + n;
  char* const rest = reinterpret_cast<char*>(y + n + 16);
  bidiagonal(a, n, d, e, tau_left, tau_right, x, y);
  if (u) {
    product_of_reflections(a, n, tau_left, n, n, u, n, n, reinterpret_cast<T*>(rest));
    transpose_square(u, n);
    transpose_square(a, n);
    rows_of_product(a, n, tau_right, v, reinterpret_cast<T*>(rest));
  }
  Rotations<T> left(u, n, rest), right(v, n, rest + Rotations<T>::kBytes);
  const bool done = Bidiagonal<T>{d, e, n, left, right}.diagonalise();
  left.flush();
  right.flush();
  for (std::int64_t i = 0; i < n; ++i) {
    s[i] = static_cast<T>(std::abs(d[i]));
    if (d[i] < 0 && v)
      for (std::int64_t j = 0; j < n; ++j) v[i * n + j] = -v[i * n + j];
  }
  for (std::int64_t i = 0; i < n; ++i) {  // a selection: n exchanges at most
    std::int64_t best = i;
    for (std::int64_t j = i + 1; j < n; ++j)
      if (s[j] > s[best]) best = j;
    if (best == i) continue;
    const T larger = s[best];
    s[best] = s[i], s[i] = larger;
    if (u) exchange(u + i * n, u + best * n, n), exchange(v + i * n, v + best * n, n);
  }
  return done;
}

}  // namespace

void svd(Out a, Out s, Out u, Out v, Out info) {
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const std::int64_t n = a.shape[2];
    const double flops = 16.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    for_matrices(a.shape[0], flops, [&](std::int64_t i) {
      T *const matrix = a.as<T>() + i * n * n, *const values = s.as<T>() + i * n;
      std::int64_t& failed = info.as<std::int64_t>()[i];
      failed = 0;
      const T most = largest_of(matrix, n * n);
      if (!(most <= std::numeric_limits<T>::max())) {
        failed = 2;
        return;
      }
      const T scale = most > T(0) ? most : T(1);  // so that squares neither overflow nor vanish
      for (std::int64_t j = 0; j < n * n; ++j) matrix[j] /= scale;
      if (!svd_one(matrix, n, values, u ? u.as<T>() + i * n * n : nullptr,
                   v ? v.as<T>() + i * n * n : nullptr))
        failed = 1;
      for (std::int64_t j = 0; j < n; ++j) values[j] *= scale;
    });
  });
}

}  // namespace ts::cpu::TS_ISA
