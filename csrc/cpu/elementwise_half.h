// Short pointwise formulas straight on bfloat16: loaded, computed in float32, rounded, stored.
//
// A register of 32-bit lanes holds pairs of numbers. The odd ones lie where a float32 has its upper half; the
// even ones are shifted there; the results go back by a shift and an or. No lane crosses another, which
// widening and narrowing in order would cost. Reads each operand once, writes y once.
#pragma once

#include "cpu/half.h"
#include "cpu/map.h"
#include "math/pointwise.h"

namespace ts::cpu::TS_ISA {

// Those that csrc/ops/half.cpp hands over as bfloat16.
template <class F>
constexpr bool takes_bfloat16 = false;
template <>
constexpr bool takes_bfloat16<formula::add> = true;
template <>
constexpr bool takes_bfloat16<formula::subtract> = true;
template <>
constexpr bool takes_bfloat16<formula::multiply> = true;
template <>
constexpr bool takes_bfloat16<formula::divide> = true;
template <>
constexpr bool takes_bfloat16<formula::relu> = true;
template <>
constexpr bool takes_bfloat16<formula::relu_backward> = true;

// F of the pairs in registers of each operand.
template <class F, class... Pairs>
TS_INLINE Vec<std::uint32_t> on_pairs(Pairs... x) {
  using Bits = Vec<std::uint32_t>;
  const Bits upper(0xffff0000u);
  const Bits even = rounded_to_bfloat16(F::apply(bit_cast<float>(x << 16)...));
  const Bits odd = rounded_to_bfloat16(F::apply(bit_cast<float>(x & upper)...));
  return (even >> 16) | (odd & upper);
}

template <class F, int Inputs>
void bfloat16_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  using Bits = Vec<std::uint32_t>;
  constexpr std::int64_t P = 2 * Bits::width;  // numbers in a register
  const std::uint16_t* x[Inputs];
  for (int k = 0; k < Inputs; ++k) x[k] = static_cast<const std::uint16_t*>(in[k]);
  std::uint16_t* const y = static_cast<std::uint16_t*>(out);
  const auto pairs = [](const std::uint16_t* p) {
    return Bits::load(reinterpret_cast<const std::uint32_t*>(p));
  };
  const auto apply = [&](const auto& at) {
    if constexpr (Inputs == 1)
      return on_pairs<F>(at(0));
    else
      return on_pairs<F>(at(0), at(1));
  };
  const auto whole = [&](std::int64_t i) {
    const Bits r = apply([&](int k) { return pairs(x[k] + i * step[k]); });
    std::memcpy(y + i, &r.r, sizeof(r.r));
  };
  std::int64_t i = 0;
  for (; i + 2 * P <= n; i += 2 * P) whole(i), whole(i + P);
  for (; i + P <= n; i += P) whole(i);
  if (i == n) return;
  alignas(64) std::uint16_t last[Inputs][P] = {};
  for (int k = 0; k < Inputs; ++k)
    std::memcpy(last[k], x[k] + i * step[k], static_cast<std::size_t>(step[k] ? n - i : P) * sizeof(**last));
  const Bits r = apply([&](int k) { return pairs(last[k]); });
  std::memcpy(y + i, &r.r, static_cast<std::size_t>(n - i) * sizeof(*y));
}

}  // namespace ts::cpu::TS_ISA
