// Discrete Fourier transforms of rows: y_k = scale sum_j x_j e^(-2 pi i j k / N), by Stockham's passes.
//
// Legend: R rows of N complex numbers, in two arrays of real and imaginary parts. A pass of radix r turns n =
// r m numbers, s interleaved transforms of them, into r s transforms of m:
//   y[q + s (r p + k)] = w_n^(p k) sum_j x[q + s (p + j m)] w_r^(j k),  0 <= p < m, 0 <= q < s
// so the order comes out right without a permutation, and neighbours in q (or, at s = 1, in p) fill a
// register. Costs one read and one write of the row a pass, log_4 N passes for powers of two. The inverse
// swaps the real and imaginary parts on the way in and out. Long rows, N = N1 N2, are not read and written by
// every pass: with j = t + N2 l and k = i + N1 u,
//   z[t, i] = w_N^(t i) sum_l x[t + N2 l] w_N1^(l i),  y[i + N1 u] = sum_t z[t, i] w_N2^(t u)
// and 16 columns t, then 16 columns i, go through all their passes in the second-level cache (Bailey 1990). A
// real row of even length is half as many complex numbers, taken apart (or put together) at the end (or the
// beginning).
#include "math/fft.h"

#include <cstring>

#include "core/fft_split.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/transpose.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kPiece = 1 << 14;  // numbers that one thread takes
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
    if (a.s == kFftBlock) return pass<radix, kFftBlock>(a, part);
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

// The passes of these radices over `s` interleaved transforms of n numbers, between a and b; the result is in
// what is returned. Moves `twiddle` behind their factors.
template <class T>
Split<T> run_passes(const std::uint8_t* radix, int passes, const T*& twiddle, std::int64_t n, std::int64_t s,
                    Split<T> a, Split<T> b) {
  for (int i = 0; i < passes; ++i) {
    const int r = radix[i];
    const std::int64_t m = n / r;
    run_pass(r, Pass<T>{a, b, twiddle, m, s}, Part{0, m, 0, s});
    twiddle += 2 * (r - 1) * m + 2 * r;
    n = m, s *= r;
    const Split<T> other = a;
    a = b, b = other;
  }
  return a;
}

template <class T>
struct Row {
  const Fft& f;
  const T* twiddle;
  T* work;     // four arrays of N
  bool split;  // a long row, for all threads

  // Numbers in from load(to, begin, end), which writes x[begin ... end) to the beginning of `to`, and through
  // all passes. emit(from, begin, end) takes results likewise.
  template <class Load>
  Split<T> near(const Load& load) const {
    const std::int64_t N = f.length;
    const Split<T> a{work, work + N}, b{work + 2 * N, work + 3 * N};
    load(a, 0, N);
    const T* w = twiddle;
    return run_passes(f.radix, f.passes, w, N, std::int64_t{1}, a, b);
  }
  template <class Load, class Emit>
  void far(const Load& load, const Emit& emit) const {
    const std::int64_t N = f.length;
    constexpr std::int64_t W = kFftBlock, item = sizeof(T);
    int first = 0;
    std::int64_t N1 = 1;
    for (; f.radix[first] != 1; ++first) N1 *= f.radix[first];
    const std::uint8_t* const second = f.radix + first + 1;
    const int rest = f.passes - first - 1;
    const std::int64_t N2 = N / N1;
    const T* const table1 = twiddle;
    const T* const table2 = table1 + pass_factors(f.radix, first, N1);
    const T* const turns = table2 + pass_factors(second, rest, N2);
    const Split<T> z{work, work + N};
    const auto rooms = [](std::int64_t size, Split<T>& a, Split<T>& b) {
      T* const room = static_cast<T*>(scratch());
      a = {room, room + size}, b = {room + 2 * size, room + 3 * size};
    };
    parallel_for((N2 + W - 1) / W, [&](std::int64_t block) {
      const std::int64_t t = block * W, w = N2 - t < W ? N2 - t : W, size = N1 * w;
      Split<T> a, b;
      rooms(size, a, b);
      for (std::int64_t l = 0; l < N1; ++l) load({a.re + l * w, a.im + l * w}, t + N2 * l, t + N2 * l + w);
      const T* factors = table1;
      a = run_passes(f.radix, first, factors, N1, w, a, b);
      const T* __restrict const c = turns + 2 * N1 * t;
      const T* __restrict const s = c + size;
      T* __restrict const re = a.re;
      T* __restrict const im = a.im;
      for (std::int64_t i = 0; i < size; ++i) {
        const Point<T> v = times(Point<T>{re[i], im[i]}, c[i], s[i]);
        re[i] = v.re, im[i] = v.im;
      }
      gather(reinterpret_cast<char*>(z.re + t * N1), reinterpret_cast<const char*>(re), item, w * item, item,
             N1, w);
      gather(reinterpret_cast<char*>(z.im + t * N1), reinterpret_cast<const char*>(im), item, w * item, item,
             N1, w);
    });
    parallel_for((N1 + W - 1) / W, [&](std::int64_t block) {
      const std::int64_t i = block * W, w = N1 - i < W ? N1 - i : W;
      Split<T> a, b;
      rooms(N2 * w, a, b);
      for (std::int64_t t = 0; t < N2; ++t) {
        std::memcpy(a.re + t * w, z.re + i + N1 * t, static_cast<std::size_t>(w * item));
        std::memcpy(a.im + t * w, z.im + i + N1 * t, static_cast<std::size_t>(w * item));
      }
      const T* factors = table2;
      a = run_passes(second, rest, factors, N2, w, a, b);
      for (std::int64_t u = 0; u < N2; ++u) emit({a.re + u * w, a.im + u * w}, i + N1 * u, i + N1 * u + w);
    });
  }
  template <class Load, class Emit>
  void transform(const Load& load, const Emit& emit) const {
    if (split)
      far(load, emit);
    else
      emit(near(load), 0, f.length);
  }

  // How many factors run_passes moves over.
  static std::int64_t pass_factors(const std::uint8_t* radix, int passes, std::int64_t n) {
    std::int64_t size = 0;
    for (int i = 0; i < passes; ++i) {
      const std::int64_t r = radix[i];
      size += 2 * (r - 1) * (n / r) + 2 * r;
      n /= r;
    }
    return size;
  }

  // Complex to complex.
  void complex(const Point<T>* x, Point<T>* y) const {
    const T scale = static_cast<T>(f.scale);
    const bool inverse = f.inverse;
    transform(
        [&](Split<T> to, std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
          T* __restrict const re = inverse ? to.im : to.re;
          T* __restrict const im = inverse ? to.re : to.im;
          const Point<T>* const from = x + begin;
          for (std::int64_t i = 0; i < end - begin; ++i) re[i] = from[i].re, im[i] = from[i].im;
        },
        [&](Split<T> from, std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
          const T* __restrict const re = inverse ? from.im : from.re;
          const T* __restrict const im = inverse ? from.re : from.im;
          Point<T>* __restrict const to = y + begin;
          for (std::int64_t i = 0; i < end - begin; ++i) to[i] = {scale * re[i], scale * im[i]};
        });
  }

  // 2M real numbers to the M + 1 first of their transform: with Z that of x[2j] + i x[2j + 1],
  // X_k = (Z_k + conj Z_(M-k)) / 2 - i w^k (Z_k - conj Z_(M-k)) / 2, w = e^(-2 pi i / 2M).
  void from_real(const T* x, Point<T>* y) const {
    const std::int64_t M = f.length;
    const T half = static_cast<T>(f.scale) / 2;
    const T* const w = twiddle + f.ends;
    const auto load = [&](Split<T> to, std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
      const T* const from = x + 2 * begin;
      for (std::int64_t i = 0; i < end - begin; ++i) to.re[i] = from[2 * i], to.im[i] = from[2 * i + 1];
    };
    Split<T> a{work + 2 * M, work + 3 * M};
    if (split)
      far(load, [&](Split<T> from, std::int64_t begin, std::int64_t end) {
        std::memcpy(a.re + begin, from.re, static_cast<std::size_t>(end - begin) * sizeof(T));
        std::memcpy(a.im + begin, from.im, static_cast<std::size_t>(end - begin) * sizeof(T));
      });
    else
      a = near(load);
    const auto one = [=](std::int64_t at, std::int64_t mirror, T c, T s) {
      const Point<T> z{half * a.re[at], half * a.im[at]};  // halved first: sums may overflow
      const Point<T> other{half * a.re[mirror], -half * a.im[mirror]};
      return (z + other) + times_minus_i(times(z - other, c, s));
    };
    y[0] = one(0, 0, w[0], w[M + 1]);
    y[M] = one(0, 0, w[M], w[2 * M + 1]);
    const auto between = [=](std::int64_t begin, std::int64_t end) {
      const T* __restrict const cosine = w;
      const T* __restrict const sine = w + M + 1;
      Point<T>* __restrict const out = y;
#pragma GCC ivdep
      for (std::int64_t k = begin + 1; k <= end; ++k) out[k] = one(k, M - k, cosine[k], sine[k]);
    };
    if (split)
      parallel_ranges(M - 1, kPiece, between);
    else
      between(0, M - 1);
  }

  // The reverse: M + 1 numbers of a Hermitian row to 2M real ones.
  void to_real(const Point<T>* x, T* y) const {
    const std::int64_t M = f.length;
    const T scale = static_cast<T>(f.scale);
    transform(
        [&](Split<T> to, std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
          const T* const w = twiddle + f.ends;
          T* __restrict const re = to.re - begin;
          T* __restrict const im = to.im - begin;
          const auto one = [&](std::int64_t k, Point<T> z, Point<T> other) {
            const Point<T> sum = (z + other) - times_minus_i(times(z - other, w[k], -w[M + 1 + k]));
            im[k] = sum.re, re[k] = sum.im;
          };
          if (begin == 0) one(begin++, {x[0].re, 0}, {x[M].re, 0});
#pragma GCC ivdep
          for (std::int64_t k = begin; k < end; ++k) one(k, x[k], {x[M - k].re, -x[M - k].im});
        },
        [&](Split<T> from, std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
          T* const to = y + 2 * begin;
          for (std::int64_t i = 0; i < end - begin; ++i)
            to[2 * i] = scale * from.im[i], to[2 * i + 1] = scale * from.re[i];
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
  if (f.length >= kFftSplit) {  // scratch memory is the passes'
    for (std::int64_t r = 0; r < R; ++r)
      Row<T>{f, table, work.as<T>(), true}.run(x.as<T>() + r * dx, y.as<T>() + r * dy);
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
