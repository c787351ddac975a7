// Batch norm: y = (x - mean_c) rstd_c w_c + b_c, mean and variance of channel c over the batch (biased).
//
// x (N, C, S); M = N S numbers a channel; h = (x - mean) rstd.
//   db = sum dy,  dw = sum dy h,  dx = w rstd (dy - db/M - h dw/M)
// batch_norm_relu: max(0, y); dy counts where y > 0, which backward makes anew from x.
// Channels last or first. The statistics are sums by the tree of reduce.h over (N, S), so both layouts give
// the same bits. Forward reads x three times, backward reads dy and x twice; each writes its result once, 16
// bytes a thread where channels (or, channels first, pixels) allow.
#include "cuda/divider.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

// (N, C, S) seen as (C | N, S): the channel kept, the rest reduced.
struct ByChannel {
  std::int64_t shape[3], strides[3];
  View view;
  explicit ByChannel(const View& x)
      : shape{x.shape[1], x.shape[0], x.shape[2]},
        strides{x.strides[1], x.strides[0], x.strides[2]},
        view(x) {
    view.shape = shape;
    view.strides = strides;
  }
};

template <class T>
struct ChannelMean {
  using Value = T;
  using Sum = T;
  T* mean;
  T count;
  TS_INLINE Sum start(std::int64_t) const { return 0; }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const { s += v; }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { mean[at] = s / count; }
};
// rstd, and the running statistics where they are kept; everything lies as mean does.
template <class T>
struct ChannelSpread {
  using Value = T;
  struct Sum {
    T sum, mean;
  };
  const T* mean;
  T *rstd, *running_mean, *running_var;
  T count, eps, momentum;
  TS_INLINE Sum start(std::int64_t at) const { return {T(0), mean[at]}; }
  TS_INLINE void step(Sum& s, T v, T, std::int64_t) const {
    const Vec<T> d(v - s.mean);
    s.sum = fma(d, d, Vec<T>(s.sum)).r;
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s.sum += later.sum; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const {
    rstd[at] = T(1) / sqrt(Vec<T>(s.sum / count + eps)).r;
    const T rest = T(1) - momentum;
    if (running_mean) running_mean[at] = rest * running_mean[at] + momentum * s.mean;
    if (running_var) running_var[at] = rest * running_var[at] + momentum * (s.sum / (count - T(1)));
  }
};
template <class T>
struct Normalise {
  const T *mean, *rstd, *w, *b;
  TS_INLINE T operator()(std::int64_t c, T x, T) const {
    const T scale = w ? rstd[c] * w[c] : rstd[c];
    const T h = (x - mean[c]) * scale;
    return b ? h + b[c] : h;
  }
};
template <class T>
struct NormaliseRelu {
  Normalise<T> normalise;
  TS_INLINE T operator()(std::int64_t c, T x, T) const {
    const T y = normalise(c, x, T(0));
    return y < T(0) ? T(0) : y;  // NaN stays
  }
};

// What a channel's dy pass on their way back: nothing, or the ReLU of that result.
template <class T>
struct NoGate {
  struct Channel {
    TS_INLINE T operator()(T, T, T dy) const { return dy; }
  };
  TS_INLINE Channel channel(std::int64_t) const { return {}; }
};
template <class T>
struct ReluGate {
  const T *rstd, *w, *b;
  struct Channel {
    T scale, shift;
    TS_INLINE T operator()(T x, T mean, T dy) const { return (x - mean) * scale + shift > T(0) ? dy : T(0); }
  };
  TS_INLINE Channel channel(std::int64_t c) const { return {w ? rstd[c] * w[c] : rstd[c], b ? b[c] : T(0)}; }
};

template <class T, class Gate>
struct ChannelGradients {
  using Value = T;
  static constexpr bool kPair = true;
  // A base, not a member with [[no_unique_address]]: of an array of those nvcc 13.0 computes other addresses
  // than sizeof says.
  struct Sum : Gate::Channel {
    T dy, dyh, mean, rstd;
  };
  const T *mean, *rstd;
  T *dbias, *dweight;
  Gate gate;
  TS_INLINE Sum start(std::int64_t at) const { return {gate.channel(at), T(0), T(0), mean[at], rstd[at]}; }
  TS_INLINE void step(Sum& s, T x, T upstream, std::int64_t) const {
    const T dy = s(x, s.mean, upstream);
    s.dy += dy;
    s.dyh = fma(Vec<T>(dy), Vec<T>((x - s.mean) * s.rstd), Vec<T>(s.dyh)).r;
  }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s.dy += later.dy, s.dyh += later.dyh; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { dbias[at] = s.dy, dweight[at] = s.dyh; }
};

struct Volume {
  std::int64_t N, C, S, n, c, s;  // strides
  explicit Volume(const View& v)
      : N(v.shape[0]), C(v.shape[1]), S(v.shape[2]), n(v.strides[0]), c(v.strides[1]), s(v.strides[2]) {}
  TS_INLINE std::int64_t at(std::int64_t in, std::int64_t ic, std::int64_t is) const {
    return in * n + ic * c + is * s;
  }
};

// y = f(channel, x, dy) for neighbours along the inner axis: channels (kLast), or the S of one channel. A
// thread has kPack of them; with 1 they may lie anywhere.
template <class T, class F, int kPack, bool kLast>
__global__ void __launch_bounds__(256)
    channels_kernel(const T* x, const Volume xs, const T* dy, const Volume ds, T* y, const Volume v,
                    const F f, const Divider inner, const Divider outer, std::int64_t first,
                    std::int64_t count) {
  struct alignas(kPack * sizeof(T)) Pack {
    T value[kPack];
  };
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::uint32_t row = inner.quotient(i), along = (i - row * inner.divisor) * kPack;
  const std::uint32_t image = outer.quotient(row), other = row - image * outer.divisor;
  const std::int64_t n = first + image, c = kLast ? along : other, s = kLast ? other : along;
  const Pack in = *reinterpret_cast<const Pack*>(x + xs.at(n, c, s));
  Pack gradient{}, out;
  if (dy) gradient = *reinterpret_cast<const Pack*>(dy + ds.at(n, c, s));
#pragma unroll
  for (int e = 0; e < kPack; ++e) out.value[e] = f(kLast ? c + e : c, in.value[e], gradient.value[e]);
  *reinterpret_cast<Pack*>(y + v.at(n, c, s)) = out;
}
template <class T, class F>
void map_channels(const View& x, const View& dy, const View& y, const F& f) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  if (y.size() == 0) return;
  const bool last = y.strides[1] == 1 && (y.shape[1] > 1 || y.strides[2] != 1);
  const int inner = last ? 1 : 2, outer = last ? 2 : 1;
  bool packs = y.shape[inner] % kWide == 0;
  for (const View* v : {&x, &dy, &y}) {
    if (!v->data) continue;
    packs = packs && v->strides[inner] == 1 && reinterpret_cast<std::uintptr_t>(v->data) % 16 == 0 &&
            (v->shape[0] == 1 || v->strides[0] % kWide == 0) &&
            (v->shape[outer] == 1 || v->strides[outer] % kWide == 0);
  }
  const std::int64_t along = packs ? y.shape[inner] / kWide : y.shape[inner], image = along * y.shape[outer];
  const std::int64_t some =
      image < INT32_MAX ? INT32_MAX / image : 1;  // images of a launch: 32-bit divisions
  if (image > INT32_MAX) not_implemented("batch_norm", "2^31 numbers of one image");
  for (std::int64_t first = 0; first < y.shape[0]; first += some) {
    const std::int64_t count = (y.shape[0] - first < some ? y.shape[0] - first : some) * image;
    const auto go = [&](auto kernel) {
      launch(kernel, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, static_cast<const T*>(x.data),
             Volume(x), static_cast<const T*>(dy.data), dy.data ? Volume(dy) : Volume(x),
             static_cast<T*>(y.data), Volume(y), f, Divider(along), Divider(y.shape[outer]), first, count);
    };
    if (packs)
      last ? go(&channels_kernel<T, F, kWide, true>) : go(&channels_kernel<T, F, kWide, false>);
    else
      last ? go(&channels_kernel<T, F, 1, true>) : go(&channels_kernel<T, F, 1, false>);
  }
}

template <class T>
struct Affine {
  const T *scale, *shift;
  TS_INLINE T operator()(std::int64_t c, T x, T) const {
    return fma(Vec<T>(x), Vec<T>(scale[c]), Vec<T>(shift ? shift[c] : T(0))).r;
  }
};
template <class T, class Gate>
struct InputGradient {
  const T *mean, *rstd, *w, *dbias, *dweight;
  T count;
  Gate gate;
  TS_INLINE T operator()(std::int64_t c, T x, T upstream) const {
    const T dy = gate.channel(c)(x, mean[c], upstream);
    const T h = (x - mean[c]) * rstd[c], scale = w ? w[c] * rstd[c] : rstd[c];
    return scale * (dy - dbias[c] / count - h * (dweight[c] / count));
  }
};

template <class T, class Result>
void forward(In x, Out y, Out mean, Out rstd, Out running_mean, Out running_var, double momentum, double eps,
             const Result& result) {
  const ByChannel channels(x);
  const T count = static_cast<T>(x.shape[0] * x.shape[2]);
  reduce("batch_norm", channels.view, nullptr, mean, 2, ChannelMean<T>{mean.as<T>(), count});
  reduce("batch_norm", channels.view, nullptr, mean, 2,
         ChannelSpread<T>{mean.as<T>(), rstd.as<T>(), running_mean.as<T>(), running_var.as<T>(), count,
                          static_cast<T>(eps), static_cast<T>(momentum)});
  map_channels<T>(x, View{}, y, result);
}

template <class T, class Gate>
void backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias, const Gate& gate) {
  const std::int64_t C = x.shape[1];
  const ByChannel xs(x), dys(dy);
  const Workspace room(2 * C * static_cast<std::int64_t>(sizeof(T)));
  T* const db = dbias ? dbias.as<T>() : room.as<T>();
  T* const dw = dweight ? dweight.as<T>() : room.as<T>() + C;
  reduce("batch_norm_backward", xs.view, &dys.view, mean, 2,
         ChannelGradients<T, Gate>{mean.as<T>(), rstd.as<T>(), db, dw, gate});
  map_channels<T>(x, dy, dx,
                  InputGradient<T, Gate>{mean.as<T>(), rstd.as<T>(), weight.as<T>(), db, dw,
                                         static_cast<T>(x.shape[0] * x.shape[2]), gate});
}

template <class T>
Normalise<T> normalise(In weight, In bias, const View& mean, const View& rstd) {
  return {static_cast<const T*>(mean.data), static_cast<const T*>(rstd.data), weight.as<T>(), bias.as<T>()};
}

}  // namespace

void batch_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                double momentum, double eps) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    forward<T>(x, y, mean, rstd, running_mean, running_var, momentum, eps,
               normalise<T>(weight, bias, mean, rstd));
  });
}
void batch_norm_relu(In x, In weight, In bias, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                     double momentum, double eps) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    forward<T>(x, y, mean, rstd, running_mean, running_var, momentum, eps,
               NormaliseRelu<T>{normalise<T>(weight, bias, mean, rstd)});
  });
}

void batch_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    backward<T>(dy, x, weight, mean, rstd, dx, dweight, dbias, NoGate<T>{});
  });
}
void batch_norm_relu_backward(In dy, In x, In weight, In bias, In mean, In rstd, Out dx, Out dweight,
                              Out dbias, Out) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    backward<T>(dy, x, weight, mean, rstd, dx, dweight, dbias,
                ReluGate<T>{rstd.as<T>(), weight.as<T>(), bias.as<T>()});
  });
}

void channel_affine(In x, In scale, In shift, Out y) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    map_channels<T>(x, View{}, y, Affine<T>{scale.as<T>(), shift.as<T>()});
  });
}

}  // namespace ts::cuda
