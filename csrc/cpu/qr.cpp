// QR by Householder reflections, in blocks of 32 (reflector.h): A = Q R.
//
// B matrices of M x N, row-major. A panel of 32 columns is reduced row by row; the columns to its right take
// C -= V T' (V' C), a strip of 128 columns a piece, by the register tile. Q is built in the same way from the
// last panel to the first. Cost: 2 M N^2 - 2 N^3 / 3 flops, as much again for Q.
#include "cpu/reflector.h"

namespace ts::cpu::TS_ISA {
namespace {

// Columns [k, end) of a (m x n), below row k. The row vector w = v' A of the panel is gathered row by row.
template <class T>
void reduce_panel(T* a, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t end, T* tau) {
  for (std::int64_t j = k; j < end; ++j) {
    T* const pivot = a + j * n + j;
    tau[j] = reflect(pivot, n, m - j);
    const std::int64_t right = end - j - 1;
    if (tau[j] == T(0) || right == 0) continue;
    T w[kPanel] = {};
    std::memcpy(w, pivot + 1, static_cast<std::size_t>(right) * sizeof(T));
    for (std::int64_t i = 1; i < m - j; ++i) axpy(w, pivot[i * n], pivot + i * n + 1, right);
    axpy(pivot + 1, -tau[j], w, right);
    for (std::int64_t i = 1; i < m - j; ++i) axpy(pivot + i * n + 1, -tau[j] * pivot[i * n], w, right);
  }
}

// a (m x n) -> R; q (m x columns): the first columns of the reflections' product.
template <class T>
void qr_one(T* a, std::int64_t m, std::int64_t n, T* tau, T* q, std::int64_t columns) {
  const std::int64_t steps = m < n ? m : n;
  T* const v = static_cast<T*>(scratch());
  T t[kPanel * kPanel];
  for (std::int64_t k = 0; k < steps; k += kPanel) {
    const std::int64_t end = k + kPanel < steps ? k + kPanel : steps;
    reduce_panel(a, m, n, k, end, tau);
    if (end == n) continue;
    block_reflector(a, m, n, k, end - k, tau, v, t);
    apply(v, t, true, m - k, a + k * n + end, n, n - end);
  }
  product_of_reflections(a, n, tau, steps, m, q, columns, columns, v);
  for (std::int64_t i = 1; i < m; ++i)
    std::memset(a + i * n, 0, static_cast<std::size_t>(i < n ? i : n) * sizeof(T));
}

}  // namespace

void qr(Out a, Out tau, Out q) {
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const std::int64_t m = a.shape[1], n = a.shape[2], steps = m < n ? m : n, columns = q.shape[2];
    const double flops = 4.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(steps);
    for_matrices(a.shape[0], flops, [&](std::int64_t i) {
      qr_one(a.as<T>() + i * m * n, m, n, tau.as<T>() + i * steps, q.as<T>() + i * m * columns, columns);
    });
  });
}

}  // namespace ts::cpu::TS_ISA
