// 2-D convolution, forward and both gradients, as the products of gemm_tile.h whose operands are read in
// place.
//
// N images, G groups of C channels in and O out, H W extents of x, P Q of y, taps (i, j) of KH KW.
//   y[n, o, p, q]  = act(bias[o] + sum_{i, j, c} x[n, c, p s + i d - pad, ...] w[o, c, i, j])     rows (n, p,
//   q) dx[n, c, h, w] = sum_{i, j, o} dy[n, o, (h + pad - i d) / s, ...] w[o, c, i, j]               rows (n,
//   h, w) dw[o, c, i, j] = sum_{n, p, q} dy[n, o, p, q] x[n, c, p s + i d - pad, ...]                   rows
//   o
// The channel is the fastest part of k (and of dw's columns), because activations lie channels last.
#include "cuda/divider.h"
#include "cuda/gemm_tile.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

constexpr std::int64_t kOutside = INT64_MIN;  // the offset of a row beyond the last; strides may be negative

struct Shape4 {
  std::int64_t n, c, h, w;  // strides
  explicit Shape4(const View& v) : n(v.strides[0]), c(v.strides[1]), h(v.strides[2]), w(v.strides[3]) {}
};

// What all three share.
struct Geometry {
  std::int64_t N, G, C, O, H, W, P, Q;
  std::int32_t stride[2], padding[2], dilation[2], taps[2];

  Geometry(const View& x, const View& weight, const View& y, const Conv2d& conv)
      : N(x.shape[0]),
        G(conv.groups),
        C(weight.shape[1]),
        O(conv.groups ? weight.shape[0] / conv.groups : 0),
        H(x.shape[2]),
        W(x.shape[3]),
        P(y.shape[2]),
        Q(y.shape[3]) {
    for (int d = 0; d < 2; ++d) {
      stride[d] = static_cast<std::int32_t>(conv.stride[d]);
      padding[d] = static_cast<std::int32_t>(conv.padding[d]);
      dilation[d] = static_cast<std::int32_t>(conv.dilation[d]);
      taps[d] = static_cast<std::int32_t>(weight.shape[2 + d]);
    }
    if (N * P * Q >= INT32_MAX || N * H * W >= INT32_MAX)
      not_implemented("conv2d", "2^31 or more pixels; split the batch");
  }
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

// x seen from outputs (rows, or columns in the weight's gradient) and taps.
template <class T>
struct Patches {
  struct Output {  // of a pixel of y: where tap (0, 0) reads
    std::int64_t offset;
    int h, w;  // below -2^30: no pixel
  };
  struct Tap {
    std::int64_t offset;
    int h, w;
  };
  const T* x;
  Shape4 xs;
  Geometry g;
  Taps taps;
  Pixels pixels;
  std::int64_t rows;
  bool along_k;
  TS_INLINE void shift(std::int64_t group) { x += group * g.C * xs.c; }
  TS_INLINE Output output(std::int64_t m, std::int64_t count) const {
    if (m >= count) return {0, -(1 << 30), 0};
    int n, p, q;
    pixels.split(m, n, p, q);
    const int h = p * g.stride[0] - g.padding[0], w = q * g.stride[1] - g.padding[1];
    return {n * xs.n + h * xs.h + w * xs.w, h, w};
  }
  TS_INLINE Tap tap(std::int64_t k) const {
    int c, i, j;
    taps.split(k, c, i, j);
    const int h = i * g.dilation[0], w = j * g.dilation[1];
    return {c * xs.c + h * xs.h + w * xs.w, h, w};
  }
  TS_INLINE T read(const Output& o, const Tap& t) const {
    const int h = o.h + t.h, w = o.w + t.w;
    return h >= 0 && h < g.H && w >= 0 && w < g.W ? x[o.offset + t.offset] : T(0);
  }
};
template <class T>
struct PatchRows : Patches<T> {
  using Row = typename Patches<T>::Output;
  using Col = typename Patches<T>::Tap;
  TS_INLINE Row row(std::int64_t m) const { return this->output(m, this->rows); }
  TS_INLINE Col col(std::int64_t k) const { return this->tap(k); }
  TS_INLINE T load(const Row& r, const Col& c) const { return this->read(r, c); }
};
template <class T>
struct PatchColumns
    : Patches<T> {  // the second operand of the weight's gradient: rows are taps, k the pixels
  using Row = typename Patches<T>::Tap;
  using Col = typename Patches<T>::Output;
  TS_INLINE Row row(std::int64_t n) const {
    if (n < this->rows) return this->tap(n);
    return {0, -(1 << 30), 0};
  }
  TS_INLINE Col col(std::int64_t k) const { return this->output(k, this->g.N * this->g.P * this->g.Q); }
  TS_INLINE T load(const Row& r, const Col& c) const { return this->read(c, r); }
};

// dy seen from pixels of x and taps.
template <class T>
struct Sources {
  struct Row {
    std::int64_t image;
    int h, w;  // plus padding; below -2^30: no pixel
  };
  struct Col {
    std::int64_t channel;
    int h, w;
  };
  const T* dy;
  Shape4 ys;
  Geometry g;
  Taps taps;
  Pixels pixels;
  Divider step_h, step_w;
  std::int64_t rows;
  bool along_k;
  TS_INLINE void shift(std::int64_t group) { dy += group * g.O * ys.c; }
  TS_INLINE Row row(std::int64_t m) const {
    if (m >= rows) return {0, -(1 << 30), 0};
    int n, h, w;
    pixels.split(m, n, h, w);
    return {n * ys.n, h + g.padding[0], w + g.padding[1]};
  }
  TS_INLINE Col col(std::int64_t k) const {
    int o, i, j;
    taps.split(k, o, i, j);
    return {o * ys.c, i * g.dilation[0], j * g.dilation[1]};
  }
  TS_INLINE T load(const Row& r, const Col& c) const {
    const int h = r.h - c.h, w = r.w - c.w;
    if (h < 0 || w < 0) return T(0);
    const int p = static_cast<int>(step_h.quotient(static_cast<std::uint32_t>(h)));
    const int q = static_cast<int>(step_w.quotient(static_cast<std::uint32_t>(w)));
    if (p * g.stride[0] != h || q * g.stride[1] != w || p >= g.P || q >= g.Q) return T(0);
    return dy[r.image + c.channel + p * ys.h + q * ys.w];
  }
};

// dy with rows o and k the pixels.
template <class T>
struct Gradients {
  using Row = std::int64_t;
  using Col = std::int64_t;
  const T* dy;
  Shape4 ys;
  Geometry g;
  Pixels pixels;
  bool along_k;
  TS_INLINE void shift(std::int64_t group) { dy += group * g.O * ys.c; }
  TS_INLINE Row row(std::int64_t o) const { return o < g.O ? o * ys.c : kOutside; }
  TS_INLINE Col col(std::int64_t k) const {
    if (k >= g.N * g.P * g.Q) return 0;
    int n, p, q;
    pixels.split(k, n, p, q);
    return n * ys.n + p * ys.h + q * ys.w;
  }
  TS_INLINE T load(Row r, Col c) const { return r != kOutside ? dy[r + c] : T(0); }
};

// The weight: rows o and k (i, j, c), or rows c and k (i, j, o).
template <class T>
struct Weights {
  using Row = std::int64_t;
  using Col = std::int64_t;
  const T* w;
  Shape4 ws;
  std::int64_t group, rows, row_stride, channel_stride;
  Taps taps;
  bool along_k;
  TS_INLINE void shift(std::int64_t g) { w += g * group; }
  TS_INLINE Row row(std::int64_t r) const { return r < rows ? r * row_stride : kOutside; }
  TS_INLINE Col col(std::int64_t k) const {
    int c, i, j;
    taps.split(k, c, i, j);
    return c * channel_stride + i * ws.h + j * ws.w;
  }
  TS_INLINE T load(Row r, Col c) const { return r != kOutside ? w[r + c] : T(0); }
};

// Pixels by channels: y or dx.
template <class T>
struct Image {
  T* data;
  Shape4 s;
  Pixels pixels;
  std::int64_t channels;  // of a group
  const T* bias;
  std::int64_t bias_stride;
  bool relu;
  TS_INLINE void shift(std::int64_t group, std::int64_t) {
    data += group * channels * s.c;
    if (bias) bias += group * channels * bias_stride;
  }
  TS_INLINE void store(std::int64_t m, std::int64_t c, T value) const {
    int n, h, w;
    pixels.split(m, n, h, w);
    if (bias) value += bias[c * bias_stride];
    if (relu) value = ts::cuda::max(Vec<T>(T(0)), Vec<T>(value)).r;
    data[n * s.n + c * s.c + h * s.h + w * s.w] = value;
  }
};
template <class T>
struct WeightImage {
  T* data;
  Shape4 s;
  Taps taps;
  std::int64_t group;
  TS_INLINE void shift(std::int64_t g, std::int64_t) { data += g * group; }
  TS_INLINE void store(std::int64_t o, std::int64_t k, T value) const {
    int c, i, j;
    taps.split(k, c, i, j);
    data[o * s.n + c * s.c + i * s.h + j * s.w] = value;
  }
};

// dbias[o] = sum of dy over images and pixels.
template <class T>
struct BiasSum {
  using Value = T;
  using Sum = T;
  T* y;
  TS_INLINE Sum start(std::int64_t) const { return 0; }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const { s += v; }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = s; }
};

}  // namespace

void conv2d(In x, In weight, In bias, Out y, Conv2d conv, Activation activation) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Geometry g(x, weight, y, conv);
    const Taps taps(g.C, g.taps[1]);
    const std::int64_t M = g.N * g.P * g.Q, K = g.C * g.taps[0] * g.taps[1];
    PatchRows<T> patches{{x.as<T>(), Shape4(x), g, taps, Pixels(g.P, g.Q), M, true}};
    const Weights<T> w{weight.as<T>(),
                       Shape4(weight),
                       g.O * weight.strides[0],
                       g.O,
                       weight.strides[0],
                       weight.strides[1],
                       taps,
                       true};
    const Image<T> out{y.as<T>(),
                       Shape4(y),
                       Pixels(g.P, g.Q),
                       g.O,
                       bias.as<T>(),
                       bias ? bias.strides[0] : 0,
                       activation == Activation::relu};
    product<T>(patches, w, out, M, g.O, K, g.G);
  });
}

void conv2d_input_backward(In dy, In weight, Out dx, Conv2d conv) {
  with_floating(dy.dtype, [&]<class T>(Type<T>) {
    const Geometry g(dx, weight, dy, conv);
    const Taps taps(g.O, g.taps[1]);
    const std::int64_t M = g.N * g.H * g.W, K = g.O * g.taps[0] * g.taps[1];
    const Sources<T> sources{dy.as<T>(),           Shape4(dy),           g, taps, Pixels(g.H, g.W),
                             Divider(g.stride[0]), Divider(g.stride[1]), M, true};
    const Weights<T> w{weight.as<T>(),    Shape4(weight), g.O * weight.strides[0], g.C, weight.strides[1],
                       weight.strides[0], taps,           weight.strides[0] == 1};
    const Image<T> out{dx.as<T>(), Shape4(dx), Pixels(g.H, g.W), g.C, nullptr, 0, false};
    product<T>(sources, w, out, M, g.C, K, g.G);
  });
}

void conv2d_weight_backward(In dy, In x, Out dweight, Out dbias, Conv2d conv) {
  with_floating(dy.dtype, [&]<class T>(Type<T>) {
    const Geometry g(x, dweight, dy, conv);
    const Taps taps(g.C, g.taps[1]);
    const Pixels pixels(g.P, g.Q);
    const std::int64_t K = g.N * g.P * g.Q, columns = g.C * g.taps[0] * g.taps[1];
    const Gradients<T> gradients{dy.as<T>(), Shape4(dy), g, pixels, dy.strides[1] != 1};
    PatchColumns<T> patches{{x.as<T>(), Shape4(x), g, taps, pixels, columns, x.strides[1] != 1}};
    const WeightImage<T> out{dweight.as<T>(), Shape4(dweight), taps, g.O * dweight.strides[0]};
    product<T>(gradients, patches, out, g.O, columns, K, g.G);
    if (!dbias) return;
    const std::int64_t shape[4] = {dy.shape[1], dy.shape[0], dy.shape[2], dy.shape[3]};
    const std::int64_t strides[4] = {dy.strides[1], dy.strides[0], dy.strides[2], dy.strides[3]};
    View channels = dy;
    channels.shape = shape, channels.strides = strides;
    reduce("conv2d_weight_backward", channels, nullptr, dbias, 3, BiasSum<T>{dbias.as<T>()});
  });
}

}  // namespace ts::cuda
