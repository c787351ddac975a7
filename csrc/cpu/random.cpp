// Random numbers: y[i] is a function of the state and of i, and of nothing else (math/philox.h).
//
// Words of 32 bits a value takes from its block (4 words): random_bits, random_bernoulli and float32
// uniform, normal and exponential 1; float64 and random_integers 2 (4 where high - low >= 2^32);
// permutation 2. After a draw of n values the counter has moved by the blocks touched, the last one counted
// whole. y is contiguous. Every kernel writes y once; Philox costs 0.25 ns a word with AVX-512.
#include "cpu/random.h"

#include <cmath>
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/types.h"
#include "math/box_muller.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrain = 32768;  // values of a piece; a multiple of every group

// make(w, a, b): from a group's words to the first (a) and second (b) 8 bytes of output of each block.
// kPerBlock values of T lie in the 16 bytes of a block.
template <class T, class Make>
void fill(Out state, Out y, const Make& make) {
  constexpr int kPerBlock = 16 / sizeof(T);
  constexpr int kGroup = kPerBlock * kGroupBlocks;
  static_assert(kGroup * sizeof(T) == 2 * kVectorBytes && kGrain % kGroup == 0);
  const std::int64_t n = y.size();
  T* const out = y.as<T>();
  const Generator generator(state, (n + kPerBlock - 1) / kPerBlock);
  parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += kGroup) {
      U64 w[4], a, b;
      generator.blocks(i / kPerBlock, w);
      make(w, a, b);
      in_memory_order(a, b);
      if (i + kGroup <= end) {
        std::memcpy(out + i, &a.r, kVectorBytes);
        std::memcpy(out + i + kGroup / 2, &b.r, kVectorBytes);
      } else {
        const U64 group[2] = {a, b};
        std::memcpy(out + i, group, static_cast<std::size_t>(end - i) * sizeof(T));
      }
    }
  });
}

template <class T>
TS_INLINE Vec<T> as(U64 a) {
  return Vec<T>(typename Vec<T>::Reg(a.r));
}
template <class T>
TS_INLINE U64 bits(Vec<T> a) {
  return U64(U64::Reg(a.r));
}

}  // namespace

void random_bits(Out state, Out y) {
  fill<std::uint32_t>(state, y, [](const U64(&w)[4], U64& a, U64& b) {
    a = pair(w[0], w[1]);
    b = pair(w[2], w[3]);
  });
}

// low + u (high - low), u = 24 (float32) or 53 bits over their range; where rounding would give high,
// the number below it.
void random_uniform(Out state, Out y, double low, double high) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    const T lo = static_cast<T>(low), hi = static_cast<T>(high);
    const Vec<T> base(lo), scale(static_cast<T>((high - low) * (sizeof(T) == 4 ? 0x1p-24 : 0x1p-53)));
    const Vec<T> last(lo < hi ? std::nextafter(hi, lo) : lo);
    fill<T>(state, y, [=](const U64(&w)[4], U64& a, U64& b) {
      a = pair(w[0], w[1]);
      b = pair(w[2], w[3]);
      if constexpr (sizeof(T) == 4) {
        a = bits(min(fma(to_float_24(as<std::uint32_t>(a)), scale, base), last));
        b = bits(min(fma(to_float_24(as<std::uint32_t>(b)), scale, base), last));
      } else {
        a = bits(min(fma(to_double_53(a), scale, base), last));
        b = bits(min(fma(to_double_53(b), scale, base), last));
      }
    });
  });
}

// mean + std z. float32: words 0 and 1 of a block give z0 and z1, words 2 and 3 give z2 and z3.
// float64: the block's two 64-bit words give z0 and z1.
void random_normal(Out state, Out y, double mean, double std) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    const Vec<T> shift(static_cast<T>(mean)), scale(static_cast<T>(std));
    fill<T>(state, y, [=](const U64(&w)[4], U64& a, U64& b) {
      Vec<T> z0, z1;
      if constexpr (sizeof(T) == 4) {
        const U32 u = as<std::uint32_t>(pair(w[0], w[2])), v = as<std::uint32_t>(pair(w[1], w[3]));
        BoxMuller<T>::pair(u, v, z0, z1);
        const U64 even = bits(fma(z0, scale, shift)), odd = bits(fma(z1, scale, shift));
        a = pair(even, odd);
        b = pair(even >> 32, odd >> 32);
      } else {
        BoxMuller<T>::pair(pair(w[0], w[1]), pair(w[2], w[3]), z0, z1);
        a = bits(fma(z0, scale, shift));
        b = bits(fma(z1, scale, shift));
      }
    });
  });
}

// -scale ln u, u = (word + 1/2) 2^-32 (float32) or (53 bits + 1/2) 2^-53.
void random_exponential(Out state, Out y, double scale) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    const Vec<T> half(static_cast<T>(scale / 2));
    fill<T>(state, y, [=](const U64(&w)[4], U64& a, U64& b) {
      a = pair(w[0], w[1]);
      b = pair(w[2], w[3]);
      using Word = typename BoxMuller<T>::Word;
      a = bits(BoxMuller<T>::minus_two_log(BoxMuller<T>::open(as<Word>(a))) * half);
      b = bits(BoxMuller<T>::minus_two_log(BoxMuller<T>::open(as<Word>(b))) * half);
    });
  });
}

// word < p 2^32: p is met to 2^-33, 0 and 1 exactly.
void random_bernoulli(Out state, Out y, double p) {
  const std::int64_t n = y.size();
  std::uint8_t* const out = y.as<std::uint8_t>();
  const Generator generator(state, (n + 3) / 4);
  const std::uint64_t threshold = static_cast<std::uint64_t>(p * 0x1p32 + 0.5);
  if (threshold >> 32) {
    std::memset(out, 1, static_cast<std::size_t>(n));
    return;
  }
  typedef std::uint8_t Bytes __attribute__((vector_size(U32::width)));
  parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const U32 limit(static_cast<std::uint32_t>(threshold));
    for (std::int64_t i = begin; i < end; i += kGroupWords) {
      U32 words[2];
      group_words(generator, i / 4, words[0], words[1]);
      Bytes group[2];
      for (int j = 0; j < 2; ++j)
        group[j] = __builtin_convertvector(U32::Reg((words[j] < limit).r) & 1u, Bytes);
      if (i + kGroupWords <= end)
        std::memcpy(out + i, group, kGroupWords);
      else
        std::memcpy(out + i, group, static_cast<std::size_t>(end - i));
    }
  });
}

// low + floor(w (high - low) / 2^64) with a 64-bit word w: no value is more likely than another by
// more than 2^-32 of its probability. From high - low = 2^32 on, w has 128 bits, and the bias is < 2^-64.
void random_integers(Out state, Out y, std::int64_t low, std::int64_t high) {
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  const U64 base(static_cast<std::uint64_t>(low));
  if (range >> 32 == 0) {
    const U64 r(range);
    return fill<std::uint64_t>(state, y, [=](const U64(&w)[4], U64& a, U64& b) {
      // (high word · range + (low word · range >> 32)) >> 32: does not overflow
      a = ((multiply_low32(w[1], r) + (multiply_low32(w[0], r) >> 32)) >> 32) + base;
      b = ((multiply_low32(w[3], r) + (multiply_low32(w[2], r) >> 32)) >> 32) + base;
    });
  }
  const std::int64_t n = y.size();
  std::uint64_t* const out = y.as<std::uint64_t>();
  const Generator generator(state, n);
  parallel_ranges(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += kGroupBlocks) {
      U64 w[4];
      generator.blocks(i, w);
      U64 a = pair(w[0], w[1]), b = pair(w[2], w[3]);
      in_memory_order(a, b);
      const U64 group[2] = {a, b};
      std::uint64_t words[2 * kGroupBlocks];
      std::memcpy(words, group, sizeof words);
      for (int j = 0; j < kGroupBlocks && i + j < end; ++j) {
        using Wide = unsigned __int128;
        const std::uint64_t carry = static_cast<std::uint64_t>((Wide{words[2 * j]} * range) >> 64);
        out[i + j] = static_cast<std::uint64_t>((Wide{words[2 * j + 1]} * range + carry) >> 64) +
                     static_cast<std::uint64_t>(low);
      }
    }
  });
}

// Fisher and Yates from the inside out: y[i] = y[j], y[j] = i with j = floor(w (i + 1) / 2^64).
void random_permutation(Out state, Out y) {
  const std::int64_t n = y.size();
  std::int64_t* const out = y.as<std::int64_t>();
  const Generator generator(state, (n + 1) / 2);
  constexpr int kGroup = 2 * kGroupBlocks;
  for (std::int64_t begin = 0; begin < n; begin += kGroup) {
    U64 w[4];
    generator.blocks(begin / 2, w);
    U64 a = pair(w[0], w[1]), b = pair(w[2], w[3]);
    in_memory_order(a, b);
    const U64 group[2] = {a, b};
    std::uint64_t words[kGroup];
    std::memcpy(words, group, sizeof words);
    for (std::int64_t i = begin; i < begin + kGroup && i < n; ++i) {
      const unsigned __int128 product =
          static_cast<unsigned __int128>(words[i - begin]) * static_cast<std::uint64_t>(i + 1);
      const std::int64_t j = static_cast<std::int64_t>(product >> 64);
      out[i] = out[j];
      out[j] = i;
    }
  }
}

}  // namespace ts::cpu::TS_ISA
