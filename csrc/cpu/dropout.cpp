// Dropout: y = keep ? x / (1 - p) : 0, with one mask bit an element.
//
// Element i in memory order takes word i of the generator and is dropped where word < p 2^32; its bit
// is bit i % 8 of mask byte i / 8. x and y lie in the same dense memory order. Reads x once, writes y
// once and 1/32 of a float32's bytes of mask; backward reads dy and the mask and writes dx.
#include <cstring>

#include "cpu/half.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrain = 32768;
static_assert(kGrain % kGroupWords == 0);

// The mask of one group: 32, 16 or 8 bits.
using GroupBits = std::conditional_t<kGroupWords == 32, std::uint32_t,
                                     std::conditional_t<kGroupWords == 16, std::uint16_t, std::uint8_t>>;

// y[i] = bit i ? x[i] * scale : 0 for the first n <= kGroupWords elements.
template <class S, class T>
TS_INLINE void apply(const S* x, S* y, std::uint32_t bits, Vec<T> scale, std::int64_t n) {
  constexpr int kWidth = Vec<T>::width;
  if (n >= kGroupWords) {
    for (int j = 0; j < kGroupWords; j += kWidth)
      put(y + j, keep(get(x + j, All{}) * scale, bits >> j), All{});
  } else {
    for (int j = 0; j < n; j += kWidth) {
      const First part{n - j < kWidth ? n - j : kWidth};
      put(y + j, keep(get(x + j, part) * scale, bits >> j), part);
    }
  }
}

}  // namespace

void dropout(In x, Out state, Out y, Out mask, double p) {
  const std::int64_t n = y.size();
  std::uint8_t* const bytes = mask.as<std::uint8_t>();
  const Generator generator(state, (n + 3) / 4);
  const std::uint64_t threshold = static_cast<std::uint64_t>(p * 0x1p32 + 0.5);
  if (threshold >> 32) {
    std::memset(y.data, 0, static_cast<std::size_t>(n * itemsize(y.dtype)));
    std::memset(bytes, 0, static_cast<std::size_t>((n + 7) / 8));
    return;
  }
  with_stored(y.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const S* const in = x.as<S>();
    S* const out = y.as<S>();
    const Vec<T> scale(static_cast<T>(1 / (1 - p)));
    const U32 limit(static_cast<std::uint32_t>(threshold));
    parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i += kGroupWords) {
        U32 first, second;
        group_words(generator, i / 4, first, second);
        auto bits = static_cast<GroupBits>(at_least(first, limit) | at_least(second, limit) << U32::width);
        if (i + kGroupWords <= end) {
          std::memcpy(bytes + i / 8, &bits, sizeof bits);
        } else {
          bits = static_cast<GroupBits>(bits & ((1u << (end - i)) - 1));
          std::memcpy(bytes + i / 8, &bits, static_cast<std::size_t>((end - i + 7) / 8));
        }
        apply(in + i, out + i, bits, scale, end - i);
      }
    });
  });
}

void dropout_backward(In dy, In mask, Out dx, double p) {
  const std::int64_t n = dx.size();
  const std::uint8_t* const bytes = mask.as<std::uint8_t>();
  with_stored(dx.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    // p = 1 dropped everything: the bits are 0, and so is the factor
    const Vec<T> scale(p < 1 ? static_cast<T>(1 / (1 - p)) : T(0));
    parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i += kGroupWords) {
        const std::int64_t count = end - i < kGroupWords ? end - i : kGroupWords;
        GroupBits bits = 0;
        if (count == kGroupWords)
          std::memcpy(&bits, bytes + i / 8, sizeof bits);
        else
          std::memcpy(&bits, bytes + i / 8, static_cast<std::size_t>((count + 7) / 8));
        apply(dy.as<S>() + i, dx.as<S>() + i, bits, scale, count);
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
