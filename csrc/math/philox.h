// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw (SC 2011).
//
// A block is four 32-bit words, a function of a 128-bit counter c and a 64-bit key k, ten rounds of
//   c0' = hi(M1 c2) ^ c1 ^ k0    c1' = lo(M1 c2)    c2' = hi(M0 c0) ^ c3 ^ k1    c3' = lo(M0 c0)
//   k0 += W0, k1 += W1 between rounds.
// Here every word lies in the low half of a 64-bit lane, where one multiplication gives hi and lo
// together and what is in the upper halves does no harm: 6 instructions a round for U64::width blocks.
//
// How the engine numbers its draws: state = uint64 {seed, counter, stream};
//   key = seed (low word k0, high word k1);  c0, c1 = low and high word of counter + block;
//   c2, c3 = low and high word of stream.
// Element i of a draw reads block i / (words of a block / words of an element): its value depends on
// nothing but the state and i.
#pragma once

#include <cstdint>

#include "math/registers.h"

namespace ts::TS_MATH {

constexpr int kPhiloxRounds = 10;

struct PhiloxKeys {
  std::uint64_t k0[kPhiloxRounds], k1[kPhiloxRounds];  // 32-bit words, one pair a round

  TS_INLINE explicit PhiloxKeys(std::uint64_t seed) {
    std::uint32_t a = static_cast<std::uint32_t>(seed), b = static_cast<std::uint32_t>(seed >> 32);
    for (int i = 0; i < kPhiloxRounds; ++i, a += 0x9E3779B9u, b += 0xBB67AE85u) k0[i] = a, k1[i] = b;
  }
};

// c: counter words in the low halves of the lanes, replaced by the block's words (upper halves are garbage).
template <class U64>
TS_INLINE void philox(U64 (&c)[4], const PhiloxKeys& key) {
  const U64 m0(std::uint64_t{0xD2511F53u}), m1(std::uint64_t{0xCD9E8D57u});
  for (int i = 0; i < kPhiloxRounds; ++i) {
    const U64 p0 = multiply_low32(c[0], m0), p1 = multiply_low32(c[2], m1);
    c[0] = (p1 >> 32) ^ c[1] ^ U64(key.k0[i]);
    c[2] = (p0 >> 32) ^ c[3] ^ U64(key.k1[i]);
    c[1] = p1;
    c[3] = p0;
  }
}

// low halves of a and b to one 64-bit word, a first in memory.
TS_INLINE Vec<std::uint64_t> pair(Vec<std::uint64_t> a, Vec<std::uint64_t> b) {
  return (a & Vec<std::uint64_t>(std::uint64_t{0xffffffff})) | (b << 32);
}

// The upper 53 bits of every word as a double in [0, 2^53), exactly.
TS_INLINE Vec<double> to_double_53(Vec<std::uint64_t> word) {
  const Vec<std::uint64_t> magic(std::uint64_t{0x4330000000000000});  // 2^52
  const Vec<std::uint64_t> low = (word >> 11) & Vec<std::uint64_t>(std::uint64_t{0xffffffff});
  const Vec<double> h = bit_cast<double>((word >> 43) | magic) - Vec<double>(0x1p52);
  const Vec<double> l = bit_cast<double>(low | magic) - Vec<double>(0x1p52);
  return h * Vec<double>(0x1p32) + l;
}

// The upper 24 bits of every word as a float in [0, 2^24), exactly.
TS_INLINE Vec<float> to_float_24(Vec<std::uint32_t> word) {
  return convert<float>(bit_cast<std::int32_t>(word >> 8));
}

}  // namespace ts::TS_MATH
