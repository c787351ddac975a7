// Discrete Fourier transforms of rows: y_k = scale sum_j x_j e^(-2 pi i j k / N), by Stockham's passes.
//
// Legend: R rows of N complex numbers, in two arrays of real and imaginary parts. A pass of radix r turns n =
// r m numbers, s interleaved transforms of them, into r s transforms of m:
//   y[q + s (r p + k)] = w_n^(p k) sum_j x[q + s (p + j m)] w_r^(j k),  0 <= p < m, 0 <= q < s
// so the order comes out right without a permutation, and neighbours in q (or, at s = 1, in p) fill a
// register. Costs one read and one write of the row a pass, log_4 N passes for powers of two. The inverse
// swaps the real and imaginary parts on the way in and out. A real row of even length is half as many complex
// numbers, taken apart (or put together) at the end (or the beginning).
#include "math/fft.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kPiece = 1 << 14;  // numbers of a pass that one thread takes
constexpr std::int64_t kSplit = 1 << 16;  // rows of so many numbers are worked on by all threads
constexpr int kLargestRadix = 31;

// Real and imaginary parts.
template <class T>
struct Split {
  T* re;
  T* im;
};

template <class T>
struct Pass {
  Split<T> x, y;
  const T* twiddle;  // w_n^(p k): for k = 1 ... r - 1 the m real parts, then the m imaginary ones; then the r
                     // roots
  std::int64_t m, s;
};

// Part of a pass: p and q in these ranges.
struct Part {
  std::int64_t begin, end, q_begin, q_end;
};

// S is s where the compiler shall know it.
template <int r, int S, class T>
void pass(const Pass<T>& a, const Part& part) {
  const std::int64_t m = a.m, s = S ? S : a.s;
  const T* __restrict const xr = a.x.re;
  const T* __restrict const xi = a.x.im;
  T* __restrict const yr = a.y.re;
  T* __restrict const yi = a.y.im;
  const T* __restrict const w = a.twiddle;
  if constexpr (S == 1) {
#pragma GCC ivdep
    for (std::int64_t p = part.begin; p < part.end; ++p) {
      Point<T> v[r];
#pragma GCC unroll 8
      for (int j = 0; j < r; ++j) v[j] = {xr[p + j * m], xi[p + j * m]};
      butterfly<r>(v);
#pragma GCC unroll 8
      for (int k = 1; k < r; ++k) v[k] = times(v[k], w[2 * (k - 1) * m + p], w[(2 * k - 1) * m + p]);
#pragma GCC unroll 8
      for (int k = 0; k < r; ++k) yr[r * p + k] = v[k].re, yi[r * p + k] = v[k].im;
    }
    return;
  }
  const std::int64_t q_begin = S ? 0 : part.q_begin, q_end = S ? S : part.q_end;
  for (std::int64_t p = part.begin; p < part.end; ++p) {
    T wr[r], wi[r];
#pragma GCC unroll 8
    for (int k = 1; k < r; ++k) wr[k] = w[2 * (k - 1) * m + p], wi[k] = w[(2 * k - 1) * m + p];
    const T* __restrict const ar = xr + s * p;
    const T* __restrict const ai = xi + s * p;
    T* __restrict const br = yr + s * r * p;
    T* __restrict const bi = yi + s * r * p;
#pragma GCC ivdep
    for (std::int64_t q = q_begin; q < q_end; ++q) {
      Point<T> v[r];
#pragma GCC unroll 8
      for (int j = 0; j < r; ++j) v[j] = {ar[q + s * j * m], ai[q + s * j * m]};
      butterfly<r>(v);
#pragma GCC unroll 8
      for (int k = 1; k < r; ++k) v[k] = times(v[k], wr[k], wi[k]);
#pragma GCC unroll 8
      for (int k = 0; k < r; ++k) br[q + s * k] = v[k].re, bi[q + s * k] = v[k].im;
    }
  }
}

// Any radix, from its definition.
template <class T>
void pass_of(int r, const Pass<T>& a, const Part& part) {
  const std::int64_t m = a.m, s = a.s;
  const T* const w = a.twiddle;
  const T* const root = w + 2 * (r - 1) * m;  // cosines, then sines
  for (std::int64_t p = part.begin; p < part.end; ++p)
    for (std::int64_t q = part.q_begin; q < part.q_end; ++q) {
      Point<T> v[kLargestRadix];
      for (int j = 0; j < r; ++j) {
        const std::int64_t at = q + s * (p + j * m);
        v[j] = {a.x.re[at], a.x.im[at]};
      }
      for (int k = 0; k < r; ++k) {
        Point<T> sum = v[0];
        for (int j = 1, at = k; j < r; ++j, at = at + k < r ? at + k : at + k - r)
          sum = sum + times(v[j], root[at], root[r + at]);
        if (k > 0) sum = times(sum, w[2 * (k - 1) * m + p], w[(2 * k - 1) * m + p]);
        const std::int64_t to = q + s * (r * p + k);
        a.y.re[to] = sum.re, a.y.im[to] = sum.im;
      }
    }
}

template <class T>
void run_pass(int r, const Pass<T>& a, const Part& part) {
  const auto sized = [&]<int radix>(std::integral_constant<int, radix>) {
    if (a.s == 1) return pass<radix, 1>(a, part);
    if (a.s == 4) return pass<radix, 4>(a, part);
    return pass<radix, 0>(a, part);
  };
  switch (r) {
    case 2:
      return sized(std::integral_constant<int, 2>{});
    case 3:
      return sized(std::integral_constant<int, 3>{});
    case 4:
      return sized(std::integral_constant<int, 4>{});
    case 5:
      return sized(std::integral_constant<int, 5>{});
    default:
      return pass_of(r, a, part);
  }
}

// [0, n) in one go, or by all threads.
template <class Body>
TS_INLINE void over(bool split, std::int64_t n, std::int64_t grain, const Body& body) {
  if (split)
    parallel_ranges(n, grain > 0 ? grain : 1, body);
  else
    body(std::int64_t{0}, n);
}

// One row: in from `load`, all passes, out to `store`. `work` has room for four arrays of N.
template <class T, class Load, class Store>
void transform(const Fft& f, const T* twiddle, T* work, bool split, const Load& load, const Store& store) {
  const std::int64_t N = f.length;
  Split<T> a{work, work + N}, b{work + 2 * N, work + 3 * N};
  over(split, N, kPiece, [&](std::int64_t begin, std::int64_t end) { load(a, begin, end); });
  std::int64_t n = N, s = 1;
  for (int i = 0; i < f.passes; ++i) {
    const int r = f.radix[i];
    const std::int64_t m = n / r;
    const Pass<T> pass{a, b, twiddle, m, s};
    if (m == 1)  // one p: cut along q
      over(split && s > 4, s, kPiece / r,
           [&](std::int64_t begin, std::int64_t end) { run_pass(r, pass, Part{0, 1, begin, end}); });
    else
      over(split, m, kPiece / (r * s),
           [&](std::int64_t begin, std::int64_t end) { run_pass(r, pass, Part{begin, end, 0, s}); });
    twiddle += 2 * (r - 1) * m + 2 * r;
    n = m, s *= r;
    const Split<T> other = a;
    a = b, b = other;
  }
  store(a, twiddle);
}

template <class T>
struct Row {
  const Fft& f;
  const T* twiddle;
  T* work;
  bool split;

  // Complex to complex.
  void complex(const Point<T>* x, Point<T>* y) const {
    const T scale = static_cast<T>(f.scale);
    const bool inverse = f.inverse;
    transform<T>(
        f, twiddle, work, split,
        [&](Split<T> a, std::int64_t begin, std::int64_t end) {
          T* const re = inverse ? a.im : a.re;
          T* const im = inverse ? a.re : a.im;
          for (std::int64_t i = begin; i < end; ++i) re[i] = x[i].re, im[i] = x[i].im;
        },
        [&](Split<T> a, const T*) {
          const T* const re = inverse ? a.im : a.re;
          const T* const im = inverse ? a.re : a.im;
          over(split, f.length, kPiece, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) y[i] = {scale * re[i], scale * im[i]};
          });
        });
  }

  // 2M real numbers to the M + 1 first of their transform: with Z that of x[2j] + i x[2j + 1],
  // X_k = (Z_k + conj Z_(M-k)) / 2 - i w^k (Z_k - conj Z_(M-k)) / 2, w = e^(-2 pi i / 2M).
  void from_real(const T* x, Point<T>* y) const {
    const std::int64_t M = f.length;
    const T half = static_cast<T>(f.scale) / 2;
    transform<T>(
        f, twiddle, work, split,
        [&](Split<T> a, std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) a.re[i] = x[2 * i], a.im[i] = x[2 * i + 1];
        },
        [&](Split<T> a, const T* w) {
          const auto one = [=](std::int64_t at, std::int64_t mirror, T c, T s) {
            const Point<T> z{a.re[at], a.im[at]}, other{a.re[mirror], -a.im[mirror]};
            return half * ((z + other) + times_minus_i(times(z - other, c, s)));
          };
          y[0] = one(0, 0, w[0], w[M + 1]);
          y[M] = one(0, 0, w[M], w[2 * M + 1]);
          over(split, M - 1, kPiece, [=](std::int64_t begin, std::int64_t end) {
            const T* __restrict const cosine = w;
            const T* __restrict const sine = w + M + 1;
            Point<T>* __restrict const out = y;
#pragma GCC ivdep
            for (std::int64_t k = begin + 1; k <= end; ++k) out[k] = one(k, M - k, cosine[k], sine[k]);
          });
        });
  }

  // The reverse: M + 1 numbers of a Hermitian row to 2M real ones.
  void to_real(const Point<T>* x, T* y) const {
    const std::int64_t M = f.length;
    const T scale = static_cast<T>(f.scale);
    transform<T>(
        f, twiddle, work, split,
        [&](Split<T> a, std::int64_t begin, std::int64_t end) {
          const T* const w = twiddle + f.ends;
          const auto one = [&](std::int64_t k, Point<T> z, Point<T> other) {
            const Point<T> sum = (z + other) - times_minus_i(times(z - other, w[k], -w[M + 1 + k]));
            a.im[k] = sum.re, a.re[k] = sum.im;
          };
          if (begin == 0) one(begin++, {x[0].re, 0}, {x[M].re, 0});
#pragma GCC ivdep
          for (std::int64_t k = begin; k < end; ++k) one(k, x[k], {x[M - k].re, -x[M - k].im});
        },
        [&](Split<T> a, const T*) {
          over(split, M, kPiece, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i)
              y[2 * i] = scale * a.im[i], y[2 * i + 1] = scale * a.re[i];
          });
        });
  }

  void run(const T* x, T* y) const {
    switch (f.kind) {
      case Fft::complex:
        return complex(reinterpret_cast<const Point<T>*>(x), reinterpret_cast<Point<T>*>(y));
      case Fft::from_real:
        return from_real(x, reinterpret_cast<Point<T>*>(y));
      default:
        return to_real(reinterpret_cast<const Point<T>*>(x), y);
    }
  }
};

template <class T>
void run_rows(In x, In twiddle, Out y, Out work, const Fft& f) {
  const std::int64_t R = x.shape[0], dx = x.strides[0] * (is_complex(x.dtype) ? 2 : 1);
  const std::int64_t dy = y.strides[0] * (is_complex(y.dtype) ? 2 : 1);
  const T* const table = twiddle.as<T>();
  if (f.length >= kSplit) {
    T* const room = work ? work.as<T>() : static_cast<T*>(scratch());
    for (std::int64_t r = 0; r < R; ++r)
      Row<T>{f, table, room, true}.run(x.as<T>() + r * dx, y.as<T>() + r * dy);
    return;
  }
  parallel_ranges(R, kPiece / (f.length + 64) + 1, [&](std::int64_t begin, std::int64_t end) {
    const Row<T> row{f, table, static_cast<T*>(scratch()), false};
    for (std::int64_t r = begin; r < end; ++r) row.run(x.as<T>() + r * dx, y.as<T>() + r * dy);
  });
}

}  // namespace

void fft(In x, In twiddle, Out y, Out work, Fft plan) {
  with_floating(twiddle.dtype, [&]<class T>(Type<T>) { run_rows<T>(x, twiddle, y, work, plan); });
}

}  // namespace ts::cpu::TS_ISA
