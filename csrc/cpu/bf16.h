// bfloat16 operands of products and convolutions: rounded where they are float32, packed for the tiles of
// gemm_bf16.cpp and conv_records.h.
//
// A square is 32 lanes (rows of A, columns of B) by 32 k, 2 KiB, padded with zeros:
//
//   rows:   dst[lane][k]                                 two AMX tiles of 16 rows
//   pairs:  dst[lane / 16][k / 2][lane % 16][k % 2]      two AMX tiles of B; a register is 16 columns, two k
//
// AVX-512 with avx512_bf16 only: include it behind their check. float32 is rounded half to even; subnormal
// numbers count as 0, as they do in the products.
#pragma once

#include "core/dtype.h"
#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kSquare = 32, kArea = kSquare * kSquare;

// The first n (at most 32) numbers from p on, as bfloat16; zeros behind them.
TS_INLINE __m512i load_bf16(const Bits16* p, std::int64_t n) {
  return _mm512_maskz_loadu_epi16(_bzhi_u32(~0u, static_cast<unsigned>(n)), p);
}
TS_INLINE __m512i load_bf16(const float* p, std::int64_t n) {
  const unsigned lanes = _bzhi_u32(~0u, static_cast<unsigned>(n));
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), p);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes >> 16), p + 16);
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// The 16 x 16 pairs in 16 registers, transposed.
TS_INLINE void transpose_pairs(__m512i (&r)[16]) {
  Vec<float> v[16];
  unroll<16>([&]<int i>() TS_LAMBDA { v[i] = Vec<float>(_mm512_castsi512_ps(r[i])); });
  transpose<float>(v);
  unroll<16>([&]<int i>() TS_LAMBDA { r[i] = _mm512_castps_si512(v[i].r); });
}

// Rows k and k + 1 of 32 lanes as pairs: of lanes 0 .. 15, or 16 .. 31.
template <int Half>
TS_INLINE __m512i zip(__m512i even, __m512i odd) {
  alignas(64) static constexpr std::uint16_t kOrder[2][32] = {
      {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
      {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
       24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
  return _mm512_permutex2var_epi16(even, _mm512_load_si512(kOrder[Half]), odd);
}

// One square from S = float or Bits16: element (lane, k) is at src + lane * lane_stride + k * k_stride, one
// of the strides being 1.
template <bool Pairs, class S>
TS_INLINE void pack_square(std::uint16_t* dst, const S* src, std::int64_t lane_stride, std::int64_t k_stride,
                           std::int64_t lanes, std::int64_t depth) {
  if (k_stride == 1) {
    const auto row = [&](std::int64_t lane) TS_LAMBDA {
      return lane < lanes ? load_bf16(src + lane * lane_stride, depth) : _mm512_setzero_si512();
    };
    if constexpr (!Pairs) {
      for (std::int64_t i = 0; i < kSquare; ++i) _mm512_storeu_si512(dst + i * kSquare, row(i));
    } else {
      for (std::int64_t half = 0; half < 2; ++half) {
        __m512i r[16];
        unroll<16>([&]<int i>() TS_LAMBDA { r[i] = row(16 * half + i); });
        transpose_pairs(r);
        unroll<16>([&]<int i>() TS_LAMBDA { _mm512_storeu_si512(dst + (16 * half + i) * kSquare, r[i]); });
      }
    }
    return;
  }
  const auto row = [&](std::int64_t k) TS_LAMBDA {
    return k < depth ? load_bf16(src + k * k_stride, lanes) : _mm512_setzero_si512();
  };
  if constexpr (Pairs) {
    for (std::int64_t k = 0; k < kSquare; k += 2) {
      const __m512i even = row(k), odd = row(k + 1);
      _mm512_storeu_si512(dst + k / 2 * kSquare, zip<0>(even, odd));
      _mm512_storeu_si512(dst + (16 + k / 2) * kSquare, zip<1>(even, odd));
    }
  } else {
    const auto half = [&]<int h>() TS_LAMBDA {
      __m512i r[16];
      unroll<16>([&]<int i>() TS_LAMBDA { r[i] = zip<h>(row(2 * i), row(2 * i + 1)); });
      transpose_pairs(r);
      unroll<16>([&]<int i>() TS_LAMBDA { _mm512_storeu_si512(dst + (16 * h + i) * kSquare, r[i]); });
    };
    half.template operator()<0>();
    if (lanes > 16)
      half.template operator()<1>();
    else
      for (int i = 16; i < 32; ++i) _mm512_storeu_si512(dst + i * kSquare, _mm512_setzero_si512());
  }
}

// Panels of up to 32 lanes, each ceil(depth / 32) squares in ascending k. The order of the loops is that of
// the source's memory.
template <bool Pairs, class S>
[[gnu::noinline]] void pack_squares(std::uint16_t* dst, const S* src, std::int64_t lane_stride,
                                    std::int64_t k_stride, std::int64_t lanes, std::int64_t depth) {
  const std::int64_t steps = (depth + kSquare - 1) / kSquare;
  if (k_stride == 1 && !Pairs && lanes == kSquare && depth % kSquare == 0) {  // a copy
    for (std::int64_t i = 0; i < kSquare; ++i) {
      const S* const p = src + i * lane_stride;
      for (std::int64_t s = 0; s < steps; ++s) {
        if constexpr (sizeof(S) == 2)
          _mm512_storeu_si512(dst + s * kArea + i * kSquare, _mm512_loadu_si512(p + s * kSquare));
        else
          _mm512_storeu_si512(dst + s * kArea + i * kSquare, load_bf16(p + s * kSquare, kSquare));
      }
    }
    return;
  }
  const std::int64_t panels = (lanes + kSquare - 1) / kSquare;
  const auto square = [&](std::int64_t panel, std::int64_t step) TS_LAMBDA {
    const std::int64_t first = panel * kSquare, k = step * kSquare;
    const std::int64_t width = lanes - first < kSquare ? lanes - first : kSquare;
    const std::int64_t height = depth - k < kSquare ? depth - k : kSquare;
    const S* const p = src + first * lane_stride + k * k_stride;
    std::uint16_t* const to = dst + (panel * steps + step) * kArea;
    if (k_stride == 1 || lane_stride == 1 || width == 1) {
      pack_square<Pairs>(to, p, lane_stride, k_stride, width, height);
      return;
    }
    S dense[kArea];  // neither stride is 1
    for (std::int64_t i = 0; i < width; ++i)
      for (std::int64_t j = 0; j < height; ++j) dense[i * kSquare + j] = p[i * lane_stride + j * k_stride];
    pack_square<Pairs>(to, dense, kSquare, 1, width, height);
  };
  if (k_stride == 1) {
    for (std::int64_t panel = 0; panel < panels; ++panel)
      for (std::int64_t step = 0; step < steps; ++step) square(panel, step);
  } else {
    for (std::int64_t step = 0; step < steps; ++step)
      for (std::int64_t panel = 0; panel < panels; ++panel) square(panel, step);
  }
}

// Eight AMX registers of 16 rows of 64 bytes, for _tile_loadconfig.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};
  std::uint8_t rows[16] = {};
  TileConfig() {
    for (int i = 0; i < 8; ++i) bytes[i] = 64, rows[i] = 16;
    written();
  }
  // GCC's intrinsic says that it reads 8 bytes of the 64: the others' stores might be dropped.
  void written() const { asm volatile("" ::"r"(this) : "memory"); }
};

}  // namespace ts::cpu::TS_ISA
