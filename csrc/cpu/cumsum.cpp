// cumsum along rows: y_c = x_0 + ... + x_c.
//
// R rows, C columns. Blocks of 256: within a block, groups of 16 bytes are scanned in a register and carried
// to the next one; a block starts from the sum of the blocks before it, kept in float64. Reads x once, writes
// y once.
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kScanBlock = 256;

// The scan of one block from 0, and its total. Groups are 16 bytes on every level: the same bits.
template <class T>
TS_INLINE T scan_block(const T* x, T* y, std::int64_t n, T offset) {
  typedef T Group __attribute__((vector_size(16)));
  typedef IntOf<T> Places __attribute__((vector_size(16)));
  constexpr int G = 16 / static_cast<int>(sizeof(T));
  const Group zero{};
  Group carry{};
  std::int64_t i = 0;
  for (; i + G <= n; i += G) {
    Group v;
    std::memcpy(&v, x + i, 16);
    Places shift{}, last{};
    for (int step = 1; step < G; step *= 2) {  // lane i + lane i - step
      for (int k = 0; k < G; ++k) shift[k] = static_cast<IntOf<T>>(k < step ? G : k - step);
      v = v + __builtin_shuffle(v, zero, shift);
    }
    for (int k = 0; k < G; ++k) last[k] = G - 1;
    const Group sum = carry + v;
    carry = carry + __builtin_shuffle(v, last);
    const Group out = sum + (zero + offset);
    std::memcpy(y + i, &out, 16);
  }
  T total = carry[0];
  for (; i < n; ++i) {
    total = static_cast<T>(total + x[i]);
    y[i] = static_cast<T>(total + offset);
  }
  return total;
}

template <class T>
TS_INLINE void scan_row(const T* x, T* y, std::int64_t C) {
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, T>;
  Sum before = 0;
  for (std::int64_t i = 0; i < C; i += kScanBlock) {
    const std::int64_t n = C - i < kScanBlock ? C - i : kScanBlock;
    before = static_cast<Sum>(before + static_cast<Sum>(scan_block(x + i, y + i, n, static_cast<T>(before))));
  }
}

}  // namespace

void cumsum(In x, Out y) {
  const auto scan = [&]<class T>(Type<T>) {
    const Rows<const T> xs(x);
    const Rows<T> ys(y);
    const std::int64_t C = x.shape[1];
    const std::int64_t grain = C >= kRowGrain ? 1 : kRowGrain / (C + 8);
    parallel_ranges(x.shape[0], grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) scan_row(xs[r], ys[r], C);
    });
  };
  switch (x.dtype) {  // integers wrap: as unsigned numbers
    case DType::float32:
      return scan(Type<float>{});
    case DType::float64:
      return scan(Type<double>{});
    case DType::int32:
      return scan(Type<std::uint32_t>{});
    case DType::int64:
      return scan(Type<std::uint64_t>{});
    default:
      return scan(Type<std::uint8_t>{});
  }
}

}  // namespace ts::cpu::TS_ISA
