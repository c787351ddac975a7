// What the files of convolution share: who sees which pixel, and images with their channels last.
//
// N images, G groups of C channels in and O out, H W extents of x, P Q of y, taps (i, j) of KH KW. A grid of
// places (y's pixels, or every s-th pixel of dx) looks at an image (x, or dy) through the taps of a filter.
#pragma once

#include <array>
#include <optional>

#include "core/view.h"
#include "cuda/divider.h"
#include "cuda/gemm.h"

namespace ts::cuda {

struct Shape4 {
  std::int64_t n, c, h, w;  // strides
  explicit Shape4(const View& v) : n(v.strides[0]), c(v.strides[1]), h(v.strides[2]), w(v.strides[3]) {}
};

// (channel, tap) of k = (i KW + j) channels + c.
struct Taps {
  Divider channels, width;
  Taps(std::int64_t c, std::int64_t kw) : channels(c > 0 ? c : 1), width(kw > 0 ? kw : 1) {}
  TS_INLINE void split(std::int64_t k, int& c, int& i, int& j) const {
    const std::uint32_t n = static_cast<std::uint32_t>(k), tap = channels.quotient(n),
                        row = width.quotient(tap);
    c = static_cast<int>(n - tap * channels.divisor);
    i = static_cast<int>(row);
    j = static_cast<int>(tap - row * width.divisor);
  }
};
// (image, row, column) of m = (n H + h) W + w.
struct Pixels {
  Divider height, width;
  Pixels(std::int64_t h, std::int64_t w) : height(h > 0 ? h : 1), width(w > 0 ? w : 1) {}
  TS_INLINE void split(std::int64_t m, int& n, int& h, int& w) const {
    const std::uint32_t i = static_cast<std::uint32_t>(m), line = width.quotient(i),
                        image = height.quotient(line);
    w = static_cast<int>(i - line * width.divisor);
    h = static_cast<int>(line - image * height.divisor);
    n = static_cast<int>(image);
  }
};

// Along an axis place p sees at tap t the pixel p scale + base + t step, if it is one of `extent`.
struct Sight {
  std::int32_t places, extent, scale, base, step, taps;
};
// Of an axis with `taps` of a filter: y looking at x.
inline Sight forward_sight(std::int64_t extent, std::int64_t places, std::int64_t stride,
                           std::int64_t padding, std::int64_t dilation, std::int64_t taps) {
  const auto i = [](std::int64_t v) { return static_cast<std::int32_t>(v); };
  return {i(places), i(extent), i(stride), i(-padding), i(dilation), i(taps)};
}
// Pixel h of x went by tap i into (h + padding - i dilation) / stride of y, where that is whole. So every
// stride-th pixel of x, from `phase` on, has the same taps: first, first + every, ...
struct Phase {
  std::int64_t phase, first, every;
  Sight sight;
  Phase(std::int64_t phase, std::int64_t extent, std::int64_t places, std::int64_t stride,
        std::int64_t padding, std::int64_t dilation, std::int64_t taps)
      : phase(phase), first(0), every(1), sight{} {
    std::int64_t a = stride, b = dilation;
    while (b) a %= b, std::swap(a, b);
    every = stride / a;  // a: their greatest common divisor
    while (first < every && first < taps && (phase + padding - first * dilation) % stride != 0) ++first;
    const bool any = first < every && first < taps;
    const auto i = [](std::int64_t v) { return static_cast<std::int32_t>(v); };
    sight = {i(ceil_div(extent - phase, stride)),
             i(places),
             1,
             any ? i((phase + padding - first * dilation) / stride) : 0,
             i(-dilation / a),
             any ? i(ceil_div(taps - first, every)) : 0};
  }
};

struct Scene {
  Sight h, w;
  std::int64_t N, channels;  // of a group of the image that is seen
  std::int64_t rows() const { return N * h.places * w.places; }
  std::int64_t depth() const { return channels * h.taps * w.taps; }
  Pixels places() const { return {h.places, w.places}; }
  Taps taps() const { return {channels, w.taps}; }
};

// The filter as its user sees it: `rows` of results a group, by taps and the channels that are seen.
struct Filter {
  const void* data;
  DType dtype;
  std::int64_t group, row, channel, tap_h, tap_w, rows;  // strides, in elements; and their number
};

// An image seen or written, of G groups of `channels`.
struct Image4 {
  void* data;
  DType dtype;
  Shape4 s;
  std::int64_t channels, G;
};

// --- conv_mma.cu -----------------------------------------------------------------------------------------

// Numbers of 2 or 4 bytes as they are; float32 rounded to bfloat16, or as its three parts (gemm_mma.cu).
enum class Channels { same, bfloat16, planes };
// The numbers of (d0, d1, d2, d3) rows of C channels, any strides, with each row's channels side by side in
// `pitch` of them (a multiple of 4), zeros behind them: reads and writes them once.
class Arranged {
 public:
  std::int64_t plane;  // elements
  Arranged(const void* data, DType dtype, const std::array<std::int64_t, 4>& extents,
           const std::array<std::int64_t, 4>& strides, std::int64_t C, std::int64_t channel,
           std::int64_t pitch, Channels how);
  template <class T>
  T* as() const {
    return room_.as<T>();
  }

 private:
  Workspace room_;
};

// On tensor cores, in `number`: bfloat16 or float16 (each operand of it, or for bfloat16 float32 that is
// rounded to it), or float32 by `precision`. The rows of y or dx, with bias, activation and dtype as `result`
// has them...
void conv_cores(const Image4& seen, const Scene& scene, const Filter& filter, const Image4& out,
                const LowResult& result, DType number, MatmulPrecision precision);
// ... and dw (G O, C, KH, KW), float32, of what dy's pixels saw of x.
void conv_cores_weight(const Image4& dy, const Image4& x, const Scene& scene, const View& dw, DType number,
                       MatmulPrecision precision);

}  // namespace ts::cuda
