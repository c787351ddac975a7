// What the two passes of attention of bfloat16 numbers share: exponentials for weights that are rounded to
// bfloat16, and which keys of a tile of 32 x 32 scores a query sees. Include it where bf16_tile.h may be.
#pragma once

#include "cpu/attention.h"
#include "cpu/bf16_tile.h"
#include "cpu/parallel.h"

namespace ts::cpu::TS_ISA {

TS_INLINE std::int64_t squares(std::int64_t n) { return (n + kSquare - 1) / kSquare; }

// 2^x, exact for whole x: within 4e-6 of itself, where weights are rounded to 2e-3; 0 for -inf, NaN for NaN.
TS_INLINE __m512 weight_of(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
  __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(0.013426685705780983f), _mm512_set1_ps(0.052242472767829895f));
  p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(0.2412802129983902f));
  p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(0.6930448412895203f));
  p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, x);
}

// Two registers rounded to one: `low` first.
TS_INLINE __m512i rounded(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}
TS_INLINE void widen(__m512i x, __m512& low, __m512& high) {
  const auto half = [](__m256i h) TS_LAMBDA {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
  };
  low = half(_mm512_castsi512_si256(x)), high = half(_mm512_extracti64x4_epi64(x, 1));
}

// Bit i: p[i * stride], of the first n (at most 32).
TS_INLINE std::uint32_t bools(const bool* p, std::int64_t stride, std::int64_t n) {
  const std::uint32_t all = _bzhi_u32(~0u, static_cast<unsigned>(n));
  if (stride == 0) return *p ? all : 0;
  if (stride == 1) {
    const __m256i x = _mm256_maskz_loadu_epi8(all, p);
    return _mm256_test_epi8_mask(x, x);
  }
  std::uint32_t bits = 0;
  for (std::int64_t i = 0; i < n; ++i) bits |= std::uint32_t{p[i * stride]} << i;
  return bits;
}

// The masks of one batch on tiles of 32 keys.
struct Shade {
  const AttentionShape& shape;
  const In &mask, &keys;
  std::int64_t b;

  TS_INLINE bool added() const { return mask && mask.dtype != DType::boolean; }
  TS_INLINE bool masked() const { return mask || keys; }
  // Of n keys from j: those that are not padding.
  TS_INLINE std::uint32_t real(std::int64_t j, std::int64_t n) const {
    if (!keys) return _bzhi_u32(~0u, static_cast<unsigned>(n));
    return bools(keys.as<bool>() + b * keys.strides[0] + j * keys.strides[1], keys.strides[1], n);
  }
  // Bit l: query t of head h sees key j + l, one of the n that are `real`.
  TS_INLINE std::uint32_t seen(std::int64_t h, std::int64_t t, std::int64_t j, std::int64_t n,
                               std::uint32_t real) const {
    const Range r = shape.seen(t, t + 1, j, j + n);
    if (r.begin >= r.end) return 0;
    std::uint32_t bits = real & _bzhi_u32(~0u, static_cast<unsigned>(r.end - j)) &
                         ~_bzhi_u32(~0u, static_cast<unsigned>(r.begin - j));
    if (mask && mask.dtype == DType::boolean)
      bits &= bools(mask.as<bool>() + at(h, t, j), mask.strides[3], n);
    return bits;
  }
  // log2(e) times what is added to the scores of query t of head h and n keys from j.
  TS_INLINE void read_added(std::int64_t h, std::int64_t t, std::int64_t j, std::int64_t n, __m512& low,
                            __m512& high) const {
    const Bits16* p = mask.as<Bits16>() + at(h, t, j);
    Bits16 row[32];
    if (mask.strides[3] != 1) {
      for (std::int64_t i = 0; i < n; ++i) row[i] = p[i * mask.strides[3]];
      p = row;
    }
    widen(load_bf16(p, n), low, high);
    const __m512 base = _mm512_set1_ps(static_cast<float>(kLog2E));
    low = _mm512_mul_ps(low, base), high = _mm512_mul_ps(high, base);
  }

 private:
  TS_INLINE std::int64_t at(std::int64_t h, std::int64_t t, std::int64_t j) const {
    return b * mask.strides[0] + h * mask.strides[1] + t * mask.strides[2] + j * mask.strides[3];
  }
};

}  // namespace ts::cpu::TS_ISA
