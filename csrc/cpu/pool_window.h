// Pooling's shared parts: the geometry of windows, and vectors of narrow indices.
//
// N images, C channels, H W extents of x, P Q extents of y. Tap (i, j) of output (p, q) reads
//   x[n, c, p * stride.h + i * dilation.h - padding.h, q * stride.w + j * dilation.w - padding.w]
// Numbers are stored as S, maybe halves, and computed as T = Computed<S>.
#pragma once

#include "cpu/half.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

// One axis of a pooling.
struct PoolAxis {
  std::int64_t kernel, stride, padding, dilation, inputs, outputs;

  TS_INLINE std::int64_t start(std::int64_t out) const { return out * stride - padding; }
  // The taps [low, high) of a window that lie inside the image.
  TS_INLINE std::int64_t low(std::int64_t out) const {
    const std::int64_t s = start(out);
    return s >= 0 ? 0 : dilation == 1 ? -s : (-s + dilation - 1) / dilation;
  }
  TS_INLINE std::int64_t high(std::int64_t out) const {
    const std::int64_t room = inputs - start(out);  // first offset outside
    if (room <= 0) return 0;
    const std::int64_t taps = dilation == 1 ? room : (room + dilation - 1) / dilation;
    return taps < kernel ? taps : kernel;
  }
  // Taps inside the image or its padding: what count_include_pad counts.
  TS_INLINE std::int64_t padded(std::int64_t out) const {
    const std::int64_t room = inputs + padding - start(out);
    if (room <= 0) return 0;
    const std::int64_t taps = dilation == 1 ? room : (room + dilation - 1) / dilation;
    return taps < kernel ? taps : kernel;
  }
  // The outputs [first_whole, end_whole) whose taps all lie inside the image.
  std::int64_t first_whole() const {
    const std::int64_t first = (padding + stride - 1) / stride;
    return first < outputs ? first : outputs;
  }
  std::int64_t end_whole() const {
    const std::int64_t last =
        inputs - 1 - (kernel - 1) * dilation + padding;  // the largest start, shifted by padding
    const std::int64_t end = last < 0 ? 0 : last / stride + 1, first = first_whole();
    return end < first ? first : end < outputs ? end : outputs;
  }
  // The windows [first_window, end_window) that may contain an input.
  TS_INLINE std::int64_t first_window(std::int64_t in) const {
    const std::int64_t past = in + padding - (kernel - 1) * dilation;
    return past <= 0 ? 0 : (past + stride - 1) / stride;
  }
  TS_INLINE std::int64_t end_window(std::int64_t in) const {
    const std::int64_t end = (in + padding) / stride + 1;
    return end < outputs ? end : outputs;
  }
  // Windows lie edge to edge: each input belongs to at most one.
  bool tiles() const {
    return kernel == stride && dilation == 1 && padding == 0 && outputs * stride <= inputs;
  }
};

struct PoolShape {
  std::int64_t N, C;
  PoolAxis h, w;

  PoolShape(const View& x, const View& y, const Pool2d& pool)
      : N(x.shape[0]),
        C(x.shape[1]),
        h{pool.kernel[0], pool.stride[0], pool.padding[0], pool.dilation[0], x.shape[2], y.shape[2]},
        w{pool.kernel[1], pool.stride[1], pool.padding[1], pool.dilation[1], x.shape[3], y.shape[3]} {}

  // What an average divides by; 0 where the window holds nothing.
  TS_INLINE std::int64_t divisor(std::int64_t p, std::int64_t q, const Pool2d& pool) const {
    if (pool.divisor) return pool.divisor;
    if (pool.count_include_pad) return h.padded(p) * w.padded(q);
    const std::int64_t rows = h.high(p) - h.low(p), cols = w.high(q) - w.low(q);
    return rows > 0 && cols > 0 ? rows * cols : 0;
  }
};

// The address of an image, channel, row and column.
template <class T>
struct Plane {
  T* data;
  std::int64_t n, c, h, w;
  TS_INLINE T* at(std::int64_t image, std::int64_t channel, std::int64_t row, std::int64_t column) const {
    return data + image * n + channel * c + row * h + column * w;
  }
};
template <class T>
TS_INLINE Plane<const T> plane(const In& v) {
  return {v.as<T>(), v.strides[0], v.strides[1], v.strides[2], v.strides[3]};
}
template <class T>
TS_INLINE Plane<T> plane(const Out& v) {
  return {v.as<T>(), v.strides[0], v.strides[1], v.strides[2], v.strides[3]};
}

// Tap numbers as lanes of T's size, in memory as uint8 or int32. (GCC 12 widens vectors of bytes lane by
// lane, so the common widths are spelled out.)
template <class T, class Index>
struct IndexLanes {
  static constexpr int width = Vec<T>::width;
  typedef Index Narrow __attribute__((vector_size(width * sizeof(Index))));
  using Lanes = typename Vec<T>::MaskReg;

  TS_INLINE static void store(Lanes lanes, Index* p, std::int64_t n) {
    const Narrow narrow = narrowed(lanes);
    if (n == width) {
      std::memcpy(p, &narrow, sizeof narrow);
      return;
    }
#if defined(__AVX512F__)
    if constexpr (sizeof narrow == 16) return _mm_mask_storeu_epi8(p, first_bytes(n), __m128i(narrow));
#endif
    for (std::int64_t i = 0; i < n; ++i) p[i] = narrow[i];
  }
  TS_INLINE static Lanes load(const Index* p, std::int64_t n) {
    if (n == width) [[likely]]
      return widened(p);
    Narrow narrow{};
#if defined(__AVX512F__)
    if constexpr (sizeof narrow == 16)
      return Lanes(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_bytes(n), p)));
#endif
    std::memcpy(&narrow, p, static_cast<std::size_t>(n) * sizeof(Index));
    return widened(reinterpret_cast<const Index*>(&narrow));
  }

 private:
#if defined(__AVX512F__)
  TS_INLINE static __mmask16 first_bytes(std::int64_t n) {
    return static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(n)));
  }
#endif
  TS_INLINE static Narrow narrowed(Lanes lanes) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    if constexpr (sizeof(T) == 4 && sizeof(Index) == 1) {
      const __m256i v = __m256i(lanes);
      const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
      const std::int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
      Narrow narrow;
      std::memcpy(&narrow, &bytes, sizeof narrow);
      return narrow;
    }
#endif
    return __builtin_convertvector(lanes, Narrow);
  }
  TS_INLINE static Lanes widened(const Index* p) {
    if constexpr (sizeof(Index) == sizeof(T)) {
      Lanes lanes;
      std::memcpy(&lanes, p, sizeof lanes);
      return lanes;
    }
#if defined(__AVX512F__)
    if constexpr (sizeof(Index) == 1 && sizeof(T) == 4)
      return Lanes(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    if constexpr (sizeof(Index) == 1 && sizeof(T) == 8)
      return Lanes(_mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
    if constexpr (sizeof(Index) == 1 && sizeof(T) == 4)
      return Lanes(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#endif
    Narrow narrow;
    std::memcpy(&narrow, p, sizeof narrow);
    return __builtin_convertvector(narrow, Lanes);
  }
};

template <class S>
TS_INLINE Vec<Computed<S>> load_lanes(const S* p, std::int64_t n) {
  return n == Vec<Computed<S>>::width ? get(p, All{}) : get(p, First{n});
}
template <class S>
TS_INLINE void store_lanes(Vec<Computed<S>> v, S* p, std::int64_t n) {
  n == Vec<Computed<S>>::width ? put(p, v, All{}) : put(p, v, First{n});
}
// The same of numbers that S holds exactly.
template <class S>
TS_INLINE void store_exact(Vec<Computed<S>> v, S* p, std::int64_t n) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<S, BFloat16>) {
    const HalfBits h = _mm512_cvtepi32_epi16(_mm512_srli_epi32(__m512i(v.r), 16));
    return n == Vec<float>::width ? store_halves(p, h, All{}) : store_halves(p, h, First{n});
  }
#endif
  store_lanes(v, p, n);
}

// n pairs of neighbours, the first and the second of each. Of bfloat16 they are the halves of 32 bits.
template <class S>
struct Pairs {
  using T = Computed<S>;
  static constexpr int W = Vec<T>::width;
  Vec<T> even, odd;

  template <bool kFull>
  TS_INLINE static Pairs load(const S* p, std::int64_t n) {
    if constexpr (std::is_same_v<S, BFloat16>) {
      const auto* const bits = reinterpret_cast<const std::uint32_t*>(p);
      const Vec<std::uint32_t> u =
          kFull ? Vec<std::uint32_t>::load(bits) : Vec<std::uint32_t>::load_partial(bits, n);
      return {bit_cast<float>(u << 16), bit_cast<float>(u & Vec<std::uint32_t>(0xffff0000u))};
    } else {
      typename Vec<T>::MaskReg even, odd;
      for (int i = 0; i < W; ++i) even[i] = 2 * i, odd[i] = 2 * i + 1;
      Vec<T> low, high;
      if constexpr (kFull) {
        low = get(p, All{}), high = get(p + W, All{});
      } else {
        low = load_lanes(p, 2 * n < W ? 2 * n : W);
        high = 2 * n > W ? load_lanes(p + W, 2 * n - W) : Vec<T>(T(0));
      }
      return {Vec<T>(__builtin_shuffle(low.r, high.r, even)), Vec<T>(__builtin_shuffle(low.r, high.r, odd))};
    }
  }
  // What S holds of them.
  TS_INLINE Pairs rounded() const {
    if constexpr (std::is_same_v<S, BFloat16>) {
      const auto half = [](Vec<float> x) {
        return bit_cast<float>(rounded_to_bfloat16(x) & Vec<std::uint32_t>(0xffff0000u));
      };
      return {half(even), half(odd)};
    } else {
      return *this;
    }
  }
  // The first `count` numbers of them, which S holds exactly (as float16, rounded).
  TS_INLINE void store(S* p, std::int64_t count) const {
    if constexpr (std::is_same_v<S, BFloat16>) {
      const Vec<std::uint32_t> u = (bit_cast<std::uint32_t>(even) >> 16) | bit_cast<std::uint32_t>(odd);
      auto* const bits = reinterpret_cast<std::uint32_t*>(p);
      count == 2 * W ? u.store(bits) : u.store_partial(bits, count / 2);
      if (count % 2) p[count - 1] = stored_as<S>(even[static_cast<int>(count / 2)]);
    } else {
      typename Vec<T>::MaskReg low, high;
      for (int i = 0; i < W; ++i) low[i] = i / 2 + i % 2 * W, high[i] = W / 2 + i / 2 + i % 2 * W;
      store_exact(Vec<T>(__builtin_shuffle(even.r, odd.r, low)), p, count < W ? count : W);
      if (count > W) store_exact(Vec<T>(__builtin_shuffle(even.r, odd.r, high)), p + W, count - W);
    }
  }
};

// uint8 or int32, by the size of the window.
template <class F>
TS_INLINE void with_index(DType d, F&& f) {
  if (d == DType::uint8)
    f(Type<std::uint8_t>{});
  else
    f(Type<std::int32_t>{});
}

}  // namespace ts::cpu::TS_ISA
