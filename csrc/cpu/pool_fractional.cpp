// Fractional max pooling (Graham 2014): windows of one size whose starts follow a random sequence, as
// math/fractional.h says. Every plane has samples of its own. Reads an input once for every window that holds
// it, writes y and index once.
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"
#include "math/fractional.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class T>
void find_starts(T u, std::int64_t n, std::int64_t k, std::int64_t m, std::int64_t* starts) {
  const FractionalStarts<T> start(u, n, k, m);
  for (std::int64_t i = 0; i < m; ++i) starts[i] = start[i];
}

// The largest of a window of KH x KW (0: of height x width), and where it lies from `x` on.
template <int KH, int KW, class T>
TS_INLINE T largest(const T* x, std::int64_t pitch, std::int64_t height, std::int64_t width,
                    std::int64_t* where) {
  T best = static_cast<T>(-__builtin_inf());
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < (KH ? KH : height); ++i)
    for (std::int64_t j = 0; j < (KW ? KW : width); ++j) {
      const T v = x[i * pitch + j];
      const bool wins = v > best || v != v;
      best = wins ? v : best;
      at = wins ? i * pitch + j : at;
    }
  *where = at;
  return best;
}

}  // namespace

void fractional_max_pool2d(In x, In samples, Out y, Out index, int height, int width) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const std::int64_t A = x.shape[0], H = x.shape[1], W = x.shape[2], P = y.shape[1], Q = y.shape[2];
    const auto run = [&]<int KH, int KW>() {
      constexpr std::int64_t kGrain = 1 << 14;  // elements that a piece looks at
      parallel_ranges(A, kGrain / (P * Q * height * width) + 1, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t *const rows = static_cast<std::int64_t*>(scratch()), *const columns = rows + P;
        for (std::int64_t plane = begin; plane < end; ++plane) {
          const T *const from = x.as<T>() + plane * H * W, *const u = samples.as<T>() + plane * 2;
          T* to = y.as<T>() + plane * P * Q;
          std::int64_t* at = index.as<std::int64_t>() + plane * P * Q;
          find_starts(u[0], W, width, Q, columns);
          find_starts(u[1], H, height, P, rows);
          for (std::int64_t p = 0; p < P; ++p)
            for (std::int64_t q = 0; q < Q; ++q) {
              const std::int64_t corner = rows[p] * W + columns[q];
              std::int64_t where;
              *to++ = largest<KH, KW>(from + corner, W, height, width, &where);
              *at++ = corner + where;
            }
        }
      });
    };
    if (height == 2 && width == 2) return run.template operator()<2, 2>();
    if (height == 3 && width == 3) return run.template operator()<3, 3>();
    run.template operator()<0, 0>();
  });
}

}  // namespace ts::cpu::TS_ISA
