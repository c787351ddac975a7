// Symmetric eigenproblems, and singular values, by rotations of rows.
//
// B matrices of N x N, row-major.
//
// eigh: Householder's reduction to tridiagonal form, then implicit QL steps with Wilkinson's shift (Bowdler,
// Martin, Reinsch & Wilkinson 1968). Eigenvectors are kept as rows, so that a rotation of two of them is a
// contiguous pass. Cost: 4 N^3 / 3 flops, about 6 N^3 more for the vectors.
//
// svd: one-sided Jacobi (Hestenes 1958): rows of G are rotated in pairs until all are orthogonal; they are
// then singular values times vectors, and the rotations the vectors of the other side. The caller hands the R
// of a QR factorisation, whose rows are nearly so (Drmac & Veselic 2008). Cost: about 6 sweeps of 4 N^3
// flops.
#include <limits>

#include "cpu/linalg.h"

namespace ts::cpu::TS_ISA {
namespace {

// (x, y) <- (c x - s y, s x + c y)
template <class T>
TS_INLINE void rotate(T* x, T* y, T c, T s, std::int64_t n) {
  const Vec<T> vc(c), vs(s);
  for (std::int64_t j = 0; j < n; j += Vec<T>::width) {
    const Vec<T> a = load_tail(x + j, n - j), b = load_tail(y + j, n - j);
    store_tail(x + j, fma(vc, a, -(vs * b)), n - j);
    store_tail(y + j, fma(vs, a, vc * b), n - j);
  }
}

template <class T>
T length(T a, T b) {  // sqrt(a^2 + b^2) without overflow
  a = std::abs(a), b = std::abs(b);
  const T high = a > b ? a : b, low = a > b ? b : a;
  if (high == T(0)) return high;
  const T r = low / high;
  return high * std::sqrt(T(1) + r * r);
}

// a (n x n, its lower triangle) -> d, e (the diagonals) and z, whose rows span what the reflections did:
// a = z' tridiagonal z. The reflections, from the last row up, stay in a's rows.
template <class T>
void tridiagonal(T* a, std::int64_t n, T* d, T* e, T* z, T* p) {
  for (std::int64_t i = n - 1; i > 0; --i) {
    T* const v = a + i * n;  // row i, whose first i elements are reflected to its last
    T most(0);
    for (std::int64_t j = 0; j + 1 < i; ++j) most = std::abs(v[j]) > most ? std::abs(v[j]) : most;
    d[i] = v[i];
    T& tau = z[i];  // row 0 of z is free until the end
    if (most == T(0)) {
      e[i] = v[i - 1], tau = T(0);
      continue;
    }
    if (std::abs(v[i - 1]) > most) most = std::abs(v[i - 1]);
    for (std::int64_t j = 0; j < i; ++j) v[j] /= most;
    const T norm = std::sqrt(dot(v, v, i)), beta = v[i - 1] > T(0) ? -norm : norm;
    tau = (beta - v[i - 1]) / beta;
    const T scale = T(1) / (v[i - 1] - beta);
    for (std::int64_t j = 0; j + 1 < i; ++j) v[j] *= scale;
    v[i - 1] = T(1);
    e[i] = beta * most;
    // p = tau A v from the lower triangle; A -= v q' + q v', q = p - (tau / 2) (p . v) v
    std::memset(p, 0, static_cast<std::size_t>(i) * sizeof(T));
    for (std::int64_t j = 0; j < i; ++j) {
      p[j] += dot(a + j * n, v, j + 1);
      axpy(p, v[j], a + j * n, j);
    }
    for (std::int64_t j = 0; j < i; ++j) p[j] *= tau;
    const T half = T(0.5) * tau * dot(p, v, i);
    axpy(p, -half, v, i);
    for (std::int64_t j = 0; j < i; ++j) {
      axpy(a + j * n, -v[j], p, j + 1);
      axpy(a + j * n, -p[j], v, j + 1);
    }
  }
  d[0] = a[0], e[0] = T(0);
}

// z (rows) = the reflections' product, built up from the smallest.
template <class T>
void accumulate(const T* a, std::int64_t n, T* z, T* tau) {
  std::memcpy(tau, z, static_cast<std::size_t>(n) * sizeof(T));
  std::memset(z, 0, static_cast<std::size_t>(n * n) * sizeof(T));
  for (std::int64_t i = 0; i < n; ++i) z[i * n + i] = T(1);
  for (std::int64_t i = 1; i < n; ++i) {
    if (tau[i] == T(0)) continue;
    const T* const v =
        a + i * n;  // H = I - tau v v' on the first i coordinates; z's rows take it from the right
    for (std::int64_t j = 0; j < i; ++j) axpy(z + j * n, -tau[i] * dot(z + j * n, v, i), v, i);
  }
}

// Turned upside down if the large end is on top: the steps work from the bottom up, and lose small
// eigenvalues of a matrix that is graded the other way.
template <class T>
void large_end_down(T* d, T* e, std::int64_t n, T* z) {
  if (!(std::abs(d[0]) > std::abs(d[n - 1]))) return;
  for (std::int64_t i = 0, j = n - 1; i < j; ++i, --j) {
    const T x = d[i];
    d[i] = d[j], d[j] = x;
    if (!z) continue;
    rotate(z + i * n, z + j * n, T(0), T(1), n);
    for (std::int64_t c = 0; c < n; ++c) z[i * n + c] = -z[i * n + c];  // an exchange has no sign
  }
  for (std::int64_t i = 1, j = n - 1; i < j; ++i, --j) {
    const T x = e[i];
    e[i] = e[j], e[j] = x;
  }
}

// Diagonals d, e (e[i] between i - 1 and i) -> eigenvalues; rows of z rotated along. False after 90 steps for
// one. An e goes when it is small beside its neighbours on the diagonal; where that takes long, beside the
// whole matrix.
template <class T>
bool ql(T* d, T* e, std::int64_t n, T* z) {
  const T eps = std::numeric_limits<T>::epsilon() / 2;
  T norm(0);
  for (std::int64_t i = 0; i < n; ++i) {
    const T row = std::abs(d[i]) + std::abs(e[i]);
    norm = row > norm ? row : norm;
  }
  for (std::int64_t i = 1; i < n; ++i) e[i - 1] = e[i];
  e[n - 1] = T(0);
  for (std::int64_t l = 0; l < n; ++l) {
    for (int round = 0;; ++round) {
      std::int64_t m = l;
      for (; m + 1 < n; ++m)
        if (!(std::abs(e[m]) > eps * (round < 30 ? std::abs(d[m]) + std::abs(d[m + 1]) : norm))) break;
      if (m == l) break;
      if (round == 90) return false;
      T g = (d[l + 1] - d[l]) / (T(2) * e[l]);
      T r = length(g, T(1));
      g = d[m] - d[l] + e[l] / (g + (g < T(0) ? -r : r));
      T s(1), c(1), p(0);
      std::int64_t i = m - 1;
      for (; i >= l; --i) {
        const T f = s * e[i], b = c * e[i];
        r = length(f, g);
        e[i + 1] = r;
        if (r == T(0)) {  // the matrix falls apart here
          d[i + 1] -= p;
          e[m] = T(0);
          break;
        }
        s = f / r, c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + T(2) * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        if (z) rotate(z + i * n, z + (i + 1) * n, c, s, n);
      }
      if (r == T(0) && i >= l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = T(0);
    }
  }
  return true;
}

// Ascending, the rows of z with them: a selection, for n swaps at most.
template <class T>
void ascend(T* d, std::int64_t n, T* z) {
  for (std::int64_t i = 0; i < n; ++i) {
    std::int64_t best = i;
    for (std::int64_t j = i + 1; j < n; ++j)
      if (d[j] < d[best]) best = j;
    if (best == i) continue;
    const T x = d[i];
    d[i] = d[best], d[best] = x;
    if (z) rotate(z + i * n, z + best * n, T(0), T(1), n);
  }
}

// a = x x, b = y y, c = x y in one pass, each in 64 bytes of lanes.
template <class T>
TS_INLINE void dots(const T* x, const T* y, std::int64_t n, T& a, T& b, T& c) {
  constexpr std::int64_t L = 64 / static_cast<std::int64_t>(sizeof(T)), W = Vec<T>::width;
  Vec<T> sum[3][L / W];
  for (auto& three : sum)
    for (Vec<T>& s : three) s = Vec<T>(T(0));
  for (std::int64_t j = 0; j < n; j += L)
    for (std::int64_t l = 0; l < L / W; ++l) {
      const std::int64_t left = n - j - l * W;
      if (left <= 0) continue;
      const Vec<T> u = load_tail(x + j + l * W, left), v = load_tail(y + j + l * W, left);
      sum[0][l] = fma(u, u, sum[0][l]);
      sum[1][l] = fma(v, v, sum[1][l]);
      sum[2][l] = fma(u, v, sum[2][l]);
    }
  T* const results[3] = {&a, &b, &c};
  for (int k = 0; k < 3; ++k) {
    T lanes[L];
    for (std::int64_t l = 0; l < L / W; ++l) sum[k][l].store(lanes + l * W);
    for (std::int64_t w = L / 2; w > 0; w /= 2)
      for (std::int64_t l = 0; l < w; ++l) lanes[l] += lanes[l + w];
    *results[k] = lanes[0];
  }
}

// One pair of rows of g made orthogonal, and the same rotation for w's. Returns whether it was needed. A row
// whose square is not above `negligible` has no direction left, only what rounding put there: it would never
// come to rest.
template <class T>
bool jacobi_pair(T* gi, T* gj, T* wi, T* wj, std::int64_t n, T tolerance, T negligible) {
  T a, b, c;
  dots(gi, gj, n, a, b, c);
  if (!(a > negligible && b > negligible) || !(std::abs(c) > tolerance * std::sqrt(a) * std::sqrt(b)) ||
      c == T(0)) {
    if (a >= b) return false;
    rotate(gi, gj, T(0), T(-1), n);  // the larger first: a rotation by a right angle
    if (wi) rotate(wi, wj, T(0), T(-1), n);
    return false;
  }
  const T zeta = (b - a) / (T(2) * c),
          t = (zeta < T(0) ? T(-1) : T(1)) / (std::abs(zeta) + length(T(1), zeta));
  T cs = T(1) / std::sqrt(T(1) + t * t), sn = cs * t;
  if (a < b) {  // keep the larger in front
    const T x = cs;
    cs = -sn, sn = x;
    cs = -cs, sn = -sn;
  }
  rotate(gi, gj, cs, sn, n);
  if (wi) rotate(wi, wj, cs, sn, n);
  return true;
}

// Sweeps over all pairs until none needs a rotation. Returns false after 60.
template <class T>
bool jacobi(T* g, T* w, std::int64_t n) {
  const T tolerance = std::numeric_limits<T>::epsilon() * std::sqrt(static_cast<T>(n));
  const std::int64_t players = n + n % 2, rounds = players - 1;
  // A tournament: in each round every row meets another, so its pairs can be rotated at the same time.
  const std::int64_t together = 1 + 40000 / (n + 16);
  const std::int64_t pieces = (players / 2 + together - 1) / together;
  const T noise = std::numeric_limits<T>::epsilon() / 4;
  T negligible(0);
  for (std::int64_t i = 0; i < n; ++i) {
    const T square = dot(g + i * n, g + i * n, n);
    negligible = square > negligible ? square : negligible;
  }
  negligible *= noise * noise;
  bool turned[kStrip];
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool any = false;
    for (std::int64_t round = 0; round < rounds; ++round) {
      const std::int64_t used = pieces < kStrip ? pieces : kStrip;
      parallel_for(used, [&](std::int64_t piece) {
        bool some = false;
        for (std::int64_t pair = piece; pair < players / 2; pair += used) {
          std::int64_t i = pair == 0 ? players - 1 : (round + pair) % rounds;
          std::int64_t j = (round + rounds - pair) % rounds;
          if (i > j) {
            const std::int64_t x = i;
            i = j, j = x;
          }
          if (j < n)
            some |= jacobi_pair(g + i * n, g + j * n, w ? w + i * n : nullptr, w ? w + j * n : nullptr, n,
                                tolerance, negligible);
        }
        turned[piece] = some;
      });
      for (std::int64_t piece = 0; piece < used; ++piece) any |= turned[piece];
    }
    if (!any) return true;
  }
  return false;
}

// Rows of g -> their lengths s, descending, and unit vectors; those too short to have a direction are
// replaced by what completes the others to a basis.
template <class T>
void normalise(T* g, T* w, T* s, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) s[i] = -std::sqrt(dot(g + i * n, g + i * n, n));
  for (std::int64_t i = 0; i < n; ++i) {  // a selection, descending
    std::int64_t best = i;
    for (std::int64_t j = i + 1; j < n; ++j)
      if (s[j] < s[best]) best = j;
    if (best == i) continue;
    const T x = s[i];
    s[i] = s[best], s[best] = x;
    rotate(g + i * n, g + best * n, T(0), T(1), n);
    if (w) rotate(w + i * n, w + best * n, T(0), T(1), n);
  }
  std::int64_t next = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    s[i] = std::abs(s[i]);
    T* const row = g + i * n;
    if (s[i] > std::numeric_limits<T>::epsilon() / 4 * s[0]) {
      for (std::int64_t j = 0; j < n; ++j) row[j] /= s[i];
      continue;
    }
    for (;; ++next) {  // of n unit vectors, some are far enough from fewer than n others
      std::memset(row, 0, static_cast<std::size_t>(n) * sizeof(T));
      row[next % n] = T(1);
      for (int twice = 0; twice < 2; ++twice)
        for (std::int64_t j = 0; j < i; ++j) axpy(row, -dot(row, g + j * n, n), g + j * n, n);
      const T left = std::sqrt(dot(row, row, n));
      if (next >= 2 * n || left * left * static_cast<T>(2 * n) > T(1)) {
        for (std::int64_t j = 0; j < n; ++j) row[j] /= left;
        ++next;
        break;
      }
    }
  }
}

// The largest magnitude, or NaN if there is one.
template <class T>
T largest_of(const T* a, std::int64_t n) {
  T most(0);
  for (std::int64_t i = 0; i < n; ++i) most = std::abs(a[i]) > most || a[i] != a[i] ? std::abs(a[i]) : most;
  return most;
}

}  // namespace

void eigh(Out a, Out w, Out vectors, Out info) {
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const std::int64_t n = a.shape[2];
    const double flops = 8.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    for_matrices(a.shape[0], flops, [&](std::int64_t i) {
      T* const work = static_cast<T*>(scratch());
      T* const matrix = a.as<T>() + i * n * n;
      T *const d = w.as<T>() + i * n, *const z = vectors ? vectors.as<T>() + i * n * n : nullptr;
      std::int64_t& failed = info.as<std::int64_t>()[i];
      failed = 0;
      const T most = largest_of(matrix, n * n);
      if (!(most <= std::numeric_limits<T>::max())) {
        failed = 2;
        return;
      }
      T *const e = work, *const p = work + n, *const taus = work + 2 * n;
      tridiagonal(matrix, n, d, e, z ? z : taus, p);
      if (z) accumulate(matrix, n, z, taus);
      large_end_down(d, e, n, z);
      if (!ql(d, e, n, z)) failed = 1;
      ascend(d, n, z);
    });
  });
}

void svd(Out g, Out s, Out w, Out info) {
  with_floating(g.dtype, [&]<class T>(Type<T>) {
    const std::int64_t n = g.shape[2];
    const double flops = 24.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    for_matrices(g.shape[0], flops, [&](std::int64_t i) {
      T* const rows = g.as<T>() + i * n * n;
      T* const other = w ? w.as<T>() + i * n * n : nullptr;
      std::int64_t& failed = info.as<std::int64_t>()[i];
      failed = 0;
      const T most = largest_of(rows, n * n);
      if (!(most <= std::numeric_limits<T>::max())) {
        failed = 2;
        return;
      }
      const T scale = most > T(0) ? most : T(1);  // so that squares neither overflow nor vanish
      for (std::int64_t j = 0; j < n * n; ++j) rows[j] /= scale;
      if (other) {
        std::memset(other, 0, static_cast<std::size_t>(n * n) * sizeof(T));
        for (std::int64_t j = 0; j < n; ++j) other[j * n + j] = T(1);
      }
      if (!jacobi(rows, other, n)) failed = 1;
      normalise(rows, other, s.as<T>() + i * n, n);
      for (std::int64_t j = 0; j < n; ++j) s.as<T>()[i * n + j] *= scale;
    });
  });
}

}  // namespace ts::cpu::TS_ISA
