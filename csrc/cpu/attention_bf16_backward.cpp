// The gradients of attention of bfloat16 numbers on the tiles of bf16_tile.h, from the scores computed again:
//
//   p_ij = 2^(s_ij - logsumexp_i)     dp_ij = dy_i . v_j     ds_ij = p_ij (dp_ij - delta_i)     delta_i =
//   dy_i . y_i dv_j = sum_i p_ij dy_i     dk_j = scale sum_i ds_ij q_i     dq_i = scale sum_j ds_ij k_j dmask
//   = ds
//
// B batches, H heads of queries, G heads of keys, T queries, S keys, D and E features of keys and of values.
// A piece takes one head of keys and one chunk of them, and of these as many at a time as L2 holds packed,
// with dk and dv. Queries pass by 256 at a time, keys 128: tiles of scores lie with the keys down and the
// queries across, so that p and ds, rounded to bfloat16, are left sides of dv and dk where they are written,
// and ds, its rows zipped, the right side of dq transposed.
//
// Bits: sums are those of ADR 6, dk and dv over heads and queries, dq over the keys of a chunk; chunks are
// added in order.
//
// Cost: 2 T S (3 D + 2 E) flops and T S exponentials, half of both if causal; packs q, k, v and dy, each in
// two ways, once per chunk.
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

constexpr std::int64_t kRows = 256, kColumns = 128;                            // queries and keys of a block
constexpr std::int64_t kDown = kColumns / kSquare, kAcross = kRows / kSquare;  // in tiles

// 16 x 16 numbers at `from`, rows 32 apart, to columns of `to`.
TS_INLINE void transpose_square(const float* from, float* to) {
  Vec<float> r[16];
  unroll<16>([&]<int i>() TS_LAMBDA { r[i] = Vec<float>::load(from + i * kSquare); });
  transpose<float>(r);
  unroll<16>([&]<int i>() TS_LAMBDA { r[i].store(to + i * kSquare); });
}
TS_INLINE void transpose_tile(const float* from, float* to) {
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 2; ++j)
      transpose_square(from + i * 16 * kSquare + j * 16, to + j * 16 * kSquare + i * 16);
}
// Bit j of word i becomes bit i of word j.
TS_INLINE void transpose_bits(std::uint32_t (&x)[32]) {
  std::uint32_t m = 0x0000ffff;
  for (int j = 16; j != 0; j >>= 1, m ^= m << j)
    for (int k = 0; k < 32; k = (k + j + 1) & ~j) {
      const std::uint32_t t = (x[k] >> j ^ x[k + j]) & m;
      x[k + j] ^= t, x[k] ^= t << j;
    }
}

// Row x of a tile of dq that was transposed belongs to this query: zipping takes four of each eight in turn.
constexpr std::int64_t query_of(std::int64_t x) { return x % 16 / 4 * 8 + x / 16 * 4 + x % 4; }

// n (at most 32) numbers, rounded.
TS_INLINE void put_row(std::uint16_t* to, const float* from, __m512 factor, std::int64_t n) {
  _mm512_mask_storeu_epi16(to, _bzhi_u32(~0u, static_cast<unsigned>(n)),
                           rounded(_mm512_mul_ps(_mm512_loadu_ps(from), factor),
                                   _mm512_mul_ps(_mm512_loadu_ps(from + 16), factor)));
}

// delta_i: 16 sums over e, halves added to halves.
float dot(const Bits16* a, std::int64_t a_step, const Bits16* b, std::int64_t b_step, std::int64_t n) {
  __m512 sum = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < n; i += 32) {
    const std::int64_t count = least(32, n - i);
    const auto load = [&](const Bits16* p, std::int64_t step) {
      if (step == 1) return load_bf16(p + i, count);
      Bits16 row[32];
      for (std::int64_t l = 0; l < count; ++l) row[l] = p[(i + l) * step];
      return load_bf16(row, count);
    };
    __m512 a0, a1, b0, b1;
    widen(load(a, a_step), a0, a1), widen(load(b, b_step), b0, b1);
    sum = _mm512_fmadd_ps(a1, b1, _mm512_fmadd_ps(a0, b0, sum));
  }
  return _mm512_reduce_add_ps(sum);
}

struct Backward {
  const AttentionShape& shape;
  const In &dy, &q, &k, &v, &y, &mask, &keys, &logsumexp;
  const Out &dq, &dk, &dv, &dmask, &partial;
  const Drops& drops;
  const Attention& options;
  const std::int64_t D, E;  // in squares

  // Scratch.
  std::uint16_t *k_rows, *v_rows, *k_lanes;                // of the keys that are packed
  float *dks, *dvs;                                        // [tile of keys][of features]
  std::uint16_t *q_across, *dy_across, *q_down, *dy_down;  // of a block's queries
  std::uint16_t *p_rows, *ds_rows;                         // [tile of keys][of queries]
  std::uint16_t* ds_pairs;                                 // [tile of queries][of keys]
  float *dqs, *s, *dp, *lse, *delta;

  Backward(const AttentionShape& sizes, const In& dy_, const In& q_, const In& k_, const In& v_, const In& y_,
           const In& mask_, const In& keys_, const In& logsumexp_, const Drops& drops_, const Out& dq_,
           const Out& dk_, const Out& dv_, const Out& dmask_, const Out& partial_, const Attention& o)
      : shape(sizes),
        dy(dy_),
        q(q_),
        k(k_),
        v(v_),
        y(y_),
        mask(mask_),
        keys(keys_),
        logsumexp(logsumexp_),
        dq(dq_),
        dk(dk_),
        dv(dv_),
        dmask(dmask_),
        partial(partial_),
        drops(drops_),
        options(o),
        D(squares(sizes.D)),
        E(squares(sizes.E)) {
    char* at = static_cast<char*>(scratch());
    const auto take = [&]<class T>(T*& p, std::int64_t count) {
      p = reinterpret_cast<T*>(at);
      at += count * static_cast<std::int64_t>(sizeof(T));
    };
    const std::int64_t tall = squares(least(shape.S, attention_keys_bf16(shape.D, shape.E)));
    take(s, kArea), take(dp, kArea), take(lse, kRows), take(delta, kRows);
    take(p_rows, kDown * kAcross * kArea), take(ds_rows, kDown * kAcross * kArea);
    take(ds_pairs, kDown * kAcross * kArea);
    take(dqs, kAcross * D * kArea);
    take(q_across, kAcross * D * kArea), take(dy_across, kAcross * E * kArea);
    take(q_down, kAcross * D * kArea), take(dy_down, kAcross * E * kArea);
    take(k_rows, tall * D * kArea), take(v_rows, tall * E * kArea), take(k_lanes, tall * D * kArea);
    take(dks, tall * D * kArea), take(dvs, tall * E * kArea);
  }

  // The queries that see a key of [begin, end).
  TS_INLINE Range seeing(std::int64_t begin, std::int64_t end) const {
    const std::int64_t low = begin - shape.right, high = end + shape.left;
    return {low > 0 ? low : 0, high < shape.T ? high : shape.T};
  }
  static const Bits16* head(const View& x, std::int64_t b, std::int64_t h, std::int64_t t) {
    return static_cast<const Bits16*>(x.data) + b * x.strides[0] + h * x.strides[1] + t * x.strides[2];
  }

  // p and ds of n keys from j, down, and `rows` queries from t, across, whose statistics are `at` in their
  // block: from scores in s and dp.
  template <bool Edge>
  TS_INLINE void weights(const Shade& shade, std::int64_t h, std::int64_t t, std::int64_t rows,
                         std::int64_t at, std::int64_t j, std::int64_t n, std::uint16_t* p_to,
                         std::uint16_t* ds_to, std::uint16_t* pairs) const {
    alignas(64) std::uint32_t seen[32], kept[32];
    alignas(64) float added[kArea];
    const bool adds = Edge && shade.added();
    if constexpr (Edge) {
      const std::uint32_t real = shade.real(j, n);
      alignas(64) float down[kArea];
      for (std::int64_t i = 0; i < 32; ++i) {
        seen[i] = i < rows ? shade.seen(h, t + i, j, n, real) : 0;
        kept[i] = 0;
        if (i < rows && drops.generator) kept[i] = drops.kept(j, (shade.b * shape.H + h) * shape.T + t + i);
        if (adds) {
          __m512 low = _mm512_setzero_ps(), high = low;
          if (i < rows) shade.read_added(h, t + i, j, n, low, high);
          _mm512_store_ps(down + i * kSquare, low), _mm512_store_ps(down + i * kSquare + 16, high);
        }
      }
      transpose_bits(seen);
      if (drops.generator) transpose_bits(kept);
      if (adds) transpose_tile(down, added);
    }
    const __m512 scale = _mm512_set1_ps(static_cast<float>(options.scale * kLog2E));
    const __m512 grown = _mm512_set1_ps(static_cast<float>(1 / (1 - options.dropout)));
    const __m512 l[2] = {_mm512_loadu_ps(lse + at), _mm512_loadu_ps(lse + at + 16)};
    const __m512 c[2] = {_mm512_loadu_ps(delta + at), _mm512_loadu_ps(delta + at + 16)};
    for (std::int64_t i = 0; i < kSquare; i += 2) {
      __m512i ds[2];
      unroll<2>([&]<int r>() TS_LAMBDA {
        __m512 p[2], d[2];
        unroll<2>([&]<int half>() TS_LAMBDA {
          const std::int64_t place = (i + r) * kSquare + half * 16;
          __m512 x = _mm512_loadu_ps(s + place);
          if (adds) x = _mm512_fmadd_ps(x, scale, _mm512_loadu_ps(added + place));
          x = _mm512_sub_ps(adds ? x : _mm512_mul_ps(x, scale), l[half]);
          p[half] = weight_of(x);
          __m512 g = _mm512_loadu_ps(dp + place);
          if constexpr (Edge) {
            const auto on = static_cast<__mmask16>(seen[i + r] >> half * 16);
            p[half] = _mm512_maskz_mov_ps(on, p[half]);
            if (drops.generator) {
              const auto stays = static_cast<__mmask16>(kept[i + r] >> half * 16);
              g = _mm512_maskz_mul_ps(stays, g, grown);
              d[half] = _mm512_maskz_mul_ps(on, p[half], _mm512_sub_ps(g, c[half]));
              p[half] = _mm512_maskz_mul_ps(stays, p[half], grown);
              return;
            }
            d[half] = _mm512_maskz_mul_ps(on, p[half], _mm512_sub_ps(g, c[half]));
          } else {
            d[half] = _mm512_mul_ps(p[half], _mm512_sub_ps(g, c[half]));
          }
        });
        _mm512_storeu_si512(p_to + (i + r) * kSquare, rounded(p[0], p[1]));
        ds[r] = rounded(d[0], d[1]);
        _mm512_storeu_si512(ds_to + (i + r) * kSquare, ds[r]);
        if (Edge && dmask)
          _mm512_storeu_ps(s + (i + r) * kSquare, d[0]), _mm512_storeu_ps(s + (i + r) * kSquare + 16, d[1]);
      });
      _mm512_storeu_si512(pairs + i / 2 * kSquare, _mm512_unpacklo_epi16(ds[0], ds[1]));
      _mm512_storeu_si512(pairs + kArea / 2 + i / 2 * kSquare, _mm512_unpackhi_epi16(ds[0], ds[1]));
    }
    if (!Edge || !dmask) return;
    transpose_tile(s, added);
    for (std::int64_t i = 0; i < rows; ++i)
      put_row(dmask.as<std::uint16_t>() + ((shade.b * shape.H + h) * shape.T + t + i) * shape.S + j,
              added + i * kSquare, _mm512_set1_ps(1.0f), n);
  }

  // A tile's square: those of a block's keys from j0 and queries from t0 on.
  void tile(const Shade& shade, std::int64_t h, std::int64_t t0, std::int64_t rows, std::int64_t across,
            std::int64_t j, std::int64_t n, std::int64_t packed, std::int64_t down) const {
    const std::int64_t t = t0 + across * kSquare, wide = least(kSquare, t0 + rows - t);
    multiply_tile(options.engine, kSquare, wide, D, {k_rows + packed * D * kArea, kSquare, kArea},
                  q_across + across * D * kArea, true, s);
    multiply_tile(options.engine, kSquare, wide, E, {v_rows + packed * E * kArea, kSquare, kArea},
                  dy_across + across * E * kArea, true, dp);
    std::uint16_t *const p_to = p_rows + (down * kAcross + across) * kArea,
                         *const ds_to = ds_rows + (down * kAcross + across) * kArea,
                         *const pairs = ds_pairs + (across * kDown + down) * kArea;
    const bool plain = wide == kSquare && n == kSquare && !shade.masked() && !drops.generator && !dmask &&
                       shape.all_see(t, kSquare, j, kSquare);
    if (plain)
      weights<false>(shade, h, t, wide, across * kSquare, j, n, p_to, ds_to, pairs);
    else
      weights<true>(shade, h, t, wide, across * kSquare, j, n, p_to, ds_to, pairs);
  }

  // dq's rows of up to 32 queries from t, from its transposed squares.
  void put_queries(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t rows,
                   const float* sums) const {
    alignas(64) float square[kArea];
    const __m512 scale = _mm512_set1_ps(static_cast<float>(options.scale));
    std::uint16_t* const to =
        dq.as<std::uint16_t>() + b * dq.strides[0] + h * dq.strides[1] + t * dq.strides[2];
    for (std::int64_t d = 0; d < D; ++d) {
      transpose_tile(sums + d * kArea, square);
      for (std::int64_t x = 0; x < kSquare; ++x)
        if (query_of(x) < rows)
          put_row(to + query_of(x) * dq.strides[2] + d * kSquare, square + x * kSquare, scale,
                  least(kSquare, shape.D - d * kSquare));
    }
  }

  // Queries [t, t + rows) of head h against the n keys from j0 that are packed. dq_to: squares of dq, which
  // begin here if `first`.
  void queries(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t rows, std::int64_t j0,
               std::int64_t n, bool* begun, float* dq_to, bool first) const {
    const std::int64_t tiles = squares(rows), line = (b * shape.H + h) * shape.T + t;
    if (const Range by = seeing(j0, j0 + n); by.begin >= least(by.end, t + rows) || by.end <= t) {
      if (first) std::memset(dq_to, 0, static_cast<std::size_t>(tiles * D * kArea) * sizeof(float));
      return;
    }
    pack_squares<true>(q_across, head(q, b, h, t), q.strides[2], q.strides[3], rows, shape.D);
    pack_squares<true>(dy_across, head(dy, b, h, t), dy.strides[2], dy.strides[3], rows, shape.E);
    pack_squares<true>(q_down, head(q, b, h, t), q.strides[3], q.strides[2], shape.D, rows);
    pack_squares<true>(dy_down, head(dy, b, h, t), dy.strides[3], dy.strides[2], shape.E, rows);
    for (std::int64_t i = 0; i < tiles * kSquare; ++i) {
      lse[i] = i < rows ? logsumexp.as<float>()[line + i] : std::numeric_limits<float>::infinity();
      delta[i] = i < rows
                     ? dot(head(dy, b, h, t + i), dy.strides[3], head(y, b, h, t + i), y.strides[3], shape.E)
                     : 0;
    }
    const Shade shade{shape, mask, keys, b};
    bool fresh[kAcross];
    for (bool& f : fresh) f = first;
    for (std::int64_t j = j0; j < j0 + n; j += kColumns) {
      const std::int64_t width = least(kColumns, j0 + n - j), first_tile = (j - j0) / kSquare;
      // Tiles of queries that see each tile of keys, and the reverse: of either, neighbours.
      std::int64_t low[kDown], high[kDown];
      for (std::int64_t down = 0; down < squares(width); ++down) {
        const std::int64_t key = j + down * kSquare, count = least(kSquare, j0 + n - key);
        const Range by = seeing(key, key + count);
        low[down] = by.begin > t ? (by.begin - t) / kSquare : 0;
        high[down] = by.end > by.begin && by.end > t ? squares(least(by.end - t, rows)) : 0;
        for (std::int64_t across = low[down]; across < high[down]; ++across)
          tile(shade, h, t, rows, across, key, count, first_tile + down, down);
      }
      for (std::int64_t down = 0; down < squares(width); ++down) {
        const std::int64_t from = low[down], steps = high[down] - from, place = first_tile + down;
        if (steps <= 0) continue;
        for (std::int64_t e = 0; e < E; ++e)
          multiply_tile(options.engine, kSquare, shape.E - e * kSquare, steps,
                        {p_rows + (down * kAcross + from) * kArea, kSquare, kArea},
                        dy_down + (e * tiles + from) * kArea, !begun[place], dvs + (place * E + e) * kArea);
        for (std::int64_t d = 0; d < D; ++d)
          multiply_tile(options.engine, kSquare, shape.D - d * kSquare, steps,
                        {ds_rows + (down * kAcross + from) * kArea, kSquare, kArea},
                        q_down + (d * tiles + from) * kArea, !begun[place], dks + (place * D + d) * kArea);
        begun[place] = true;
      }
      for (std::int64_t across = 0; across < tiles; ++across) {
        std::int64_t from = 0, end = squares(width);
        while (from < end && !(low[from] <= across && across < high[from])) ++from;
        while (from < end && !(low[end - 1] <= across && across < high[end - 1])) --end;
        if (from == end) continue;
        const std::int64_t deep = squares(n);
        for (std::int64_t d = 0; d < D; ++d)
          multiply_tile(options.engine, shape.D - d * kSquare, kSquare, end - from,
                        {k_lanes + (d * deep + first_tile + from) * kArea, kSquare, kArea},
                        ds_pairs + (across * kDown + from) * kArea, fresh[across],
                        dq_to + (across * D + d) * kArea);
        fresh[across] = false;
      }
    }
    for (std::int64_t across = 0; across < tiles; ++across)
      if (fresh[across])
        std::memset(dq_to + across * D * kArea, 0, static_cast<std::size_t>(D * kArea) * sizeof(float));
  }

  // Keys [begin, end) of head g in batch b, chunk `part`.
  void chunk(std::int64_t b, std::int64_t g, std::int64_t part, std::int64_t begin, std::int64_t end) const {
    const std::int64_t group = shape.H / shape.G, once = attention_keys_bf16(shape.D, shape.E);
    for (std::int64_t j = begin; j < end; j += once) {
      const std::int64_t n = least(once, end - j);
      pack_squares<false>(k_rows, head(k, b, g, j), k.strides[2], k.strides[3], n, shape.D);
      pack_squares<false>(v_rows, head(v, b, g, j), v.strides[2], v.strides[3], n, shape.E);
      pack_squares<false>(k_lanes, head(k, b, g, j), k.strides[3], k.strides[2], shape.D, n);
      bool begun[1024 / kSquare] = {};
      for (std::int64_t h = g * group; h < (g + 1) * group; ++h)
        for (std::int64_t t = 0; t < shape.T; t += kRows) {
          const std::int64_t rows = least(kRows, shape.T - t);
          float* sums = dqs;
          if (partial)
            sums = partial.as<float>() +
                   (((part * shape.B + b) * shape.H + h) * squares(shape.T) + t / kSquare) * D * kArea;
          queries(b, h, t, rows, j, n, begun, sums, j == begin);
          if (!partial)
            for (std::int64_t i = 0; i < rows; i += kSquare)
              put_queries(b, h, t + i, least(kSquare, rows - i), dqs + i / kSquare * D * kArea);
        }
      put_keys(dk, b, g, j, n, shape.D, dks, begun, static_cast<float>(options.scale));
      put_keys(dv, b, g, j, n, shape.E, dvs, begun, 1.0f);
    }
  }

  static void put_keys(const Out& to, std::int64_t b, std::int64_t g, std::int64_t j, std::int64_t n,
                       std::int64_t features, const float* sums, const bool* begun, float factor) {
    const __m512 f = _mm512_set1_ps(factor);
    for (std::int64_t i = 0; i < n; ++i) {
      std::uint16_t* const row =
          to.as<std::uint16_t>() + b * to.strides[0] + g * to.strides[1] + (j + i) * to.strides[2];
      for (std::int64_t d = 0; d < features; d += kSquare) {
        const float* const from =
            sums + (i / kSquare * squares(features) + d / kSquare) * kArea + i % kSquare * kSquare;
        if (begun[i / kSquare])
          put_row(row + d, from, f, least(kSquare, features - d));
        else
          std::memset(row + d, 0, static_cast<std::size_t>(least(kSquare, features - d)) * 2);
      }
    }
  }
};

}  // namespace

void attention_backward_bf16(const In& dy, const In& q, const In& k, const In& v, const In& y, const In& mask,
                             const In& keys, const In& logsumexp, const Drops& drops, const Out& dq,
                             const Out& dk, const Out& dv, const Out& dmask, const Out& partial,
                             const Attention& options) {
  const AttentionShape shape(q, k, v, options);
  const std::int64_t heads = shape.B * shape.H, group = shape.H / shape.G;
  if (dmask)  // of what nobody sees
    parallel_ranges(heads * shape.T, 1 + 65536 / (shape.S + 16), [&](std::int64_t begin, std::int64_t end) {
      std::memset(dmask.as<Bits16>() + begin * shape.S, 0,
                  static_cast<std::size_t>((end - begin) * shape.S) * 2);
    });
  const std::int64_t chunks = attention_chunks(shape.S);
  const Panels parts(shape.S, round_up((shape.S + chunks - 1) / chunks, kKeys), kKeys);
  const double flops = 2.0 * static_cast<double>(group * shape.T) * static_cast<double>(parts.width) *
                           static_cast<double>(3 * shape.D + 2 * shape.E + 128) +
                       1e3;
  const std::int64_t grain = flops < 2e7 ? static_cast<std::int64_t>(2e7 / flops) + 1 : 1;
  parallel_ranges(shape.B * shape.G * parts.count, grain, [&](std::int64_t begin, std::int64_t end) {
    const TilesInUse tiles(options.engine);
    const Backward work(shape, dy, q, k, v, y, mask, keys, logsumexp, drops, dq, dk, dv, dmask, partial,
                        options);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t part = i % parts.count, j = parts.first(part);
      work.chunk(i / (parts.count * shape.G), i / parts.count % shape.G, part, j, j + parts.lanes(part));
    }
  });
  if (!partial) return;
  const std::int64_t tiles = squares(shape.T), square = squares(shape.D) * kArea;
  parallel_ranges(heads * tiles, 1 + 32768 / (square * parts.count),
                  [&](std::int64_t begin, std::int64_t end) {
                    const Backward work(shape, dy, q, k, v, y, mask, keys, logsumexp, drops, dq, dk, dv,
                                        dmask, partial, options);
                    for (std::int64_t i = begin; i < end; ++i) {
                      const float* const from = partial.as<float>() + i * square;
                      for (std::int64_t x = 0; x < square; x += 16) {
                        __m512 sum = _mm512_loadu_ps(from + x);
                        for (std::int64_t part = 1; part < parts.count; ++part)
                          sum = _mm512_add_ps(sum, _mm512_loadu_ps(from + part * heads * tiles * square + x));
                        _mm512_storeu_ps(work.dqs + x, sum);
                      }
                      const std::int64_t t = i % tiles * kSquare, h = i / tiles;
                      work.put_queries(h / shape.H, h % shape.H, t, least(kSquare, shape.T - t), work.dqs);
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
void attention_backward_bf16(const In&, const In&, const In&, const In&, const In&, const In&, const In&,
                             const In&, const Drops&, const Out&, const Out&, const Out&, const Out&,
                             const Out&, const Attention&) {
  __builtin_trap();
}

}  // namespace ts::cpu::TS_ISA
#endif
