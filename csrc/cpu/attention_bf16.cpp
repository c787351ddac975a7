// Attention of bfloat16 numbers, y_i = sum_j p_ij v_j / sum_j p_ij, on the tiles of bf16_tile.h: scores, sums
// and y so far in float32, p rounded to bfloat16 for its product with v (Dao et al. 2022).
//
// B batches, H heads of queries, G heads of keys, T queries, S keys, D and E features of keys and of values.
// A unit packs the keys and values that L2 holds, read where they are, and passes over them with 32 queries
// at a time: scores of up to 256 keys in L1, their exponentials rounded in place, and y, which is scaled by
// 2^(m - m') where a block raises the maximum.
//
// Bits: a query's result depends on its own row, the keys, the values and the engine alone. Blocks lie at
// multiples of 256 keys; sums are those of ADR 6 over D and over the keys from 0. Keys that are hidden add
// exact zeros.
//
// Cost: 2 T S (D + E) flops and T S exponentials, half of both if causal; packs k and v once per unit.
#include "cpu/attention_bf16.h"

#if defined(__AVX512F__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,amx-tile,amx-bf16")
#endif
#include "cpu/attention_tile.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kBlock = 256;           // keys
constexpr std::int64_t kPitch = kBlock + 16;   // of rows of scores: an odd number of lines
constexpr std::int64_t kPacked = 1 << 20;      // bytes of keys and values
constexpr std::int64_t kMostQueries = 1024;    // of a unit
constexpr std::int64_t kUnitSums = 512 << 10;  // bytes
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// 32 or fewer rows of queries: one head's, or, where T = 1, those of several heads.
struct Queries {
  std::int64_t h, t, rows;
  bool of_heads;
  TS_INLINE std::int64_t head(std::int64_t i) const { return of_heads ? h + i : h; }
  TS_INLINE std::int64_t time(std::int64_t i) const { return of_heads ? t : t + i; }
  TS_INLINE std::int64_t times() const { return of_heads ? 1 : rows; }
};

struct Attending {
  const AttentionShape& shape;
  const Shade shade;
  const Drops& drops;
  const Bf16Engine engine;
  const float scale;  // with log2(e)
  const Queries here;
  std::uint16_t* q;          // scratch: packed queries
  float *y, *m, *lanes, *s;  // squares of y; of each query the largest score and 16 sums of exponentials

  // What is added to the scores, or that they are not scaled up: then they are scaled before the maximum.
  TS_INLINE bool scaled_first() const { return shade.added() || !(scale > 0); }

  void start() const {
    for (std::int64_t i = 0; i < here.rows; ++i) m[i] = kNothing;
    std::memset(lanes, 0, static_cast<std::size_t>(here.rows) * 64);
  }

  // The scores of the 32 or fewer keys from j, at s + c.
  void hide(std::int64_t c, std::int64_t j, std::int64_t n) const {
    const bool first = scaled_first(), added = shade.added();
    const std::uint32_t real = shade.real(j, n);
    const __m512 nothing = _mm512_set1_ps(kNothing), factor = _mm512_set1_ps(scale);
    for (std::int64_t i = 0; i < here.rows; ++i) {
      float* const row = s + i * kPitch + c;
      const std::uint32_t seen = shade.seen(here.head(i), here.time(i), j, n, real);
      __m512 low = _mm512_loadu_ps(row), high = _mm512_loadu_ps(row + 16);
      if (first) {
        __m512 a = _mm512_setzero_ps(), b = a;
        if (added) shade.read_added(here.head(i), here.time(i), j, n, a, b);
        low = _mm512_fmadd_ps(low, factor, a), high = _mm512_fmadd_ps(high, factor, b);
      }
      _mm512_storeu_ps(row, _mm512_mask_mov_ps(nothing, static_cast<__mmask16>(seen), low));
      _mm512_storeu_ps(row + 16, _mm512_mask_mov_ps(nothing, static_cast<__mmask16>(seen >> 16), high));
    }
  }

  // The exponentials of scores [begin, end) of a block from key j, rounded in place: number c of a row is
  // then the 16 bits from 2 c bytes on. The rows of y follow a maximum that rises.
  void exponentials(std::int64_t j, std::int64_t begin, std::int64_t end) const {
    const float factor = scaled_first() ? 1.0f : scale;
    const __m512 f = _mm512_set1_ps(factor);
    for (std::int64_t i = 0; i < here.rows; ++i) {
      float* const row = s + i * kPitch;
      __m512 a = _mm512_loadu_ps(row + begin), b = _mm512_loadu_ps(row + begin + 16);
      for (std::int64_t c = begin + 32; c < end; c += 32) {
        a = _mm512_max_ps(_mm512_loadu_ps(row + c), a);
        b = _mm512_max_ps(_mm512_loadu_ps(row + c + 16), b);
      }
      float& before = m[i];
      const float block = _mm512_reduce_max_ps(_mm512_max_ps(a, b)) * factor,
                  now = block > before ? block : before;
      __m512 sum = _mm512_loadu_ps(lanes + i * 16);
      if (now > before) {
        if (before > kNothing) {
          const __m512 fall = weight_of(_mm512_set1_ps(before - now));
          for (std::int64_t e = 0; e < squares(shape.E); ++e) {
            float* const out = y + e * kArea + i * kSquare;
            _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_loadu_ps(out), fall));
            _mm512_storeu_ps(out + 16, _mm512_mul_ps(_mm512_loadu_ps(out + 16), fall));
          }
          sum = _mm512_mul_ps(sum, fall);
        }
        before = now;
      }
      const __m512 shift = _mm512_set1_ps(now > kNothing ? now : 0.0f);
      auto* const weights = reinterpret_cast<std::uint16_t*>(row);
      const std::int64_t line = (shade.b * shape.H + here.head(i)) * shape.T + here.time(i);
#pragma GCC unroll 2
      for (std::int64_t c = begin; c < end; c += 32) {
        // Products are rounded as the maximum was, or the weight of a large one would not be 1.
        const __m512 low = weight_of(_mm512_sub_ps(_mm512_mul_ps(_mm512_loadu_ps(row + c), f), shift)),
                     high = weight_of(_mm512_sub_ps(_mm512_mul_ps(_mm512_loadu_ps(row + c + 16), f), shift));
        sum = _mm512_add_ps(_mm512_add_ps(sum, low), high);
        __m512i p = rounded(low, high);
        if (drops.generator) [[unlikely]]
          p = _mm512_maskz_mov_epi16(drops.kept(j + c, line), p);
        _mm512_storeu_si512(weights + c, p);
      }
      _mm512_storeu_ps(lanes + i * 16, sum);
    }
  }

  // Keys [j, j + n) of a block: panels of keys, and squares of values whose panels are `deep` squares apart.
  // Whether any is seen.
  bool block(std::int64_t j, std::int64_t n, const std::uint16_t* kp, const std::uint16_t* vp,
             std::int64_t deep, bool fresh) const {
    const Range seen = shape.seen(here.t, here.t + here.times(), j, j + n);
    if (seen.begin >= seen.end) return false;
    const std::int64_t begin = (seen.begin - j) / kSquare, end = squares(seen.end - j),
                       steps = squares(shape.D);
    const bool always = shade.masked() || scaled_first();
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t c = p * kSquare, wide = least(kSquare, n - c);
      multiply_tile(engine, here.rows, wide, steps, {q, kSquare, kArea}, kp + p * steps * kArea, true, s + c,
                    kPitch);
      if (always || wide < kSquare || !shape.all_see(here.t, here.times(), j + c, kSquare))
        hide(c, j + c, wide);
    }
    exponentials(j, begin * kSquare, end * kSquare);
    const auto* const weights = reinterpret_cast<const std::uint16_t*>(s) + begin * kSquare;
    for (std::int64_t e = 0; e < squares(shape.E); ++e)
      multiply_tile(engine, here.rows, shape.E - e * kSquare, end - begin, {weights, 2 * kPitch, kSquare},
                    vp + (e * deep + begin) * kArea, fresh, y + e * kArea);
    return true;
  }

  // y / sum of exponentials, which dropout enlarges by `factor`, and the logsumexp.
  void finish(const Out& out, const Out& logsumexp, bool fresh, float factor) const {
    for (std::int64_t i0 = 0; i0 < here.rows; i0 += 16) {
      const std::int64_t count = least(16, here.rows - i0);
      alignas(64) float total[16] = {}, log[16];
      for (std::int64_t i = 0; i < count; ++i)
        total[i] = _mm512_reduce_add_ps(_mm512_loadu_ps(lanes + (i0 + i) * 16));
      vmath::log2(Vec<float>::load(total)).store(log);
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t row = i0 + i, h = here.head(row), t = here.time(row);
        // A query that sees no key: y = 0, and every exponential of backward will be 0.
        const bool none = total[i] == 0;
        logsumexp.as<float>()[(shade.b * shape.H + h) * shape.T + t] =
            none ? std::numeric_limits<float>::infinity() : m[row] + log[i];
        const __m512 by = _mm512_set1_ps(none ? 0.0f : factor / total[i]);
        std::uint16_t* const to =
            out.as<std::uint16_t>() + shade.b * out.strides[0] + h * out.strides[1] + t * out.strides[2];
        for (std::int64_t e = 0; e < shape.E; e += kSquare) {
          const float* const from = y + e * kSquare + row * kSquare;
          const __m512i x = fresh || none ? _mm512_setzero_si512()
                                          : rounded(_mm512_mul_ps(_mm512_loadu_ps(from), by),
                                                    _mm512_mul_ps(_mm512_loadu_ps(from + 16), by));
          _mm512_mask_storeu_epi16(to + e, _bzhi_u32(~0u, static_cast<unsigned>(least(32, shape.E - e))), x);
        }
      }
    }
  }
};

}  // namespace

void attention_bf16(const In& q, const In& k, const In& v, const In& mask, const In& keys, const Drops& drops,
                    const Out& y, const Out& logsumexp, const Attention& options) {
  const AttentionShape shape(q, k, v, options);
  const std::int64_t group = shape.H / shape.G, D = squares(shape.D), E = squares(shape.E);
  // A unit: up to 1024 queries of one head, or several heads of few queries that share keys.
  std::int64_t most = least(kMostQueries, kUnitSums / (E * kArea * 4) * kSquare);
  if (most < kSquare) most = kSquare;
  while (most > 256 && shape.B * shape.H * (shape.T / most + 1) < 16) most /= 2;
  const Panels parts(shape.T, most, kSquare);
  const bool of_heads = shape.T == 1;
  const std::int64_t tall = of_heads ? 1 : round_up(shape.T, kSquare);
  const std::int64_t together = parts.count > 1 ? 1 : most / tall < group ? most / tall : group;
  const std::int64_t bundles = (group + together - 1) / together;
  const std::int64_t units = shape.B * shape.G * bundles * parts.count;
  const double flops = 2.0 * static_cast<double>(parts.width * together) * static_cast<double>(shape.S) *
                           static_cast<double>(shape.D + shape.E + 64) +
                       1e3;
  const std::int64_t grain = flops < 1e7 ? static_cast<std::int64_t>(1e7 / flops) + 1 : 1;
  const float factor = static_cast<float>(options.dropout < 1 ? 1 / (1 - options.dropout) : 0);
  parallel_ranges(units, grain, [&](std::int64_t begin, std::int64_t end) {
    const TilesInUse tiles(options.engine);
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t part = unit % parts.count, bundle = unit / parts.count % bundles;
      const std::int64_t g = unit / (parts.count * bundles) % shape.G,
                         b = unit / (parts.count * bundles * shape.G);
      const std::int64_t h0 = g * group + bundle * together, heads = least(together, (g + 1) * group - h0);
      const std::int64_t t0 = parts.first(part), rows = parts.lanes(part);
      const Range seen = shape.seen(t0, t0 + rows, 0, shape.S);
      // Keys from a multiple of a block on, as many at a time as are packed together.
      const std::int64_t j0 = seen.begin < seen.end ? seen.begin / kBlock * kBlock : seen.end;
      std::int64_t once = kPacked / ((D + E) * kSquare * 2) / kBlock * kBlock;
      if (once < kBlock) once = kBlock;
      if (once > seen.end - j0) once = seen.end - j0;

      // Heads that share keys come one after the other; of T = 1, all at once.
      const std::int64_t lines = of_heads ? heads : rows, each = squares(lines);
      const std::int64_t count = of_heads ? each : heads * each;
      const bool kept = seen.end - j0 > once;  // sums wait for more keys
      const std::int64_t deep = squares(once);
      auto* const kp = static_cast<std::uint16_t*>(scratch());
      std::uint16_t* const vp = kp + deep * D * kArea;
      std::uint16_t* const qp = vp + deep * E * kArea;
      float* const s = reinterpret_cast<float*>(qp + D * kArea);
      float* const state = s + kSquare * kPitch;
      const std::int64_t size = E * kArea + kSquare * 16 + kSquare;
      const auto head_of = [&](const View& x, std::int64_t h) {
        return static_cast<const Bits16*>(x.data) + b * x.strides[0] + h * x.strides[1];
      };
      bool first = true;
      for (std::int64_t from = j0; first || from < seen.end; from += once, first = false) {
        const std::int64_t width = least(once, seen.end - from);
        const bool last = from + once >= seen.end;
        if (width > 0) {
          pack_squares<true>(kp, head_of(k, g) + from * k.strides[2], k.strides[2], k.strides[3], width,
                             shape.D);
          pack_squares<true>(vp, head_of(v, g) + from * v.strides[2], v.strides[3], v.strides[2], shape.E,
                             width);
        }
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t at = i % each * kSquare, h = of_heads ? h0 + at : h0 + i / each;
          const Queries here{h, of_heads ? t0 : t0 + at, least(kSquare, lines - at), of_heads};
          float* const sums = state + (kept ? i : 0) * size;
          float* const lanes = sums + E * kArea;
          const Attending a{shape,
                            {shape, mask, keys, b},
                            drops,
                            options.engine,
                            static_cast<float>(options.scale * kLog2E),
                            here,
                            qp,
                            sums,
                            lanes + kSquare * 16,
                            lanes,
                            s};
          if (first) a.start();
          // Whether no block before this one was seen: the blocks that are seen are neighbours.
          const Range own = shape.seen(here.t, here.t + here.times(), 0, shape.S);
          bool fresh = own.begin >= own.end || from <= own.begin;
          if (width > 0 && own.begin < from + width && own.end > from) {
            pack_squares<false>(qp, head_of(q, h) + here.t * q.strides[2],
                                of_heads ? q.strides[1] : q.strides[2], q.strides[3], here.rows, shape.D);
            for (std::int64_t j = from; j < from + width; j += kBlock)
              fresh &= !a.block(j, least(kBlock, from + width - j), kp + (j - from) / kSquare * D * kArea,
                                vp + (j - from) / kSquare * kArea, squares(width), fresh);
          }
          if (last) a.finish(y, logsumexp, fresh, factor);
        }
      }
    }
  });
}

}  // namespace ts::cpu::TS_ISA

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace ts::cpu::TS_ISA {

// csrc/ops computes in float32 where no engine for bfloat16 is to be had, which is so on this level.
void attention_bf16(const In&, const In&, const In&, const In&, const In&, const Drops&, const Out&,
                    const Out&, const Attention&) {
  __builtin_trap();
}

}  // namespace ts::cpu::TS_ISA
#endif
