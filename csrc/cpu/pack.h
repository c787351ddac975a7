// Packing: the panels that a tile reads in order, from an operand with any strides.
//
//   panel p of width w holds dst[k * w + x] = src[(first_p + x) * lane + k * depth]
//
// "Lanes" are rows of A or columns of B; "depth" is k. Reads the source once, writes the panels once; sources
// whose unit stride is along depth are transposed in registers on the way.
#pragma once

#include "cpu/microkernel.h"

namespace ts::cpu::TS_ISA {

// The 128-bit halves of a transposition, which each level spells its own way.
#if defined(__AVX512F__)
template <class T>
TS_INLINE Vec<T> unpack_low(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm512_unpacklo_ps(a.r, b.r));
  else
    return Vec<T>(_mm512_unpacklo_pd(a.r, b.r));
}
template <class T>
TS_INLINE Vec<T> unpack_high(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm512_unpackhi_ps(a.r, b.r));
  else
    return Vec<T>(_mm512_unpackhi_pd(a.r, b.r));
}
#elif defined(__AVX2__)
template <class T>
TS_INLINE Vec<T> unpack_low(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm256_unpacklo_ps(a.r, b.r));
  else
    return Vec<T>(_mm256_unpacklo_pd(a.r, b.r));
}
template <class T>
TS_INLINE Vec<T> unpack_high(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm256_unpackhi_ps(a.r, b.r));
  else
    return Vec<T>(_mm256_unpackhi_pd(a.r, b.r));
}
#else
template <class T>
TS_INLINE Vec<T> unpack_low(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm_unpacklo_ps(a.r, b.r));
  else
    return Vec<T>(_mm_unpacklo_pd(a.r, b.r));
}
template <class T>
TS_INLINE Vec<T> unpack_high(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm_unpackhi_ps(a.r, b.r));
  else
    return Vec<T>(_mm_unpackhi_pd(a.r, b.r));
}
#endif

// A register seen as pairs: 64-bit lanes.
template <class T>
TS_INLINE Vec<double> pairs(Vec<T> v) {
  return Vec<double>(Vec<double>::Reg(v.r));
}
template <class T>
TS_INLINE Vec<T> from_pairs(Vec<double> v) {
  return Vec<T>(typename Vec<T>::Reg(v.r));
}

// E registers, E elements to a 128-bit block: in every block, the square of E x E elements transposed.
template <class T>
TS_INLINE void transpose_blocks(Vec<T>* t) {
  const Vec<T> low = unpack_low(t[0], t[1]), high = unpack_high(t[0], t[1]);
  if constexpr (sizeof(T) == 4) {
    const Vec<double> d0 = pairs(low), d1 = pairs(high);
    const Vec<double> d2 = pairs(unpack_low(t[2], t[3])), d3 = pairs(unpack_high(t[2], t[3]));
    t[0] = from_pairs<T>(unpack_low(d0, d2)), t[1] = from_pairs<T>(unpack_high(d0, d2));
    t[2] = from_pairs<T>(unpack_low(d1, d3)), t[3] = from_pairs<T>(unpack_high(d1, d3));
  } else {
    t[0] = low, t[1] = high;
  }
}

// The square of W x W elements in W registers, transposed: first inside 128-bit blocks, then the blocks.
template <class T>
TS_INLINE void transpose(Vec<T> (&r)[Vec<T>::width]) {
  constexpr int E = 16 / static_cast<int>(sizeof(T)), G = Vec<T>::width / E;
  unroll<G>([&]<int g>() TS_LAMBDA { transpose_blocks<T>(r + E * g); });
  // Block L of r[E * g + c] is now column E * L + c of rows E * g and on.
#if defined(__AVX512F__)
  unroll<E>([&]<int c>() TS_LAMBDA {
    const auto d = [&]<int g>() TS_LAMBDA { return pairs(r[E * g + c]).r; };
    const __m512d d0 = d.template operator()<0>(), d1 = d.template operator()<1>();
    const __m512d d2 = d.template operator()<2>(), d3 = d.template operator()<3>();
    const __m512d even0 = _mm512_shuffle_f64x2(d0, d1, 0x88), even1 = _mm512_shuffle_f64x2(d2, d3, 0x88);
    const __m512d odd0 = _mm512_shuffle_f64x2(d0, d1, 0xdd), odd1 = _mm512_shuffle_f64x2(d2, d3, 0xdd);
    r[c] = from_pairs<T>(Vec<double>(_mm512_shuffle_f64x2(even0, even1, 0x88)));
    r[E + c] = from_pairs<T>(Vec<double>(_mm512_shuffle_f64x2(odd0, odd1, 0x88)));
    r[2 * E + c] = from_pairs<T>(Vec<double>(_mm512_shuffle_f64x2(even0, even1, 0xdd)));
    r[3 * E + c] = from_pairs<T>(Vec<double>(_mm512_shuffle_f64x2(odd0, odd1, 0xdd)));
  });
#elif defined(__AVX2__)
  unroll<E>([&]<int c>() TS_LAMBDA {
    const __m256d d0 = pairs(r[c]).r, d1 = pairs(r[E + c]).r;
    r[c] = from_pairs<T>(Vec<double>(_mm256_permute2f128_pd(d0, d1, 0x20)));
    r[E + c] = from_pairs<T>(Vec<double>(_mm256_permute2f128_pd(d0, d1, 0x31)));
  });
#endif
}

// Rows this far apart fall into so few sets of L1 that a line is gone before it is read a second time.
template <class T>
TS_INLINE bool rows_collide(std::int64_t stride) {
  return stride * static_cast<std::int64_t>(sizeof(T)) % 1024 == 0;
}

// W elements from each of the addresses row(0) ... row(W - 1), transposed. Half registers are put where they
// belong as they are loaded, which spares a quarter of the shuffles on AVX-512 (half of them on AVX2): a
// masked broadcast is a load and a blend, which two ports can do; a shuffle has one (Intel). The two halves
// of a line are read one after the other.
template <class T, class Row>
TS_INLINE void load_transposed(const Row& row, Vec<T> (&r)[Vec<T>::width]) {
  constexpr int E = 16 / static_cast<int>(sizeof(T));
#if defined(__AVX512F__)
  unroll<E>([&]<int c>() TS_LAMBDA {
    unroll<2>([&]<int half>() TS_LAMBDA {
      const auto of = [&](int g) TS_LAMBDA {
        return _mm256_loadu_pd(reinterpret_cast<const double*>(row(E * g + c) + 2 * E * half));
      };
      const __m512d d0 = _mm512_mask_broadcast_f64x4(_mm512_castpd256_pd512(of(0)), 0xf0, of(1));
      const __m512d d1 = _mm512_mask_broadcast_f64x4(_mm512_castpd256_pd512(of(2)), 0xf0, of(3));
      r[2 * E * half + c] = from_pairs<T>(Vec<double>(_mm512_shuffle_f64x2(d0, d1, 0x88)));
      r[2 * E * half + E + c] = from_pairs<T>(Vec<double>(_mm512_shuffle_f64x2(d0, d1, 0xdd)));
    });
  });
#elif defined(__AVX2__)
  unroll<E>([&]<int c>() TS_LAMBDA {
    unroll<2>([&]<int half>() TS_LAMBDA {
      const auto of = [&](int g) TS_LAMBDA {
        return _mm_loadu_pd(reinterpret_cast<const double*>(row(E * g + c) + E * half));
      };
      r[E * half + c] =
          from_pairs<T>(Vec<double>(_mm256_insertf128_pd(_mm256_castpd128_pd256(of(0)), of(1), 1)));
    });
  });
#else
  unroll<E>([&]<int c>() TS_LAMBDA { r[c] = Vec<T>::load(row(c)); });
#endif
  unroll<Vec<T>::width / E>([&]<int L>() TS_LAMBDA { transpose_blocks<T>(r + E * L); });
}

// A range of n lanes cut into panels whose widths differ by at most one `unit`: the first `wide` have width
// w, the others w - unit. No panel is left so thin that its tile would run at half speed.
struct Panels {
  std::int64_t count, wide, width, unit, n;
  TS_INLINE Panels(std::int64_t lanes, std::int64_t widest, std::int64_t unit_) : unit(unit_), n(lanes) {
    const std::int64_t units = (lanes + unit - 1) / unit, most = widest / unit;
    count = (units + most - 1) / most;
    const std::int64_t each = (units + count - 1) / count;
    width = each * unit;
    wide = count - (each * count - units);
  }
  TS_INLINE std::int64_t width_of(std::int64_t p) const { return p < wide ? width : width - unit; }
  TS_INLINE std::int64_t first(std::int64_t p) const {
    return p * width - (p > wide ? (p - wide) * unit : 0);
  }
  // Lanes of panel p that exist: fewer than its width in the last one.
  TS_INLINE std::int64_t lanes(std::int64_t p) const {
    const std::int64_t w = width_of(p), left = n - first(p);
    return w < left ? w : left;
  }
  TS_INLINE Panels part(std::int64_t begin, std::int64_t end) const {
    Panels r = *this;
    r.count = end - begin;
    r.wide = wide < begin ? 0 : wide < end ? wide - begin : r.count;
    r.n = (end < count ? first(end) : n) - first(begin);
    return r;
  }
};

// Steps [begin, end) of panels that are `depth` steps deep: panel p begins at dst + panels.first(p) * depth,
// its step k lies k * width_of(p) beyond. Lanes beyond the last get copies of it or zeros (their products are
// discarded). Whole vectors are stored, each overhang overwritten by what belongs there; nothing beyond step
// `end` of a panel is written, so that threads may share panels.
template <class T>
[[gnu::noinline]] void pack(T* dst, const Panels& panels, std::int64_t depth, std::int64_t begin,
                            std::int64_t end, const T* src, std::int64_t lane_stride,
                            std::int64_t depth_stride) {
  constexpr std::int64_t W = Vec<T>::width;
  if (lane_stride == 1) {
    // A few rows at a time: the source is read along its rows, and panels, whose distance is often a power of
    // two, are written in turn rather than at once.
    constexpr std::int64_t kRows = 8;
    for (std::int64_t k0 = begin; k0 < end; k0 += kRows) {
      const std::int64_t k1 = k0 + kRows < end ? k0 + kRows : end;
      for (std::int64_t p = 0; p < panels.count; ++p) {
        const std::int64_t first = panels.first(p), w = panels.width_of(p), lanes = panels.lanes(p);
        const std::int64_t whole = lanes / W * W;
        const Lanes<T> rest(lanes - whole);
        for (std::int64_t k = k0; k < k1; ++k) {
          const T* s = src + k * depth_stride + first;
          T* d = dst + first * depth + k * w;
          if (panels.count > 1) __builtin_prefetch(s + kRows * depth_stride, 0, 2);
          for (std::int64_t x = 0; x < whole; x += W) Vec<T>::load(s + x).store(d + x);
          if (whole < w) {
            const Vec<T> last = load_lanes(s + whole, rest);
            if (whole + W <= w || k + 1 < end)
              last.store(d + whole);
            else
              store_lanes(d + whole, last, rest);
          }
        }
      }
    }
    return;
  }
  for (std::int64_t p = 0; p < panels.count; ++p) {
    const std::int64_t first = panels.first(p), w = panels.width_of(p), lanes = panels.lanes(p);
    const T* s = src + first * lane_stride;
    T* d = dst + first * depth;
    if (depth_stride == 1) {
      // Last group first: its overhang falls on lanes that the groups before it then write.
      for (std::int64_t x = (w - 1) / W * W; x >= 0; x -= W) {
        const T* row[W];
        for (int i = 0; i < W; ++i) row[i] = s + (x + i < lanes ? x + i : lanes - 1) * lane_stride;
        for (std::int64_t k = begin; k < end; k += W) {
          const std::int64_t steps = end - k < W ? end - k : W;
          Vec<T> r[W];
          if (steps == W) {
            load_transposed<T>([&](int i) TS_LAMBDA { return row[i] + k; }, r);
          } else {
            unroll<W>([&]<int i>() TS_LAMBDA { r[i] = load_lanes(row[i] + k, Lanes<T>(steps)); });
            transpose<T>(r);
          }
          T* to = d + k * w + x;
          if (k + W < end || (steps == W && x + W <= w))
            unroll<W>([&]<int i>() TS_LAMBDA { r[i].store(to + i * w); });
          else
            unroll<W>([&]<int i>() TS_LAMBDA {
              if (i + 1 < steps || (i + 1 == steps && x + W <= w))
                r[i].store(to + i * w);
              else if (i + 1 == steps)
                store_lanes(to + i * w, r[i], Lanes<T>(w - x));
            });
        }
      }
    } else {
      for (std::int64_t k = begin; k < end; ++k)
        for (std::int64_t x = 0; x < w; ++x)
          d[k * w + x] = s[(x < lanes ? x : lanes - 1) * lane_stride + k * depth_stride];
    }
  }
}

// All steps.
template <class T>
TS_INLINE void pack(T* dst, const Panels& panels, std::int64_t depth, const T* src, std::int64_t lane_stride,
                    std::int64_t depth_stride) {
  pack<T>(dst, panels, depth, 0, depth, src, lane_stride, depth_stride);
}

}  // namespace ts::cpu::TS_ISA
