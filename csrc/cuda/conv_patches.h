// A convolution's operands and results for gemm_tile.h, element by element, for any strides.
#pragma once

#include "cuda/conv.h"
#include "cuda/gemm_tile.h"

namespace ts::cuda {

constexpr std::int64_t kOutside = INT64_MIN;  // the offset of a row beyond the last; strides may be negative

// An image seen from places and taps.
template <class T>
struct Patches {
  struct Place {  // where its tap (0, 0) reads
    std::int64_t offset;
    int h, w;  // below -2^29: there is none
  };
  using Tap = Place;
  const T* x;
  Shape4 xs;
  Sight h, w;
  Taps taps;
  Pixels split;
  std::int64_t count, rows;  // of places; of (tap, channel)
  bool along_k;
  Patches(const Image4& seen, const Scene& scene, bool along_k)
      : x(static_cast<const T*>(seen.data)),
        xs(seen.s),
        h(scene.h),
        w(scene.w),
        taps(scene.taps()),
        split(scene.places()),
        count(scene.rows()),
        rows(scene.depth()),
        along_k(along_k) {}
  TS_INLINE void shift(std::int64_t group) {
    x += group * static_cast<std::int64_t>(taps.channels.divisor) * xs.c;
  }
  TS_INLINE Place place(std::int64_t m) const {
    if (m >= count) return {0, -(1 << 30), 0};
    return place_inside(m);
  }
  TS_INLINE Place place_inside(std::int64_t m) const {
    int n, p, q;
    split.split(m, n, p, q);
    p = p * h.scale + h.base, q = q * w.scale + w.base;
    return {n * xs.n + p * xs.h + q * xs.w, p, q};
  }
  TS_INLINE Tap tap(std::int64_t k) const {
    int c, i, j;
    taps.split(k, c, i, j);
    i *= h.step, j *= w.step;
    return {c * xs.c + i * xs.h + j * xs.w, i, j};
  }
  TS_INLINE T read(const Place& o, const Tap& t) const {
    return static_cast<unsigned>(o.h + t.h) < static_cast<unsigned>(h.extent) &&
                   static_cast<unsigned>(o.w + t.w) < static_cast<unsigned>(w.extent)
               ? x[o.offset + t.offset]
               : T(0);
  }
};
template <class T>
struct PatchRows : Patches<T> {
  using Row = typename Patches<T>::Place;
  using Col = typename Patches<T>::Tap;
  using Patches<T>::Patches;
  TS_INLINE Row row(std::int64_t m) const { return this->place(m); }
  TS_INLINE Col col(std::int64_t k) const { return this->tap(k); }
  TS_INLINE T load(const Row& r, const Col& c) const { return this->read(r, c); }
};
// The second operand of the filter's gradient: rows are (tap, channel), k the places.
template <class T>
struct PatchColumns : Patches<T> {
  using Row = typename Patches<T>::Tap;
  using Col = typename Patches<T>::Place;
  using Patches<T>::Patches;
  TS_INLINE Row row(std::int64_t n) const {
    if (n < this->rows) return this->tap(n);
    return {0, -(1 << 30), 0};
  }
  TS_INLINE Col col(std::int64_t k) const { return this->place(k); }
  TS_INLINE T load(const Row& r, const Col& c) const { return this->read(c, r); }
};

// dy with rows o and k the pixels.
template <class T>
struct Gradients {
  using Row = std::int64_t;
  using Col = std::int64_t;
  const T* dy;
  Shape4 ys;
  std::int64_t channels, count;
  Pixels pixels;
  bool along_k;
  TS_INLINE void shift(std::int64_t group) { dy += group * channels * ys.c; }
  TS_INLINE Row row(std::int64_t o) const { return o < channels ? o * ys.c : kOutside; }
  TS_INLINE Col col(std::int64_t k) const {
    if (k >= count) return 0;
    int n, p, q;
    pixels.split(k, n, p, q);
    return n * ys.n + p * ys.h + q * ys.w;
  }
  TS_INLINE T load(Row r, Col c) const { return r != kOutside ? dy[r + c] : T(0); }
};

// The filter: rows of results, k = (tap, channel that is seen).
template <class T>
struct Weights {
  using Row = std::int64_t;
  using Col = std::int64_t;
  const T* w;
  Filter f;
  Taps taps;
  bool along_k;
  Weights(const Filter& f, const Taps& taps)
      : w(static_cast<const T*>(f.data)), f(f), taps(taps), along_k(f.row != 1) {}
  TS_INLINE void shift(std::int64_t g) { w += g * f.group; }
  TS_INLINE Row row(std::int64_t r) const { return r < f.rows ? r * f.row : kOutside; }
  TS_INLINE Col col(std::int64_t k) const {
    int c, i, j;
    taps.split(k, c, i, j);
    return c * f.channel + i * f.tap_h + j * f.tap_w;
  }
  TS_INLINE T load(Row r, Col c) const { return r != kOutside ? w[r + c] : T(0); }
};

// Places by channels: y or dx.
template <class T>
struct Result4 {
  T* data;
  Shape4 s;
  Pixels pixels;
  std::int64_t channels;  // of a group
  const T* bias;
  std::int64_t bias_stride;
  bool relu, fours;  // fours: four channels can be written at once
  TS_INLINE void shift(std::int64_t group, std::int64_t) {
    data += group * channels * s.c;
    if (bias) bias += group * channels * bias_stride;
  }
  TS_INLINE T* at(std::int64_t m, std::int64_t c) const {
    int n, h, w;
    pixels.split(m, n, h, w);
    return data + (n * s.n + c * s.c + h * s.h + w * s.w);
  }
  TS_INLINE T finished(std::int64_t c, T value) const {
    if (bias) value += bias[c * bias_stride];
    if (relu) value = ts::cuda::max(Vec<T>(T(0)), Vec<T>(value)).r;
    return value;
  }
  TS_INLINE void store(std::int64_t m, std::int64_t c, T value) const { *at(m, c) = finished(c, value); }
  TS_INLINE void store_four(std::int64_t m, std::int64_t c, float4 x) const {
    *reinterpret_cast<float4*>(at(m, c)) =
        float4{finished(c, x.x), finished(c + 1, x.y), finished(c + 2, x.z), finished(c + 3, x.w)};
  }
};
// dw, whose columns are (tap, channel) with room for more channels than it has.
template <class T>
struct FilterResult {
  T* data;
  Shape4 s;
  Taps taps;
  std::int64_t group, channels;
  TS_INLINE void shift(std::int64_t g, std::int64_t) { data += g * group; }
  TS_INLINE void store(std::int64_t o, std::int64_t k, T value) const {
    int c, i, j;
    taps.split(k, c, i, j);
    if (c < channels) data[o * s.n + c * s.c + i * s.h + j * s.w] = value;
  }
};

}  // namespace ts::cuda
