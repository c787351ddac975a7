// Rows of halves added to rows of halves: summed in float32, rounded once.
#pragma once

#include "cpu/half.h"
#include "cpu/index.h"

namespace ts::cpu::TS_ISA {

// y[index[m]] += x[m], m ascending, for x (1, M, B) and y (1, N, B) with B of stride 1, and room for 4 (M + N
// + 1) bytes in the scratch. The rows of x are listed by the row of y that they go to, so that this one is
// read and written once.
template <class S>
void add_half_rows(In index, In x, Out y) {
  constexpr std::int64_t kGrain = 1 << 15, kSide = 4 * Vec<float>::width;
  const std::int64_t M = x.shape[1], N = y.shape[1], B = x.shape[2], xs = x.strides[1], ys = y.strides[1];
  if (!M || !B) return;
  const std::int64_t* const at = index.as<std::int64_t>();
  const std::int64_t is = index.strides[0];
  std::uint32_t* const ends =
      static_cast<std::uint32_t*>(scratch());  // of a row's list, where the next one begins
  std::uint32_t* const list = ends + N + 1;
  std::memset(ends, 0, static_cast<std::size_t>(N + 1) * sizeof(*ends));
  for (std::int64_t m = 0; m < M; ++m) ++ends[at[m * is] + 1];
  for (std::int64_t n = 0; n < N; ++n) ends[n + 1] += ends[n];
  for (std::int64_t m = 0; m < M; ++m) list[ends[at[m * is]]++] = static_cast<std::uint32_t>(m);
  const S* const source = x.as<S>();
  S* const target = y.as<S>();
  // Cut by the rows of y and, in the mean, their share of x.
  parallel_ranges(N, kGrain * N / ((M + N) * B) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t first = n ? ends[n - 1] : 0, last = ends[n];
      if (first == last) continue;
      for (std::int64_t k = first + kAhead; k < last + kAhead && k < M; ++k)
        prefetch(source + list[k] * xs, B * static_cast<std::int64_t>(sizeof(S)), false);
      S* const to = target + n * ys;
      std::int64_t i = 0;
      for (; i + kSide <= B; i += kSide) {
        Vec<float> sum[4];
        for (int r = 0; r < 4; ++r) sum[r] = get(to + i + r * Vec<float>::width, All{});
        for (std::int64_t k = first; k < last; ++k)
          for (int r = 0; r < 4; ++r)
            sum[r] = sum[r] + get(source + list[k] * xs + i + r * Vec<float>::width, All{});
        for (int r = 0; r < 4; ++r) put(to + i + r * Vec<float>::width, sum[r], All{});
      }
      each<float>(i, B, [&](std::int64_t j, auto part) {
        Vec<float> sum = get(to + j, part);
        for (std::int64_t k = first; k < last; ++k) sum = sum + get(source + list[k] * xs + j, part);
        put(to + j, sum, part);
      });
    }
  });
}

}  // namespace ts::cpu::TS_ISA
