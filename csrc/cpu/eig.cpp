// Eigenproblems of real general matrices; eig.h says what is common to real and complex ones.
//
// Francis's implicit double-shift steps (Golub & Van Loan 2013, 7.5). A step chases a bulge of three rows
// down the active block. At once it changes only what the bulge has still to meet; the rows above, what is
// right of the block and the Schur vectors follow at its end, strip by strip, each element read and written
// once a step, on all threads.
//
// Cost: 10 N^3 / 3 flops for the Hessenberg form, about 25 N^3 for the steps with vectors (10 N^3 without), 3
// N^3 for the vectors.
#include "cpu/eig.h"

#include "cpu/transpose.h"

namespace ts::cpu::TS_ISA {
namespace {

using Real = Vec<double>;
constexpr std::int64_t kRowsOfStrip = 8;
constexpr std::int64_t kColumnsOfStrip = 4 * kRowsOfStrip;
constexpr std::int64_t kChunk = 256;  // columns of a strip of rows that are transposed together

// 1 - tau v v', v = (1, v1, v2), of rows or columns k, k + 1, k + 2; the last one of a step has v2 = 0.
struct Reflection {
  double v1, v2, tau;

  TS_INLINE void operator()(double& a, double& b, double& c) const {
    const double t = tau * (a + v1 * b + v2 * c);
    a -= t, b -= t * v1, c -= t * v2;
  }
  TS_INLINE void operator()(double& a, double& b) const {
    const double t = tau * (a + v1 * b);
    a -= t, b -= t * v1;
  }
};
struct WideReflection {
  Real v1, v2, tau;
  explicit WideReflection(const Reflection& r) : v1(r.v1), v2(r.v2), tau(r.tau) {}

  TS_INLINE void operator()(Real& a, Real& b, Real& c) const {
    const Real t = tau * fma(v2, c, fma(v1, b, a));
    a = a - t, b = fma(-t, v1, b), c = fma(-t, v2, c);
  }
  TS_INLINE void operator()(Real& a, Real& b) const {
    const Real t = tau * fma(v1, b, a);
    a = a - t, b = fma(-t, v1, b);
  }
};

// Rows x, x + ld, x + 2 ld (or two of them) of `width` columns.
void turn_rows(double* x, std::int64_t ld, std::int64_t width, const Reflection& one, bool three) {
  const WideReflection r(one);
  for (std::int64_t j = 0; j < width; j += Real::width) {
    const std::int64_t left = width - j;
    double *const p = x + j, *const q = p + ld, *const s = q + ld;
    Real a = load_tail(p, left), b = load_tail(q, left);
    if (three) {
      Real c = load_tail(s, left);
      r(a, b, c);
      store_tail(s, c, left);
    } else {
      r(a, b);
    }
    store_tail(p, a, left);
    store_tail(q, b, left);
  }
}

// Reflections first ... last - 1 of the rows of x (ld apart), of which the last touches two; up to
// kColumnsOfStrip columns. A row is loaded once.
void turn_strip(double* x, std::int64_t ld, std::int64_t columns, const Reflection* all, std::int64_t first,
                std::int64_t last) {
  constexpr int NV = static_cast<int>(kColumnsOfStrip / Real::width / (Real::width == 8 ? 1 : 2));
  for (std::int64_t j = 0; j < columns; j += NV * Real::width) {
    Real a[NV], b[NV], c[NV];
    const auto load = [&](Real(&row)[NV], std::int64_t k) {
      unroll<NV>([&]<int v>() TS_LAMBDA {
        const std::int64_t at = j + v * Real::width;
        if (at < columns) row[v] = load_tail(x + k * ld + at, columns - at);
      });
    };
    const auto store = [&](const Real(&row)[NV], std::int64_t k) {
      unroll<NV>([&]<int v>() TS_LAMBDA {
        const std::int64_t at = j + v * Real::width;
        if (at < columns) store_tail(x + k * ld + at, row[v], columns - at);
      });
    };
    for (int v = 0; v < NV; ++v) a[v] = b[v] = c[v] = Real(0.0);
    load(a, first);
    load(b, first + 1);
    for (std::int64_t k = first; k + 1 < last; ++k) {
      load(c, k + 2);
      const WideReflection r(all[k]);
      unroll<NV>([&]<int v>() TS_LAMBDA { r(a[v], b[v], c[v]); });
      store(a, k);
      unroll<NV>([&]<int v>() TS_LAMBDA { a[v] = b[v], b[v] = c[v]; });
    }
    const WideReflection r(all[last - 1]);
    unroll<NV>([&]<int v>() TS_LAMBDA { r(a[v], b[v]); });
    store(a, last - 1);
    store(b, last);
  }
}

// The same of the columns of `rows` rows, kRowsOfStrip at most.
void turn_columns(double* x, std::int64_t ld, std::int64_t rows, const Reflection* all, std::int64_t first,
                  std::int64_t last) {
  constexpr int NV = static_cast<int>(kRowsOfStrip / Real::width);
  constexpr std::int64_t item = sizeof(double);
  if (rows < kRowsOfStrip) {
    for (std::int64_t i = 0; i < rows; ++i) {
      double* const row = x + i * ld;
      for (std::int64_t k = first; k + 1 < last; ++k) all[k](row[k], row[k + 1], row[k + 2]);
      if (first < last) all[last - 1](row[last - 1], row[last]);
    }
    return;
  }
  alignas(64) double buffer[kChunk * kRowsOfStrip], rows_again[kChunk * kRowsOfStrip];
  char* const bytes = reinterpret_cast<char*>(buffer);
  for (std::int64_t k = first; k < last;) {
    const std::int64_t left = last + 1 - k, width = left < kChunk ? left : kChunk;
    double* const from = x + k;
    gather(bytes, reinterpret_cast<const char*>(from), item, ld * item, item, kRowsOfStrip, width);
    const std::int64_t whole = width - 2;  // reflections of three columns
    for (std::int64_t i = 0; i < whole; ++i) {
      const WideReflection r(all[k + i]);
      double* const p = buffer + i * kRowsOfStrip;
      unroll<NV>([&]<int v>() TS_LAMBDA {
        double *const q = p + v * Real::width, *const s = q + kRowsOfStrip, *const t = s + kRowsOfStrip;
        Real a = Real::load(q), b = Real::load(s), c = Real::load(t);
        r(a, b, c);
        a.store(q), b.store(s), c.store(t);
      });
    }
    k += whole;
    if (width == left) {
      const WideReflection r(all[last - 1]);
      double* const p = buffer + (width - 2) * kRowsOfStrip;
      unroll<NV>([&]<int v>() TS_LAMBDA {
        double *const q = p + v * Real::width, *const s = q + kRowsOfStrip;
        Real a = Real::load(q), b = Real::load(s);
        r(a, b);
        a.store(q), b.store(s);
      });
      k = last;
    }
    gather(reinterpret_cast<char*>(rows_again), bytes, item, kRowsOfStrip * item, item, width, kRowsOfStrip);
    for (std::int64_t i = 0; i < kRowsOfStrip; ++i)
      std::memcpy(from + i * ld, rows_again + i * width, static_cast<std::size_t>(width) * sizeof(double));
  }
}

// a -> its Hessenberg form, v of the reflections below the subdiagonal. w, v: n elements each.
void hessenberg(double* a, std::int64_t n, double* tau, double* v, double* w) {
  for (std::int64_t k = 0; k + 1 < n; ++k) {
    double* const pivot = a + (k + 1) * n + k;
    const std::int64_t rest = n - k - 1;
    tau[k] = reflect(pivot, n, rest);
    if (tau[k] == 0) continue;
    v[0] = 1;
    for (std::int64_t i = 1; i < rest; ++i) v[i] = pivot[i * n];
    double* const block = pivot + 1;  // what the reflection turns from the left
    const std::int64_t strip = rest < 2 * kRowsTogether ? rest : 4 * kRowsTogether;
    parallel_ranges(rest, strip, [&](std::int64_t begin, std::int64_t end) {
      double* const sum = w + begin;
      std::memset(sum, 0, static_cast<std::size_t>(end - begin) * sizeof(double));
      for (std::int64_t i = 0; i < rest; ++i) axpy(sum, tau[k] * v[i], block + i * n + begin, end - begin);
    });
    parallel_ranges(n, n < 2 * kRowsTogether ? n : kRowsTogether, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        double* const row = a + i * n + k + 1;
        if (i > k) axpy(row, -v[i - k - 1], w, rest);
        axpy(row, -tau[k] * dot(row, v, rest), v, rest);
      }
    });
  }
}

// The Schur form of a Hessenberg matrix, and the Schur vectors if there are any.
struct Schur {
  double* h;
  std::int64_t n;
  double* z;  // the vectors as rows, or null: then h need not become triangular
  Reflection* all;

  double& at(std::int64_t i, std::int64_t j) { return h[i * n + j]; }

  bool negligible(std::int64_t i) {
    const double beside = std::abs(at(i - 1, i - 1)) + std::abs(at(i, i));
    return std::abs(at(i, i - 1)) <= kEps * (beside == 0 ? 1 : beside);
  }

  // w: the eigenvalues as they stand on the diagonal. False after kMostSteps steps for one.
  bool run(ComplexBits<double>* w) {
    std::int64_t high = n - 1;
    for (int steps = 0; high >= 0;) {
      std::int64_t low = high;
      while (low > 0 && !negligible(low)) --low;
      if (low > 0) at(low, low - 1) = 0;
      if (low == high) {
        w[high] = {at(high, high), 0};
        --high, steps = 0;
      } else if (low == high - 1) {
        pair(low, w);
        high -= 2, steps = 0;
      } else if (++steps > kMostSteps) {
        return false;
      } else {
        step(low, high, steps);
      }
    }
    return true;
  }

  // The 2 x 2 block at k: made triangular by a rotation if its eigenvalues are real.
  void pair(std::int64_t k, ComplexBits<double>* w) {
    const double a = at(k, k), b = at(k, k + 1), c = at(k + 1, k), d = at(k + 1, k + 1);
    const double p = (a - d) / 2, q = p * p + b * c;
    const double root = std::sqrt(std::abs(q));
    if (q < 0) {
      w[k] = {d + p, root}, w[k + 1] = {d + p, -root};
      return;
    }
    const double larger = p + std::copysign(root, p);
    w[k] = {d + larger, 0};
    w[k + 1] = {larger != 0 ? d - b * c / larger : d, 0};
    if (!z) return;
    // (larger, c) is the eigenvector of the first value; the reflection that takes it to the first axis.
    double v[2] = {larger, c};
    const double tau = reflect(v, 1, 2);
    const Reflection r{v[1], 0, tau};
    turn_rows(h + k * n + k, n, n - k, r, false);
    for (std::int64_t i = 0; i < k + 2; ++i) r(at(i, k), at(i, k + 1));
    turn_rows(z + k * n, n, n, r, false);
    at(k + 1, k) = 0;
  }

  void step(std::int64_t low, std::int64_t high, int number) {
    // Sum and product of the two shifts, those of the last 2 x 2 block; now and then others, out of a cycle.
    double x = at(high, high), y = at(high - 1, high - 1), product = at(high, high - 1) * at(high - 1, high);
    if (number % 10 == 0) {
      const double s = std::abs(at(high, high - 1)) + std::abs(at(high - 1, high - 2));
      x = y = 0.75 * s + (number % 20 == 0 ? at(low, low) : at(high, high));
      product = -0.4375 * s * s;
    }
    // The step begins where two subdiagonals in a row are small together.
    std::int64_t begin = high - 2;
    double p, q, r;
    for (;; --begin) {
      const double m = at(begin, begin), s = x - m, t = y - m;
      p = (s * t - product) / at(begin + 1, begin) + at(begin, begin + 1);
      q = at(begin + 1, begin + 1) - m - s - t;
      r = at(begin + 2, begin + 1);
      const double size = std::abs(p) + std::abs(q) + std::abs(r);
      p /= size, q /= size, r /= size;
      if (begin == low) break;
      const double around =
          std::abs(at(begin - 1, begin - 1)) + std::abs(m) + std::abs(at(begin + 1, begin + 1));
      if (std::abs(at(begin, begin - 1)) * (std::abs(q) + std::abs(r)) <= kEps * std::abs(p) * around) break;
    }
    for (std::int64_t k = begin; k < high; ++k) {
      const bool three = k + 1 < high;
      double v[3] = {p, q, three ? r : 0};
      if (k > begin) v[0] = at(k, k - 1), v[1] = at(k + 1, k - 1), v[2] = three ? at(k + 2, k - 1) : 0;
      const double tau = reflect(v, 1, three ? 3 : 2);
      all[k] = {v[1], three ? v[2] : 0, tau};
      if (k > begin) {
        at(k, k - 1) = v[0], at(k + 1, k - 1) = 0;
        if (three) at(k + 2, k - 1) = 0;
      } else if (k > low) {
        at(k, k - 1) *= 1 - tau;  // of a column that is zero below: the reflection of its first element
      }
      turn_rows(h + k * n + k, n, high + 1 - k, all[k], three);
      // Of the columns, what the bulge still meets.
      for (std::int64_t i = k + 1; i <= high && i <= k + 3; ++i)
        three ? all[k](at(i, k), at(i, k + 1), at(i, k + 2)) : all[k](at(i, k), at(i, k + 1));
    }
    follow(low, begin, high);
  }

  // The rest of the step: columns of the rows above the bulge, rows of the columns right of the block,
  // vectors.
  void follow(std::int64_t low, std::int64_t begin, std::int64_t high) {
    const std::int64_t top = z ? 0 : low, strips = (high - top) / kRowsOfStrip + 1;
    const auto columns_of = [](std::int64_t width) {
      return (width + kColumnsOfStrip - 1) / kColumnsOfStrip;
    };
    const std::int64_t right = z ? columns_of(n - 1 - high) : 0, vectors = z ? columns_of(n) : 0;
    const auto piece = [&](std::int64_t i) {
      if (i < strips) {
        const std::int64_t first = top + i * kRowsOfStrip;
        const std::int64_t rows = high + 1 - first < kRowsOfStrip ? high + 1 - first : kRowsOfStrip;
        // Row r has had the reflections before r; those that all rows of the strip lack go together.
        const std::int64_t last_row = first + rows - 1;
        std::int64_t together = begin > last_row ? begin : last_row;
        if (together > high) together = high;
        for (std::int64_t r = first; r < last_row; ++r)
          for (std::int64_t k = begin > r ? begin : r; k < together; ++k)
            k + 1 < high ? all[k](at(r, k), at(r, k + 1), at(r, k + 2)) : all[k](at(r, k), at(r, k + 1));
        turn_columns(h + first * n, n, rows, all, together, high);
        return;
      }
      double* const x = i < strips + right ? h + high + 1 : z;
      const std::int64_t width = i < strips + right ? n - 1 - high : n;
      const std::int64_t j = (i - strips - (i < strips + right ? 0 : right)) * kColumnsOfStrip;
      turn_strip(x + j, n, width - j < kColumnsOfStrip ? width - j : kColumnsOfStrip, all, begin, high);
    };
    const std::int64_t pieces = strips + right + vectors;
    if (pieces * (high - begin) < 4096) {
      for (std::int64_t i = 0; i < pieces; ++i) piece(i);
    } else {
      parallel_for(pieces, piece);
    }
  }
};

// The x with |d x + r| = 0, d moved away from 0 by `least`.
template <class T>
T quotient(T r, T d, double least) {
  return -r / (magnitude(d) < least ? T(least) : d);
}

// Solves (t - lambda) x = 0 upwards from row `last`; the elements behind are there. T is double or Number;
// sum(j, i): of t(j, i) x(i) from column i on; put(j, x): an element; bound(size, j): those from j on are
// complete, the new ones of that size.
template <class T, class Sum, class Put, class Bound>
void substitute(const double* t, std::int64_t n, T lambda, std::int64_t last, double least, const Sum& sum,
                const Put& put, const Bound& bound) {
  for (std::int64_t j = last; j >= 0; --j) {
    const double d = t[j * n + j];
    if (j == 0 || t[j * n + j - 1] == 0) {
      const T x = quotient<T>(sum(j, j + 1), T(d) - lambda, least);
      put(j, x);
      bound(magnitude(x), j);
      continue;
    }
    // Elimination with the largest element as the pivot: stable where the block is nearly singular as well.
    const T m[2][2] = {{T(t[(j - 1) * n + j - 1]) - lambda, t[(j - 1) * n + j]},
                       {t[j * n + j - 1], T(d) - lambda}};
    const T r[2] = {sum(j - 1, j + 1), sum(j, j + 1)};
    int row = 0, column = 0;
    for (int i = 1; i < 4; ++i)
      if (magnitude(m[i / 2][i % 2]) > magnitude(m[row][column])) row = i / 2, column = i % 2;
    const T pivot = m[row][column], beside = m[row][1 - column], factor = m[1 - row][column] / pivot;
    T x[2];
    x[1 - column] =
        quotient<T>(r[1 - row] - factor * r[row], m[1 - row][1 - column] - factor * beside, least);
    x[column] = -(r[row] + beside * x[1 - column]) / pivot;
    put(j - 1, x[0]), put(j, x[1]);
    bound(magnitude(x[0]) + magnitude(x[1]), j - 1);
    --j;
  }
}

// Row k of x (n x n): the eigenvector of w[k], or for a pair its real and imaginary part in rows k and k + 1.
void triangular_vectors(const double* t, std::int64_t n, const ComplexBits<double>* w, double* x) {
  double most = 0;
  for (std::int64_t i = 0; i < n * n; ++i) most = std::abs(t[i]) > most ? std::abs(t[i]) : most;
  const double least = kEps * (most > 0 ? most : 1);
  constexpr double kLarge = 0x1p300;
  parallel_for(n, [&](std::int64_t piece) {
    const std::int64_t k = n - 1 - piece;  // the longest first
    double *const re = x + k * n, *const im = re + n;
    if (w[k].imag < 0) return;
    const std::int64_t rows = w[k].imag > 0 ? 2 : 1, end = k + rows;
    std::memset(re, 0, static_cast<std::size_t>(rows * n) * sizeof(double));
    // What has grown too large shrinks with all that is there already.
    const auto bound = [&](double size, std::int64_t from) {
      if (!(size > kLarge)) return;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = from; i < end; ++i) re[r * n + i] /= size;
    };
    if (rows == 1) {
      re[k] = 1;
      substitute<double>(
          t, n, w[k].real, k - 1, least,
          [&](std::int64_t j, std::int64_t i) { return dot(t + j * n + i, re + i, end - i); },
          [&](std::int64_t j, double value) { re[j] = value; }, bound);
      return;
    }
    const Number lambda(w[k].real, w[k].imag);
    const double a = t[k * n + k], b = t[k * n + k + 1], c = t[(k + 1) * n + k], d = t[(k + 1) * n + k + 1];
    const auto put = [&](std::int64_t j, Number value) { re[j] = value.re, im[j] = value.im; };
    if (std::abs(b) >= std::abs(c)) {
      put(k, 1), put(k + 1, (lambda - a) / b);
    } else {
      put(k, (lambda - d) / c), put(k + 1, 1);
    }
    substitute<Number>(
        t, n, lambda, k - 1, least,
        [&](std::int64_t j, std::int64_t i) {
          return Number(dot(t + j * n + i, re + i, end - i), dot(t + j * n + i, im + i, end - i));
        },
        put, bound);
  });
}

// The eigenvectors as columns of length 1, the largest element of a complex one real: rows of v, of which d
// are the scales.
void finish(const double* v, std::int64_t n, const ComplexBits<double>* w, const double* d,
            ComplexBits<double>* vectors) {
  for (std::int64_t k = 0; k < n; ++k) {
    const double *const re = v + k * n, *const im = re + n;
    const bool pair = w[k].imag > 0;
    double most = 0;  // squares could overflow
    for (std::int64_t i = 0; i < n; ++i) {
      const double size = std::abs(re[i] * d[i]) + (pair ? std::abs(im[i] * d[i]) : 0);
      if (size > most) most = size;
    }
    double sum = 0, longest = 0;
    std::int64_t largest = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double x = re[i] * d[i] / most, y = pair ? im[i] * d[i] / most : 0, square = x * x + y * y;
      sum += square;
      if (square > longest) longest = square, largest = i;
    }
    Number turn(1 / std::sqrt(sum) / most);
    if (pair) {
      const Number z(re[largest], im[largest]);
      turn = turn * conjugate(z) / magnitude(z);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const Number z = Number(re[i] * d[i], pair ? im[i] * d[i] : 0) * turn;
      vectors[i * n + k] = {z.re, pair && i == largest ? 0 : z.im};
      if (pair) vectors[i * n + k + 1] = {z.re, pair && i == largest ? 0 : -z.im};
    }
    if (pair) ++k;
  }
}

}  // namespace

int eig_real(double* a, std::int64_t n, EigOutput out, double* z) {
  double *const d = eig_scratch(), *const tau = d + n, *const v = tau + n;
  double *const w = v + n + 16, *const rest = w + n + 16;
  const double scale = balance(
      n, d, [&](std::int64_t i, std::int64_t j) { return std::abs(a[i * n + j]); },
      [&](std::int64_t i, std::int64_t j, double f) { a[i * n + j] *= f; });
  if (scale < 0) return 2;
  hessenberg(a, n, tau, v, w);
  if (z) rows_of_product(a, n, tau, z, rest);
  for (std::int64_t i = 2; i < n; ++i)
    std::memset(a + i * n, 0, static_cast<std::size_t>(i - 1) * sizeof(double));
  if (!Schur{a, n, z, reinterpret_cast<Reflection*>(rest)}.run(out.w)) return 1;
  if (z) {
    double* const x = &out.vectors->real;  // n x n: the first half of the memory
    triangular_vectors(a, n, out.w, x);
    // v' = x' z', of which row k needs the first k + 2 rows of z'; its sign does not matter.
    std::memset(a, 0, static_cast<std::size_t>(n * n) * sizeof(double));
    for (std::int64_t i = 0; i < n; i += kSolve) {
      const std::int64_t depth = n - i < kSolve ? n - i : kSolve, first = i > 0 ? i - 1 : 0;
      update<double>(n - first, n, depth, x + first * n + i, n, 1, z + i * n, n, 1, a + first * n, n);
    }
    finish(a, n, out.w, d, out.vectors);
  }
  for (std::int64_t i = 0; i < n; ++i) out.w[i].real *= scale, out.w[i].imag *= scale;
  return 0;
}

void eig(Out a, Out w, Out vectors, Out z, Out info) {
  const std::int64_t n = a.shape[2];
  const auto solve_all = [&]<class T>(Type<T>, int (*solve)(T*, std::int64_t, EigOutput, T*)) {
    using Complex = ComplexBits<double>;
    const double flops = 30.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    for_matrices(a.shape[0], flops, [&](std::int64_t i) {
      const std::int64_t at = i * n * n;
      const EigOutput out{w.as<Complex>() + i * n, vectors ? vectors.as<Complex>() + at : nullptr};
      info.as<std::int64_t>()[i] = solve(a.as<T>() + at, n, out, z ? z.as<T>() + at : nullptr);
    });
  };
  a.dtype == DType::float64 ? solve_all(Type<double>{}, &eig_real)
                            : solve_all(Type<ComplexBits<double>>{}, &eig_complex);
}

}  // namespace ts::cpu::TS_ISA
