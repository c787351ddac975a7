// y[i] = table[x[i]], the results of an operation on halves by the bits of the operand (ops/half_table.h).
//
// By gathers: a lane of 32 bits holds two halves, and what is read at the place of the lower one, and 2 bytes
// before the place of the upper one, has the results where the lane wants them. The same bits either way.
// Reads x once and writes y once; the table's lines come from the first-level cache for numbers around 0.
#include <immintrin.h>

#include "cpu/kernels.h"

namespace ts::cpu::TS_ISA {

namespace {

// How many numbers of a row were looked up, from the first on.
std::int64_t gather_pairs([[maybe_unused]] const std::uint16_t* table,
                          [[maybe_unused]] const std::uint16_t* x, [[maybe_unused]] std::uint16_t* y,
                          [[maybe_unused]] std::int64_t n) {
  std::int64_t i = 0;
#if defined(__AVX512F__)
  const __m512i lower = _mm512_set1_epi32(0xffff);
  for (; i + 32 <= n; i += 32) {
    const __m512i pairs = _mm512_loadu_si512(x + i);
    const __m512i even = _mm512_i32gather_epi32(_mm512_and_si512(pairs, lower), table, 2);
    const __m512i odd = _mm512_i32gather_epi32(_mm512_srli_epi32(pairs, 16), table - 1, 2);
    _mm512_storeu_si512(y + i, _mm512_mask_blend_epi16(0xaaaaaaaa, even, odd));
  }
#elif defined(__AVX2__)
  const __m256i lower = _mm256_set1_epi32(0xffff);
  const int* const at = reinterpret_cast<const int*>(table);
  const int* const before = reinterpret_cast<const int*>(table - 1);
  for (; i + 16 <= n; i += 16) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    const __m256i even = _mm256_i32gather_epi32(at, _mm256_and_si256(pairs, lower), 2);
    const __m256i odd = _mm256_i32gather_epi32(before, _mm256_srli_epi32(pairs, 16), 2);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), _mm256_blend_epi16(even, odd, 0xaa));
  }
#endif
  return i;
}

}  // namespace

void half_look_up(In table, In x, Out y, bool by_gathers) {
  const std::uint16_t* const results = table.as<std::uint16_t>();
  for (std::int64_t row = 0; row < y.shape[0]; ++row) {
    const std::uint16_t* const from = x.as<std::uint16_t>() + row * x.strides[0];
    std::uint16_t* const to = y.as<std::uint16_t>() + row * y.strides[0];
    const std::int64_t n = y.shape[1], step = x.strides[1];
    std::int64_t i = by_gathers && step == 1 ? gather_pairs(results, from, to, n) : 0;
    for (; i < n; ++i) to[i] = results[from[i * step]];
  }
}

}  // namespace ts::cpu::TS_ISA
