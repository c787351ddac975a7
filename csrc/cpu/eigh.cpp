// Symmetric eigenproblems. B matrices of N x N, row-major.
//
// Householder's reduction to tridiagonal form, then implicit QL steps with Wilkinson's shift (Bowdler,
// Martin, Reinsch & Wilkinson 1968). Eigenvectors are kept as rows, so that a rotation of two of them is a
// contiguous pass. Cost: 4 N^3 / 3 flops, about 6 N^3 more for the vectors.
#include <limits>

#include "cpu/reflector.h"
#include "cpu/rotations.h"

namespace ts::cpu::TS_ISA {
namespace {

// a (n x n, its lower triangle) -> d and e (the diagonals; e[i] between i - 1 and i). The reflections stay in
// a's rows, right of the diagonal. A step's update A -= v q' + q v' waits for the next one, whose product A v
// then takes the same pass. work: 5 n elements.
template <class T>
void tridiagonal(T* a, std::int64_t n, T* d, T* e, T* tau, T* work) {
  T *v = work, *q = v + n, *v_next = q + n, *q_next = v_next + n;
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < i; ++j) a[j * n + i] = a[i * n + j];
  const auto update = [&](std::int64_t i, std::int64_t from, const T* vs, const T* qs) {
    axpy(a + i * n + from, -vs[i], qs + from, n - from);
    axpy(a + i * n + from, -qs[i], vs + from, n - from);
  };
  for (std::int64_t k = 0; k < n; ++k) {
    if (k > 0) update(k, k, v, q);
    d[k] = a[k * n + k];
    if (k + 1 == n) break;
    T* const row = a + k * n + k + 1;
    const std::int64_t rest = n - k - 1;
    tau[k] = reflect(row, 1, rest);
    e[k + 1] = *row;
    std::memcpy(v_next + k + 1, row, static_cast<std::size_t>(rest) * sizeof(T));
    v_next[k + 1] = T(1);
    const std::int64_t grain = rest < 2 * kRowsTogether ? rest : kRowsTogether;
    parallel_ranges(rest, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = k + 1 + begin; i < k + 1 + end; ++i) {
        if (k > 0) update(i, k + 1, v, q);
        q_next[i] = tau[k] * dot(a + i * n + k + 1, v_next + k + 1, rest);
      }
    });
    axpy(q_next + k + 1, T(-0.5) * tau[k] * dot(q_next + k + 1, v_next + k + 1, rest), v_next + k + 1, rest);
    T* const old_v = v;
    T* const old_q = q;
    v = v_next, q = q_next, v_next = old_v, q_next = old_q;
  }
  e[0] = T(0);
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
    exchange(z + i * n, z + j * n, n);
  }
  for (std::int64_t i = 1, j = n - 1; i < j; ++i, --j) {
    const T x = e[i];
    e[i] = e[j], e[j] = x;
  }
}

// Diagonals d, e (e[i] between i - 1 and i) -> eigenvalues; the rows of vectors follow. False after 90 steps
// for one. An e goes when it is small beside its neighbours on the diagonal; where that takes long, beside
// the whole matrix.
template <class T>
bool ql(T* d, T* e, std::int64_t n, Rotations<T>& rows) {
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
        rows.add(i, static_cast<double>(c), -static_cast<double>(s));
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
    if (z) exchange(z + i * n, z + best * n, n);
  }
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
      T most(0);  // of the lower triangle: nobody reads the other
      for (std::int64_t j = 0; j < n; ++j) {
        const T row = largest_of(matrix + j * n, j + 1);
        most = row > most || row != row ? row : most;
      }
      if (!(most <= std::numeric_limits<T>::max())) {
        failed = 2;
        return;
      }
      const T scale = most > T(0) ? most : T(1);  // so that squares neither overflow nor vanish
      for (std::int64_t j = 0; j < n * n; ++j) matrix[j] /= scale;
      T *const e = work, *const tau = work + n, *const rest = work + 6 * n + 16;
      tridiagonal(matrix, n, d, e, tau, work + 2 * n);
      if (z) {
        transpose_square(matrix, n);
        rows_of_product(matrix, n, tau, z, rest);
      }
      large_end_down(d, e, n, z);
      Rotations<T> rows(z, n, rest);
      if (!ql(d, e, n, rows)) failed = 1;
      rows.flush();
      ascend(d, n, z);
      for (std::int64_t j = 0; j < n; ++j) d[j] *= scale;
    });
  });
}

}  // namespace ts::cpu::TS_ISA
