// 2-D convolution, forward and both gradients, as products whose operands are read in place.
//
//   y[n, o, p, q]  = act(bias[o] + sum_{i, j, c} x[n, c, p s + i d - pad, ...] w[o, c, i, j])
//   dx[n, c, h, w] = sum_{i, j, o} dy[n, o, (h + pad - i d) / s, ...] w[o, c, i, j]
//   dw[o, c, i, j] = sum_{n, p, q} dy[n, o, p, q] x[n, c, p s + i d - pad, ...]
// The channel is the fastest part of k (and of dw's columns), because activations lie channels last. dx is
// computed by phases of the stride, each with the taps that reach it (conv.h).
//
// In float32 four channels at a time (conv_vector.h) where sizes and channels allow, else element by element
// (conv_patches.h), with the same additions; on tensor cores where float32 may be multiplied there, 1 x 1
// filters by the matrix product, others by conv_mma.cu. bfloat16 and float16 tensors go to tensor cores;
// where these do not take them (older GPUs, groups of few channels) float32 copies are multiplied and the
// result is rounded once, which are the same products.
#include "cuda/conv_vector.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"
#include "cuda/runtime.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

void check_extents(const Scene& scene, const View& x, const View& y) {
  if (x.shape[0] * x.shape[2] * x.shape[3] >= INT32_MAX ||
      y.shape[0] * y.shape[2] * y.shape[3] >= INT32_MAX || scene.depth() >= INT32_MAX)
    not_implemented("conv2d", "2^31 or more pixels; split the batch");
  // Places and taps that there are not lie 2^30 pixels before the image, which nothing may make up for.
  for (const Sight& s : {scene.h, scene.w})
    if (s.extent - 2 * std::int64_t{s.base} >= 1 << 30)
      not_implemented("conv2d", "2^30 or more pixels along an axis with its padding");
}

Image4 image(const View& x, std::int64_t groups) {
  return {x.data, x.dtype, Shape4(x), groups > 0 ? x.shape[1] / groups : 0, groups};
}
// y seeing x.
Scene forward_scene(const View& x, const View& weight, const View& y, const Conv2d& conv) {
  const auto sight = [&](int d) {
    return forward_sight(x.shape[2 + d], y.shape[2 + d], conv.stride[d], conv.padding[d], conv.dilation[d],
                         weight.shape[2 + d]);
  };
  const Scene scene{sight(0), sight(1), x.shape[0], weight.shape[1]};
  check_extents(scene, x, y);
  return scene;
}

// What is multiplied: the half among the operands and results, if there is one.
template <class... Views>
DType number_of(const Views&... views) {
  DType number = DType::float32;
  ((number = is_half(views.dtype) ? views.dtype : number), ...);
  return number;
}
bool on_cores(DType number, DType dtype, const Conv2d& conv, std::int64_t C, std::int64_t O) {
  if (capability() < 80 || (conv.groups > 1 && (C < 8 || O < 8))) return false;
  return is_half(number) || (dtype == DType::float32 && matmul_precision() != MatmulPrecision::ieee);
}
LowResult low_result(const Image4& out, const View& bias, bool relu) {
  const std::int64_t step = bias ? bias.strides[0] : 0;
  return {out.data,
          bias.data,
          nullptr,
          out.channels * out.s.c,
          out.s.w,
          out.s.c,
          out.channels * step,
          0,
          step,
          out.G,
          out.dtype,
          bias ? bias.dtype : DType::float32,
          relu,
          false};
}

// Float32 numbers in the place of a tensor's, channels last: a copy of what is read, rounded to the half
// `number`, or room for a result that finish() rounds into the tensor.
class AsFloat {
 public:
  AsFloat(const View& given, DType number, bool read) : given_(given), view_(given) {
    const bool half = is_half(given.dtype);
    if (!half && !read) return;
    strides_[1] = 1, strides_[3] = given.shape[1];
    strides_[2] = given.shape[3] * strides_[3], strides_[0] = given.shape[2] * strides_[2];
    view_.strides = strides_;
    room_.emplace(given.size() * 4);
    if (half && read) {
      copy_to(given, DType::float32, *room_);
    } else if (read) {
      const Workspace rounded(given.size() * 2);
      copy_to(given, number, rounded);
      const View halves = view_;
      copy_to(halves, DType::float32, *room_);
    }
    view_.data = room_->as<void>(), view_.dtype = DType::float32;
  }
  AsFloat(const AsFloat&) = delete;
  In in() const { return In{view_}; }
  Out out() const { return Out{view_}; }
  void finish() const {
    if (is_half(given_.dtype)) cast(In{view_}, Out{given_});
  }

 private:
  void copy_to(const View& from, DType dtype, const Workspace& room) {
    view_.data = room.as<void>(), view_.dtype = dtype;
    cast(In{from}, Out{view_});
  }

  const View& given_;
  std::optional<Workspace> room_;
  std::int64_t strides_[4];
  View view_;
};

// A 1 x 1 filter that sees every pixel where it is: the matrix product, if pixels are one after another.
bool pointwise(const View& weight, const Conv2d& conv) {
  for (int d = 0; d < 2; ++d)
    if (weight.shape[2 + d] != 1 || conv.stride[d] != 1 || conv.padding[d] != 0) return false;
  return true;
}
bool in_a_row(const View& x) {
  return (x.shape[2] == 1 || x.strides[2] == x.shape[3] * x.strides[3]) &&
         (x.shape[0] == 1 || x.strides[0] == x.shape[2] * x.shape[3] * x.strides[3]);
}
struct Matrices : View {
  std::int64_t extents[3], steps[3];
  Matrices(const View& of, std::int64_t batch, std::int64_t rows, std::int64_t columns,
           std::int64_t batch_step, std::int64_t row_step, std::int64_t column_step)
      : View{of.data, extents, steps, nullptr, 3, of.dtype},
        extents{batch, rows, columns},
        steps{batch_step, row_step, column_step} {}
  Matrices(const Matrices&) = delete;
  In in() const { return In{*this}; }
};
Matrices pixels_by_channels(const View& x, std::int64_t groups) {
  const std::int64_t channels = x.shape[1] / groups;
  return {x,
          groups,
          x.shape[0] * x.shape[2] * x.shape[3],
          channels,
          channels * x.strides[1],
          x.strides[3],
          x.strides[1]};
}
void pointwise_product(DType number, const In& a, const In& b, const LowResult& c, std::int64_t M,
                       std::int64_t N) {
  const MatmulPrecision precision = matmul_precision();
  const bool rounded = number == DType::float32 && precision == MatmulPrecision::bfloat16;
  gemm_cores(rounded ? DType::bfloat16 : number, a, b, c, M, N, precision);
}

constexpr std::int64_t fours(std::int64_t channels) { return ceil_div(channels, 4) * 4; }
// Whether the four-channel kernels may read it; otherwise it is arranged first.
bool read_in_fours(const Image4& x) {
  return x.s.c == 1 && x.channels % 4 == 0 && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 &&
         x.s.n % 4 == 0 && x.s.h % 4 == 0 && x.s.w % 4 == 0;
}
struct InFours {
  Image4 image;
  std::optional<Arranged> copy;
  InFours(const Image4& x, std::int64_t N, std::int64_t H, std::int64_t W, bool always) : image(x) {
    if (read_in_fours(x) && !always) return;
    const std::int64_t channels = fours(x.channels);
    copy.emplace(x.data, x.dtype, std::to_array({N, H, W, x.G}),
                 std::to_array({x.s.n, x.s.h, x.s.w, x.channels * x.s.c}), x.channels, x.s.c, channels,
                 Channels::same);
    image.data = copy->as<float>(), image.channels = channels;
    image.s.c = 1, image.s.w = x.G * channels, image.s.h = W * image.s.w, image.s.n = H * image.s.h;
  }
};

// The rows of y or dx.
template <class T>
void rows_product(const Image4& seen, const Scene& scene, const Filter& filter, const Result4<T>& out) {
  const std::int64_t M = scene.rows(), N = filter.rows, K = scene.depth();
  const auto vectors = [&](const auto&, const auto&, const auto& result, auto, auto, auto, std::int64_t G,
                           std::int64_t chunk, std::int64_t chunks) {
    if constexpr (std::is_same_v<T, float>) {
      // Padded channels would move the blocks of K, except within the first.
      const Scene padded{scene.h, scene.w, scene.N, fours(scene.channels)};
      if (!vectors_fit(M, N, G * chunks) || K == 0 || (padded.depth() != K && padded.depth() > kGemmBlock))
        return false;
      const InFours x(seen, scene.N, scene.h.extent, scene.w.extent, false);
      const Arranged w(filter.data, filter.dtype, {G, N, scene.h.taps, scene.w.taps},
                       {filter.group, filter.row, filter.tap_h, filter.tap_w}, scene.channels, filter.channel,
                       padded.channels, Channels::same);
      const Matrix<float> weights{w.as<float>(), N * padded.depth(), padded.depth(), 1, N, true};
      launch_vectors<PatchFours, FourCarrier<true>>(PatchRows<float>(x.image, padded, true), weights, result,
                                                    M, N, padded.depth(), G,
                                                    chunks > 1 ? chunk : padded.depth(), chunks);
      return true;
    }
    return false;
  };
  product<T>(PatchRows<T>(seen, scene, true), Weights<T>(filter, scene.taps()), out, M, N, K, seen.G,
             vectors);
}

template <class T>
Result4<T> result4(const Image4& out, const Scene& scene, const View& bias, bool relu) {
  return {
      static_cast<T*>(out.data),  out.s, scene.places(),    out.channels, static_cast<const T*>(bias.data),
      bias ? bias.strides[0] : 0, relu,  read_in_fours(out)};
}

// dw (G O, C, KH, KW).
template <class T>
void filter_product(const Image4& dy, const Image4& x, const Scene& scene, const View& dw, bool in_a_row) {
  const std::int64_t O = dy.channels, C = x.channels, K = scene.rows();
  const auto result = [&](const Scene& s) {
    return FilterResult<T>{static_cast<T*>(dw.data), Shape4(dw), s.taps(), O * dw.strides[0], C};
  };
  if constexpr (std::is_same_v<T, float>) {
    // More channels are more columns, which leaves the others' sums as they are.
    const Scene padded{scene.h, scene.w, scene.N, fours(C)};
    const std::int64_t chunks = K > 4096 * 64 ? 64 : ceil_div(K, 4096), N = padded.depth();
    if (K > 0 && vectors_fit(O, N, x.G * chunks)) {
      const InFours left(dy, scene.N, scene.h.places, scene.w.places, !in_a_row);
      const InFours right(x, scene.N, scene.h.extent, scene.w.extent, false);
      const Image4& d = left.image;
      const Matrix<float> rows{static_cast<const float*>(d.data), d.channels, 1, d.s.w, O, false};
      return product<float>(rows, PatchColumns<float>(right.image, padded, false), result(padded), O, N, K,
                            x.G, [](const auto& a, const auto& b, const auto& c, auto... sizes) {
                              launch_vectors<FourCarrier<false>, PatchColumnFours>(a, b, c, sizes...);
                              return true;
                            });
    }
  }
  const Gradients<T> gradients{static_cast<const T*>(dy.data), dy.s, O, K, scene.places(), dy.s.c != 1};
  product<T>(gradients, PatchColumns<T>(x, scene, x.s.c != 1), result(scene), O, scene.depth(), K, x.G);
}

// Zeros where no tap reaches.
void clear(const View& x) {
  check(cudaMemsetAsync(x.data, 0, static_cast<std::size_t>(x.size() * itemsize(x.dtype)), stream()),
        "cudaMemsetAsync");
}
bool dense(const View& x) {
  std::int64_t span = 1;
  for (int d = 0; d < x.ndim; ++d) {
    if (x.strides[d] < 0) return false;
    span += (x.shape[d] - 1) * x.strides[d];
  }
  return span == x.size();
}

// dbias[o] = sum of dy over images and pixels.
template <class T, class From>
struct BiasSum {
  using Value = From;
  using Sum = T;
  T* y;
  TS_INLINE Sum start(std::int64_t) const { return 0; }
  TS_INLINE void step(Sum& s, From v, From, std::int64_t) const {
    if constexpr (std::is_same_v<T, From>)
      s += v;
    else
      s += to_float(v);
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { y[at] = s; }
};
template <class T, class From>
void bias_gradient(const View& dy, const View& dbias) {
  const std::int64_t shape[4] = {dy.shape[1], dy.shape[0], dy.shape[2], dy.shape[3]};
  const std::int64_t strides[4] = {dy.strides[1], dy.strides[0], dy.strides[2], dy.strides[3]};
  View channels = dy;
  channels.shape = shape, channels.strides = strides;
  reduce("conv2d_weight_backward", channels, nullptr, dbias, 3,
         BiasSum<T, From>{static_cast<T*>(dbias.data)});
}

}  // namespace

void conv2d(In x, In weight, In bias, Out y, Conv2d conv, Activation activation) {
  const std::int64_t G = conv.groups, O = weight.shape[0] / G, C = weight.shape[1];
  if (y.size() == 0) return;
  const bool relu = activation == Activation::relu;
  const DType number = number_of(x, weight, y);
  const bool cores = on_cores(number, x.dtype, conv, C, O) && C > 0;
  if (is_half(number) && !cores) {
    const AsFloat result(y, number, false);
    conv2d(AsFloat(x, number, true).in(), AsFloat(weight, number, true).in(), bias, result.out(), conv,
           activation);
    return result.finish();
  }
  const Scene scene = forward_scene(x, weight, y, conv);
  const Image4 seen = image(x, G), out = image(y, G);
  const Filter filter{weight.data,       weight.dtype,      O * weight.strides[0], weight.strides[0],
                      weight.strides[1], weight.strides[2], weight.strides[3],     O};
  if (cores) {
    const LowResult result = low_result(out, bias, relu);
    if (!pointwise(weight, conv) || !in_a_row(x) || !in_a_row(y))
      return conv_cores(seen, scene, filter, out, result, number, matmul_precision());
    const Matrices w(weight, G, C, O, filter.group, filter.channel, filter.row);
    return pointwise_product(number, pixels_by_channels(x, G).in(), w.in(), result, scene.rows(), O);
  }
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    rows_product<T>(seen, scene, filter, result4<T>(out, scene, bias, relu));
  });
}

void conv2d_input_backward(In dy, In weight, Out dx, Conv2d conv) {
  const std::int64_t G = conv.groups, O = weight.shape[0] / G, C = weight.shape[1];
  if (dx.size() == 0) return;
  const Image4 seen = image(dy, G), whole = image(dx, G);
  const DType number = number_of(dy, weight, dx);
  const bool cores = on_cores(number, dy.dtype, conv, C, O) && O > 0;
  if (is_half(number) && !cores) {
    const AsFloat result(dx, number, false);
    conv2d_input_backward(AsFloat(dy, number, true).in(), AsFloat(weight, number, true).in(), result.out(),
                          conv);
    return result.finish();
  }
  if (cores && pointwise(weight, conv) && in_a_row(dy) && in_a_row(dx)) {
    const Matrices w(weight, G, O, C, O * weight.strides[0], weight.strides[0], weight.strides[1]);
    return pointwise_product(number, pixels_by_channels(dy, G).in(), w.in(), low_result(whole, View{}, false),
                             dx.shape[0] * dx.shape[2] * dx.shape[3], C);
  }
  const auto phase = [&](int d, std::int64_t p) {
    return Phase(p, dx.shape[2 + d], dy.shape[2 + d], conv.stride[d], conv.padding[d], conv.dilation[d],
                 weight.shape[2 + d]);
  };
  const bool cleared = dense(dx) && (conv.stride[0] > 1 || conv.stride[1] > 1);
  if (cleared) clear(dx);
  for (std::int64_t p = 0; p < conv.stride[0] && p < dx.shape[2]; ++p)
    for (std::int64_t q = 0; q < conv.stride[1] && q < dx.shape[3]; ++q) {
      const Phase a = phase(0, p), b = phase(1, q);
      if (cleared && (a.sight.taps == 0 || b.sight.taps == 0)) continue;
      const Scene scene{a.sight, b.sight, dx.shape[0], O};
      check_extents(scene, dx, dy);
      Image4 out = whole;
      out.data = static_cast<char*>(dx.data) + (p * dx.strides[2] + q * dx.strides[3]) * itemsize(dx.dtype);
      out.s.h *= conv.stride[0], out.s.w *= conv.stride[1];
      const Filter filter{
          static_cast<const char*>(weight.data) +
              (a.first * weight.strides[2] + b.first * weight.strides[3]) * itemsize(weight.dtype),
          weight.dtype,
          O * weight.strides[0],
          weight.strides[1],
          weight.strides[0],
          a.every * weight.strides[2],
          b.every * weight.strides[3],
          C};
      if (cores)
        conv_cores(seen, scene, filter, out, low_result(out, View{}, false), number, matmul_precision());
      else
        with_floating(dy.dtype, [&]<class T>(Type<T>) {
          rows_product<T>(seen, scene, filter, result4<T>(out, scene, View{}, false));
        });
    }
}

void conv2d_weight_backward(In dy, In x, Out dweight, Out dbias, Conv2d conv) {
  const std::int64_t G = conv.groups, O = dweight.shape[0] / G, C = dweight.shape[1];
  const DType number = number_of(dy, x);
  const bool cores = on_cores(number, x.dtype, conv, C, O);
  if (is_half(number) && !cores)
    return conv2d_weight_backward(AsFloat(dy, number, true).in(), AsFloat(x, number, true).in(), dweight,
                                  dbias, conv);
  if (dweight.size()) {
    const Scene scene = forward_scene(x, dweight, dy, conv);
    const Image4 seen = image(x, G), gradient = image(dy, G);
    const std::int64_t K = scene.rows();
    if (cores && pointwise(dweight, conv) && in_a_row(x) && in_a_row(dy)) {
      const Matrices a(dy, G, O, K, O * dy.strides[1], dy.strides[1], dy.strides[3]);
      LowResult c = low_result(gradient, View{}, false);
      c.data = dweight.data, c.dtype = dweight.dtype, c.batch = O * dweight.strides[0];
      c.m = dweight.strides[0], c.n = dweight.strides[1];
      pointwise_product(number, a.in(), pixels_by_channels(x, G).in(), c, O, C);
    } else if (cores) {
      conv_cores_weight(gradient, seen, scene, dweight, number, matmul_precision());
    } else {
      with_floating(dy.dtype, [&]<class T>(Type<T>) {
        filter_product<T>(gradient, seen, scene, dweight, in_a_row(dy));
      });
    }
  }
  if (!dbias) return;
  if (dy.dtype == DType::bfloat16)
    bias_gradient<float, BFloat16>(dy, dbias);
  else if (dy.dtype == DType::float16)
    bias_gradient<float, Float16>(dy, dbias);
  else
    with_floating(dy.dtype, [&]<class T>(Type<T>) { bias_gradient<T, T>(dy, dbias); });
}

}  // namespace ts::cuda
