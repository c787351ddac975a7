// Tiles of 32 x 32 float32 sums over bfloat16 numbers: for kernels that are made of many products of blocks
// that lie packed in cache (convolution, attention).
//
// Include it behind a check for AVX-512 and after the pragma that allows AMX. The order of the sums is that
// of docs/adr/0006-bfloat16-products.md.
#pragma once

#include "cpu/bf16.h"

namespace ts::cpu::TS_ISA {

// --- AMX ------------------------------------------------------------------------------------------------
// The tile is in registers 0 and 2, its halves of 16 rows, and in 1 and 3, if Wide: more than 16 columns. Not
// Tall: the first half alone. In memory its rows are `pitch` floats apart.

template <bool Wide, bool Tall = true>
TS_INLINE void zero_tile() {
  _tile_zero(0);
  if constexpr (Wide) _tile_zero(1);
  if constexpr (Tall) _tile_zero(2);
  if constexpr (Wide && Tall) _tile_zero(3);
}
template <bool Wide, bool Tall = true>
TS_INLINE void load_tile(const float* sums, std::int64_t pitch = kSquare) {
  _tile_loadd(0, sums, pitch * 4);
  if constexpr (Wide) _tile_loadd(1, sums + 16, pitch * 4);
  if constexpr (Tall) _tile_loadd(2, sums + 16 * pitch, pitch * 4);
  if constexpr (Wide && Tall) _tile_loadd(3, sums + 16 * pitch + 16, pitch * 4);
}
template <bool Wide, bool Tall = true>
TS_INLINE void store_tile(float* sums, std::int64_t pitch = kSquare) {
  _tile_stored(0, sums, pitch * 4);
  if constexpr (Tall) _tile_stored(2, sums + 16 * pitch, pitch * 4);
  if constexpr (Wide) _tile_stored(1, sums + 16, pitch * 4);
  if constexpr (Wide && Tall) _tile_stored(3, sums + 16 * pitch + 16, pitch * 4);
}
// += 32 numbers of 32 rows, `row` apart, times a square of pairs. TMUL takes 16 cycles for each product.
// Streaming: pairs pass by L1, so that all of it is there for the rows.
template <bool Wide, bool Tall = true, bool Streaming = false>
TS_INLINE void multiply_step(const std::uint16_t* rows, std::int64_t row, const std::uint16_t* pairs) {
  const std::int64_t stride = row * 2;
  if constexpr (Streaming)
    _tile_stream_loadd(6, pairs, 64);
  else
    _tile_loadd(6, pairs, 64);
  _tile_loadd(4, rows, stride);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (Wide) {
    if constexpr (Streaming)
      _tile_stream_loadd(7, pairs + kArea / 2, 64);
    else
      _tile_loadd(7, pairs + kArea / 2, 64);
    _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (Tall) {
    _tile_loadd(5, rows + 16 * row, stride);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (Wide) _tile_dpbf16ps(3, 5, 7);
  }
}

// --- either engine ----------------------------------------------------------------------------------------

// Left sides: `steps` times 32 k of 32 rows, which are `row` numbers apart, the steps `step`. A packed panel
// of rows is {p, kSquare, kArea}.
struct TileRows {
  const std::uint16_t* p;
  std::int64_t row, step;
};

template <bool Wide, bool Tall>
[[gnu::noinline]] void multiply_tile_amx(std::int64_t steps, const TileRows& a, const std::uint16_t* pairs,
                                         bool fresh, float* sums, std::int64_t pitch) {
  fresh ? zero_tile<Wide, Tall>() : load_tile<Wide, Tall>(sums, pitch);
  const std::uint16_t* rows = a.p;
  for (std::int64_t s = 0; s < steps; ++s, rows += a.step, pairs += kArea)
    multiply_step<Wide, Tall>(rows, a.row, pairs);
  store_tile<Wide, Tall>(sums, pitch);
}

template <bool Wide, bool Tall>
[[gnu::noinline]] void multiply_tile_avx512(std::int64_t steps, const TileRows& a, const std::uint16_t* pairs,
                                            bool fresh, float* sums, std::int64_t pitch) {
  constexpr int R = 8, C = Wide ? 2 : 1;  // 8 or 16 chains
  for (std::int64_t i = 0; i < (Tall ? 32 : 16); i += R) {
    float* const to = sums + i * pitch;
    __m512 sum[R][C];
    unroll<R>([&]<int r>() TS_LAMBDA {
      unroll<C>([&]<int c>() TS_LAMBDA {
        sum[r][c] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(to + r * pitch + c * 16);
      });
    });
    for (std::int64_t s = 0; s < steps; ++s) {
      const std::uint16_t *rows = a.p + s * a.step + i * a.row, *pb = pairs + s * kArea;
      for (std::int64_t k = 0; k < kSquare; k += 2, rows += 2, pb += kSquare) {
        __m512bh b[C];
        unroll<C>([&]<int c>() TS_LAMBDA {
          b[c] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(pb + c * (kArea / 2)));
        });
        unroll<R>([&]<int r>() TS_LAMBDA {
          std::int32_t pair;
          std::memcpy(&pair, rows + r * a.row, 4);
          const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
          unroll<C>([&]<int c>() TS_LAMBDA { sum[r][c] = _mm512_dpbf16_ps(sum[r][c], x, b[c]); });
        });
      }
    }
    unroll<R>([&]<int r>() TS_LAMBDA {
      unroll<C>([&]<int c>() TS_LAMBDA { _mm512_storeu_ps(to + r * pitch + c * 16, sum[r][c]); });
    });
  }
}

// sums (32 x 32, rows `pitch` apart; as far as there are `rows` and `columns`, in 16s) = a times a panel of
// pairs, added to what is there unless `fresh`.
TS_INLINE void multiply_tile(Bf16Engine engine, std::int64_t rows, std::int64_t columns, std::int64_t steps,
                             const TileRows& a, const std::uint16_t* pairs, bool fresh, float* sums,
                             std::int64_t pitch = kSquare) {
  const auto run = [&]<bool Wide, bool Tall>() TS_LAMBDA {
    if (engine == Bf16Engine::amx)
      multiply_tile_amx<Wide, Tall>(steps, a, pairs, fresh, sums, pitch);
    else
      multiply_tile_avx512<Wide, Tall>(steps, a, pairs, fresh, sums, pitch);
  };
  if (rows > 16)
    columns > 16 ? run.template operator()<true, true>() : run.template operator()<false, true>();
  else
    columns > 16 ? run.template operator()<true, false>() : run.template operator()<false, false>();
}

// The tile registers are this thread's for as long as this lives. `rows` below 16: of tiles that are not
// Tall; TMUL takes less time for fewer.
struct TilesInUse {
  const bool amx;
  explicit TilesInUse(Bf16Engine engine, std::int64_t rows = 16) : amx(engine == Bf16Engine::amx) {
    if (!amx) return;
    TileConfig config;
    for (const int r : {0, 1, 4})
      if (rows < 16) config.rows[r] = static_cast<std::uint8_t>(rows);
    config.written();
    _tile_loadconfig(&config);
  }
  ~TilesInUse() {
    if (amx) _tile_release();
  }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;
};

}  // namespace ts::cpu::TS_ISA
