// The limit of products of bfloat16 numbers: acc[j] += a b in tile or vector registers; nothing is read or
// written. a and b use their whole mantissa, as numbers do: with zeros or ones in them tiles are a fifth
// faster, because a core's clock falls with what its multipliers have to do.
//
// P pieces; each piece is kFlops operations with either engine.
#include "cpu/kernels.h"

#if defined(__AVX512F__)
// Chosen at run time (core/dispatch.cpp) and used by this file alone.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,amx-tile,amx-bf16")
#endif
#include "cpu/bf16.h"
#include "cpu/parallel.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kFlops = std::int64_t{3} << 24;

// Numbers of either sign in [1, 2), in which every bit changes.
struct Operands {
  alignas(64) std::uint16_t numbers[4][kSquare / 2 * kSquare];
  Operands() {
    std::uint32_t state = 1;
    for (auto& tile : numbers)
      for (std::uint16_t& x : tile) {
        state = state * 1664525u + 1013904223u;
        x = static_cast<std::uint16_t>(0x3f80 | (state >> 16 & 0x807f));
      }
  }
};

// Four sums of 16 x 16: one product takes 16 cycles and is ready after 52.
float amx_chains(float b_value) {
  const TileConfig config;
  const Operands operands;
  alignas(64) float sums[4 * 16 * 16];
  for (float& x : sums) x = b_value;
  _tile_loadconfig(&config);
  _tile_loadd(0, sums, 64);
  _tile_loadd(1, sums, 64);
  _tile_loadd(2, sums, 64);
  _tile_loadd(3, sums, 64);
  _tile_loadd(4, operands.numbers[0], 64);
  _tile_loadd(5, operands.numbers[1], 64);
  _tile_loadd(6, operands.numbers[2], 64);
  _tile_loadd(7, operands.numbers[3], 64);
  for (std::int64_t i = 0; i < kFlops / (4 * 16 * 16 * 32 * 2); ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
  _tile_release();
  float total = 0;
  for (float x : sums) total += x;
  return total;
}

float vector_chains(float b_value) {
  constexpr int kChains = 12;
  __m512 acc[kChains];
  for (__m512& x : acc) x = _mm512_set1_ps(b_value);
  const Operands operands;
  const auto a = reinterpret_cast<__m512bh>(_mm512_load_si512(operands.numbers[0]));
  const auto b = reinterpret_cast<__m512bh>(_mm512_load_si512(operands.numbers[1]));
  for (std::int64_t i = 0; i < kFlops / (kChains * 32 * 2); ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kChains; ++j) acc[j] = _mm512_dpbf16_ps(acc[j], a, b);
  }
  for (int j = 1; j < kChains; ++j) acc[0] = _mm512_add_ps(acc[0], acc[j]);
  return _mm512_reduce_add_ps(acc[0]);
}

}  // namespace

// y, float32: as of fma_loop.
void bf16_loop(Out y, Bf16Engine engine) {
  float* const out = y.as<float>();
  const std::int64_t step = y.strides[0];
  parallel_for(y.shape[0], [&](std::int64_t p) {
    float& cell = out[p * step];
    cell = (engine == Bf16Engine::amx ? amx_chains(cell) : vector_chains(cell)) * 1e-9f;
  });
}

}  // namespace ts::cpu::TS_ISA

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace ts::cpu::TS_ISA {

// csrc/ops refuses it where no engine for bfloat16 is to be had, which is so on this level.
void bf16_loop(Out, Bf16Engine) { __builtin_trap(); }

}  // namespace ts::cpu::TS_ISA
#endif
