// Eigenproblems of complex general matrices; eig.h says what is common to real and complex ones.
//
// Rotations to Hessenberg form; QR steps with Wilkinson's shift by rotations (Golub & Van Loan 2013, 7.5).
// Rows lie one after the other, so a rotation of rows is a pass over contiguous memory; the columns of the
// vectors are kept as rows.
//
// Cost: 40 N^3 real flops for the Hessenberg form with vectors, about 100 N^3 for the steps.
#include "cpu/eig.h"

namespace ts::cpu::TS_ISA {
namespace {

using Complex = ComplexBits<double>;

TS_INLINE double size_of(Complex z) { return std::abs(z.real) + std::abs(z.imag); }

// x = c x + s y, y = c y - conj(s) x; c is real.
struct Turn {
  double c;
  Number s;

  // The one that takes (f, g) to (r, 0); r replaces f.
  Turn(Number& f, Number g) : c(1), s(0) {
    if (g.re == 0 && g.im == 0) return;
    const double size = magnitude(f), norm = length(size, magnitude(g));
    const Number phase = size == 0 ? Number(1) : f / size;
    c = size / norm;
    s = phase * conjugate(g / norm);
    f = phase * norm;
  }
  TS_INLINE void operator()(Complex& x, Complex& y) const { turn(x, y, s.re, s.im); }
  // Of the columns that rows turn with: x = c x + conj(s) y, y = c y - s x.
  TS_INLINE void columns(Complex& x, Complex& y) const { turn(x, y, s.re, -s.im); }

 private:
  TS_INLINE void turn(Complex& x, Complex& y, double re, double im) const {
    const Complex a = x, b = y;
    x.real = c * a.real + (re * b.real + -im * b.imag);
    x.imag = c * a.imag + (re * b.imag + im * b.real);
    y.real = c * b.real + (-re * a.real + -im * a.imag);
    y.imag = c * b.imag + (-re * a.imag + im * a.real);
  }
};

struct Schur {
  Complex* h;
  std::int64_t n;
  Complex* z;  // the vectors as rows, or null

  Complex& at(std::int64_t i, std::int64_t j) { return h[i * n + j]; }

  // Rows k, k + 1 of columns `from` to `to`, columns k, k + 1 of rows `top` to `bottom`.
  void similar(std::int64_t k, const Turn& turn, std::int64_t from, std::int64_t to, std::int64_t top,
               std::int64_t bottom) {
    Complex *const x = h + k * n, *const y = x + n;
    for (std::int64_t j = from; j < to; ++j) turn(x[j], y[j]);
    for (std::int64_t i = top; i < bottom; ++i) turn.columns(at(i, k), at(i, k + 1));
    if (!z) return;
    Complex *const p = z + k * n, *const q = p + n;
    for (std::int64_t j = 0; j < n; ++j) turn.columns(p[j], q[j]);
  }

  void hessenberg() {
    for (std::int64_t j = 0; j + 2 < n; ++j)
      for (std::int64_t i = n - 1; i > j + 1; --i) {
        if (size_of(at(i, j)) == 0) continue;
        Number f = Number(at(i - 1, j));
        const Turn turn(f, Number(at(i, j)));
        at(i - 1, j) = f.bits(), at(i, j) = {0, 0};
        similar(i - 1, turn, j + 1, n, 0, n);
      }
  }

  bool negligible(std::int64_t i) {
    const double beside = size_of(at(i - 1, i - 1)) + size_of(at(i, i));
    return size_of(at(i, i - 1)) <= kEps * (beside == 0 ? 1 : beside);
  }

  bool run() {
    std::int64_t high = n - 1;
    for (int steps = 0; high > 0;) {
      std::int64_t low = high;
      while (low > 0 && !negligible(low)) --low;
      if (low > 0) at(low, low - 1) = {0, 0};
      if (low == high) {
        --high, steps = 0;
      } else if (++steps > kMostSteps) {
        return false;
      } else {
        step(low, high, shift(high, steps));
      }
    }
    return true;
  }

  // The eigenvalue of the last 2 x 2 block that is nearer to its last element; now and then another number.
  Number shift(std::int64_t high, int steps) {
    const Number a = Number(at(high - 1, high - 1)), b = Number(at(high - 1, high)),
                 c = Number(at(high, high - 1)), d = Number(at(high, high));
    if (steps % 10 == 0) return d + 0.75 * magnitude(c);
    const Number p = (a - d) / 2, root = square_root(p * p + b * c);
    const Number larger = magnitude(p + root) > magnitude(p - root) ? p + root : p - root;
    return magnitude(larger) == 0 ? d : d - b * c / larger;
  }

  void step(std::int64_t low, std::int64_t high, Number shift) {
    Number f = Number(at(low, low)) - shift;
    for (std::int64_t k = low; k < high; ++k) {
      if (k > low) f = Number(at(k, k - 1));
      const Turn turn(f, Number(k > low ? at(k + 1, k - 1) : at(k + 1, k)));
      if (k > low) at(k, k - 1) = f.bits(), at(k + 1, k - 1) = {0, 0};
      const std::int64_t bottom = k + 3 < high + 1 ? k + 3 : high + 1;
      similar(k, turn, k, z ? n : high + 1, z ? 0 : low, bottom);
    }
  }
};

// Row k of x: the eigenvector of the k-th element on the diagonal of the triangle t.
void triangular_vectors(const Complex* t, std::int64_t n, Complex* x) {
  double most = 0;
  for (std::int64_t i = 0; i < n * n; ++i) most = size_of(t[i]) > most ? size_of(t[i]) : most;
  const double least = kEps * (most > 0 ? most : 1);
  parallel_for(n, [&](std::int64_t piece) {
    const std::int64_t k = n - 1 - piece;  // the longest first
    Complex* const row = x + k * n;
    std::memset(static_cast<void*>(row), 0, static_cast<std::size_t>(n) * sizeof(Complex));
    row[k] = {1, 0};
    for (std::int64_t j = k - 1; j >= 0; --j) {
      const Complex* const u = t + j * n;
      double re = 0, im = 0;
      for (std::int64_t i = j + 1; i <= k; ++i) {
        re += u[i].real * row[i].real + -u[i].imag * row[i].imag;
        im += u[i].real * row[i].imag + u[i].imag * row[i].real;
      }
      Number d = Number(u[j]) - Number(t[k * n + k]);
      if (magnitude(d) < least) d = least;
      row[j] = (-Number(re, im) / d).bits();
      const double size = size_of(row[j]);
      if (!(size > 0x1p300)) continue;
      for (std::int64_t i = j; i <= k; ++i) row[i].real /= size, row[i].imag /= size;
    }
  });
}

}  // namespace

int eig_complex(Complex* a, std::int64_t n, EigOutput out, Complex* z) {
  double* const d = eig_scratch();
  const double scale = balance(
      n, d, [&](std::int64_t i, std::int64_t j) { return size_of(a[i * n + j]); },
      [&](std::int64_t i, std::int64_t j, double f) { a[i * n + j].real *= f, a[i * n + j].imag *= f; });
  if (scale < 0) return 2;
  for (std::int64_t i = 0; z && i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) z[i * n + j] = {i == j ? 1.0 : 0.0, 0};
  Schur schur{a, n, z};
  schur.hessenberg();
  if (!schur.run()) return 1;
  for (std::int64_t i = 0; i < n; ++i) out.w[i] = {a[i * n + i].real * scale, a[i * n + i].imag * scale};
  if (!z) return 0;
  triangular_vectors(a, n, out.vectors);
  // Row k of x z, D times it and of length 1, is column k of the vectors.
  parallel_for(n, [&](std::int64_t k) {
    const Complex* const x = out.vectors + k * n;
    Complex* const v = a + k * n;
    std::memset(static_cast<void*>(v), 0, static_cast<std::size_t>(n) * sizeof(Complex));
    for (std::int64_t j = 0; j <= k; ++j)
      for (std::int64_t i = 0; i < n; ++i) {
        v[i].real += x[j].real * z[j * n + i].real + -x[j].imag * z[j * n + i].imag;
        v[i].imag += x[j].real * z[j * n + i].imag + x[j].imag * z[j * n + i].real;
      }
  });
  for (std::int64_t k = 0; k < n; ++k) {
    Complex* const v = a + k * n;
    double most = 0, sum = 0, longest = 0;  // squares could overflow
    std::int64_t largest = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      v[i].real *= d[i], v[i].imag *= d[i];
      if (size_of(v[i]) > most) most = size_of(v[i]);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const Number z = Number(v[i]) / most;
      const double square = z.re * z.re + z.im * z.im;
      sum += square;
      if (square > longest) longest = square, largest = i;
    }
    const Number big(v[largest]), turn = conjugate(big) / magnitude(big) / std::sqrt(sum) / most;
    for (std::int64_t i = 0; i < n; ++i) out.vectors[i * n + k] = (Number(v[i]) * turn).bits();
    out.vectors[largest * n + k].imag = 0;
  }
  return 0;
}

}  // namespace ts::cpu::TS_ISA
