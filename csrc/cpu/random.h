// Philox blocks in registers and in memory order, for the kernels that draw.
#pragma once

#include "core/view.h"
#include "cpu/simd.h"
#include "math/philox.h"

namespace ts::cpu::TS_ISA {

using U64 = Vec<std::uint64_t>;
using U32 = Vec<std::uint32_t>;

constexpr int kGroupBlocks = U64::width;       // blocks that one pass of philox() makes
constexpr int kGroupWords = 4 * kGroupBlocks;  // two registers of 32-bit words

class Generator {
 public:
  // Takes `blocks` blocks for itself: the next generator starts behind them. That happens before the
  // work does, so that two threads of a program never draw the same numbers.
  Generator(const Out& state, std::int64_t blocks)
      : counter_(state.as<std::uint64_t>()[1]),
        stream_(state.as<std::uint64_t>()[2]),
        keys_(state.as<std::uint64_t>()[0]) {
    state.as<std::uint64_t>()[1] = counter_ + static_cast<std::uint64_t>(blocks);
  }

  // kGroupBlocks blocks from `block` on, the words in the low halves of w. The lane 2L + j of a
  // register holds block j * kGroupBlocks / 2 + L: what in_memory_order() sets right.
  TS_INLINE void blocks(std::int64_t block, U64 (&w)[4]) const {
    U64 lane;
    for (int i = 0; i < kGroupBlocks; ++i)
      lane.r[i] = static_cast<std::uint64_t>((i & 1) * (kGroupBlocks / 2) + (i >> 1));
    blocks_at(lane + U64(static_cast<std::uint64_t>(block)), w);
  }
  // The blocks whose numbers the lanes hold.
  TS_INLINE void blocks_at(U64 block, U64 (&w)[4]) const {
    const U64 c = block + U64(counter_);
    w[0] = c;
    w[1] = c >> 32;
    w[2] = U64(stream_);
    w[3] = U64(stream_ >> 32);
    philox(w, keys_);
  }

 private:
  std::uint64_t counter_, stream_;
  PhiloxKeys keys_;
};

// a: the first 8 bytes of every block, b: the second 8 bytes, both as blocks() orders the lanes. On
// return a and b are the first and the second half of the group as it lies in memory.
TS_INLINE void in_memory_order(U64& a, U64& b) {
  using Reg = U64::Reg;
#if defined(__AVX512F__)
  const Reg x = Reg(_mm512_unpacklo_epi64(__m512i(a.r), __m512i(b.r)));
  const Reg y = Reg(_mm512_unpackhi_epi64(__m512i(a.r), __m512i(b.r)));
#elif defined(__AVX2__)
  const Reg x = Reg(_mm256_unpacklo_epi64(__m256i(a.r), __m256i(b.r)));
  const Reg y = Reg(_mm256_unpackhi_epi64(__m256i(a.r), __m256i(b.r)));
#else
  const Reg x = Reg(_mm_unpacklo_epi64(__m128i(a.r), __m128i(b.r)));
  const Reg y = Reg(_mm_unpackhi_epi64(__m128i(a.r), __m128i(b.r)));
#endif
  a = U64(x), b = U64(y);
}

// kGroupWords random words in memory order.
TS_INLINE void group_words(const Generator& generator, std::int64_t block, U32& first, U32& second) {
  U64 w[4];
  generator.blocks(block, w);
  U64 a = pair(w[0], w[1]), b = pair(w[2], w[3]);
  in_memory_order(a, b);
  first = U32(U32::Reg(a.r)), second = U32(U32::Reg(b.r));
}

// Bit i: word i >= limit.
TS_INLINE std::uint32_t at_least(U32 word, U32 limit) {
#if defined(__AVX512F__)
  return _mm512_cmpge_epu32_mask(__m512i(word.r), __m512i(limit.r));
#elif defined(__AVX2__)
  return static_cast<std::uint32_t>(_mm256_movemask_ps(__m256((word >= limit).r)));
#else
  return static_cast<std::uint32_t>(_mm_movemask_ps(__m128((word >= limit).r)));
#endif
}

// x where the lane's bit is 1, else 0.
template <class T>
TS_INLINE Vec<T> keep(Vec<T> x, std::uint32_t bits) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm512_maskz_mov_ps(static_cast<__mmask16>(bits), x.r));
  else
    return Vec<T>(_mm512_maskz_mov_pd(static_cast<__mmask8>(bits), x.r));
#else
  using I = IntOf<T>;
  Vec<I> lane;
  for (int i = 0; i < Vec<I>::width; ++i) lane.r[i] = I(1) << i;
  const Mask<I> on = (Vec<I>(static_cast<I>(bits)) & lane) != Vec<I>(I(0));
  return bit_cast<T>(bit_cast<I>(x) & Vec<I>(on.r));
#endif
}

}  // namespace ts::cpu::TS_ISA
