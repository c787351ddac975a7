// Batch norm: y = (x - mean_c) rstd_c w_c + b_c, mean and variance of channel c over the batch (biased).
//
// x (N, C, S); M = N S numbers a channel; h = (x - mean) rstd.
//   db = sum dy,  dw = sum dy h,  dx = w rstd (dy - db/M - h dw/M)
// batch_norm_relu: max(0, y); dy counts where y > 0, which backward makes anew from x.
// Channels last or first; of halves the arithmetic and all that is a number a channel are float32. The
// statistics are sums by the tree of reduce.h over (N, S), so both layouts give the same bits. Forward reads
// x three times, backward reads dy and x twice; each writes its result once, 16 bytes a thread where channels
// (or, channels first, pixels) allow.
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

// x may be stored as halves, X.
template <class T, class X>
struct ChannelMean {
  using Value = X;
  using Sum = T;
  T* mean;
  T count;
  TS_INLINE Sum start(std::int64_t) const { return 0; }
  TS_INLINE void step(Sum& s, X v, X, std::int64_t) const { s += from_stored<T>(v); }
  TS_INLINE void merge(Sum& s, const Sum& later) const { s += later; }
  TS_INLINE void finish(const Sum& s, std::int64_t at) const { mean[at] = s / count; }
};
// rstd, and the running statistics where they are kept; everything lies as mean does.
template <class T, class X>
struct ChannelSpread {
  using Value = X;
  struct Sum {
    T sum, mean;
  };
  const T* mean;
  T *rstd, *running_mean, *running_var;
  T count, eps, momentum;
  TS_INLINE Sum start(std::int64_t at) const { return {T(0), mean[at]}; }
  TS_INLINE void step(Sum& s, X v, X, std::int64_t) const {
    const Vec<T> d(from_stored<T>(v) - s.mean);
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
// What becomes of an element of x (and of dy), from its channel's numbers: element c of each array of `of`,
// some of which may be null.
template <class T>
struct Normalise {
  static constexpr int kArrays = 4;
  const T* of[kArrays];  // mean, rstd, weight, bias
  TS_INLINE T operator()(const T (&v)[kArrays], T x, T) const {
    const T scale = of[2] ? v[1] * v[2] : v[1], h = (x - v[0]) * scale;
    return of[3] ? h + v[3] : h;
  }
};
template <class T>
struct NormaliseRelu : Normalise<T> {
  TS_INLINE T operator()(const T (&v)[4], T x, T) const {
    const T y = Normalise<T>::operator()(v, x, T(0));
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

template <class T, class X, class Gate>
struct ChannelGradients {
  using Value = X;
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
  TS_INLINE void step(Sum& s, X stored, X upstream, std::int64_t) const {
    const T x = from_stored<T>(stored), dy = s(x, s.mean, from_stored<T>(upstream));
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

// y = f(its channel's numbers, x, dy) for neighbours along the inner axis: channels (kLast), or the S of one
// channel. A thread has kPack of them; with 1 they may lie anywhere.
template <class T, class X, class F, int kPack, bool kLast>
__global__ void __launch_bounds__(256)
    channels_kernel(const X* x, const Volume xs, const X* dy, const Volume ds, X* y, const Volume v,
                    const F f, const Divider inner, const Divider outer, std::int64_t first,
                    std::int64_t count) {
  struct alignas(kPack * sizeof(X)) Pack {
    X value[kPack];
  };
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  struct alignas(16) Numbers {
    T value[kWide];
  };
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::uint32_t row = inner.quotient(i), along = (i - row * inner.divisor) * kPack;
  const std::uint32_t image = outer.quotient(row), other = row - image * outer.divisor;
  const std::int64_t n = first + image, c = kLast ? along : other, s = kLast ? other : along;
  const Pack in = *reinterpret_cast<const Pack*>(x + xs.at(n, c, s));
  Pack gradient{}, out;
  if (dy) gradient = *reinterpret_cast<const Pack*>(dy + ds.at(n, c, s));
  T numbers[kPack][F::kArrays];
#pragma unroll
  for (int a = 0; a < F::kArrays; ++a) {
    const T* const of = f.of[a];
    if constexpr (kLast && kPack >= kWide) {
#pragma unroll
      for (int e = 0; e < kPack; e += kWide) {
        const Numbers some = of ? *reinterpret_cast<const Numbers*>(of + c + e) : Numbers{};
#pragma unroll
        for (int k = 0; k < kWide; ++k) numbers[e + k][a] = some.value[k];
      }
    } else {
      const T one = of ? of[c] : T(0);
#pragma unroll
      for (int e = 0; e < kPack; ++e) numbers[e][a] = one;
    }
  }
#pragma unroll
  for (int e = 0; e < kPack; ++e)
    out.value[e] =
        to_stored<X>(f(numbers[e], from_stored<T>(in.value[e]), from_stored<T>(gradient.value[e])));
  *reinterpret_cast<Pack*>(y + v.at(n, c, s)) = out;
}
template <class T, class X, class F>
void map_channels(const View& x, const View& dy, const View& y, const F& f) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(X));
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
  for (const T* of : f.of) packs = packs && (!last || reinterpret_cast<std::uintptr_t>(of) % 16 == 0);
  const std::int64_t along = packs ? y.shape[inner] / kWide : y.shape[inner], image = along * y.shape[outer];
  const std::int64_t some =
      image < INT32_MAX ? INT32_MAX / image : 1;  // images of a launch: 32-bit divisions
  if (image > INT32_MAX) not_implemented("batch_norm", "2^31 numbers of one image");
  for (std::int64_t first = 0; first < y.shape[0]; first += some) {
    const std::int64_t count = (y.shape[0] - first < some ? y.shape[0] - first : some) * image;
    const auto go = [&](auto kernel) {
      launch(kernel, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, static_cast<const X*>(x.data),
             Volume(x), static_cast<const X*>(dy.data), dy.data ? Volume(dy) : Volume(x),
             static_cast<X*>(y.data), Volume(y), f, Divider(along), Divider(y.shape[outer]), first, count);
    };
    if (packs)
      last ? go(&channels_kernel<T, X, F, kWide, true>) : go(&channels_kernel<T, X, F, kWide, false>);
    else
      last ? go(&channels_kernel<T, X, F, 1, true>) : go(&channels_kernel<T, X, F, 1, false>);
  }
}

template <class T>
struct Affine {
  static constexpr int kArrays = 2;
  const T* of[kArrays];  // scale, shift
  TS_INLINE T operator()(const T (&v)[kArrays], T x, T) const {
    return fma(Vec<T>(x), Vec<T>(v[0]), Vec<T>(of[1] ? v[1] : T(0))).r;
  }
};
// kRelu: dy counts where the result was above 0.
template <class T, bool kRelu>
struct InputGradient {
  static constexpr int kArrays = kRelu ? 6 : 5;
  const T* of[kArrays];  // mean, rstd, weight, dbias, dweight, with kRelu bias
  T count;
  TS_INLINE T operator()(const T (&v)[kArrays], T x, T upstream) const {
    const T mean = v[0], rstd = v[1];
    T dy = upstream;
    if constexpr (kRelu) {
      const typename ReluGate<T>::Channel gate{of[2] ? rstd * v[2] : rstd, of[5] ? v[5] : T(0)};
      dy = gate(x, mean, upstream);
    }
    const T h = (x - mean) * rstd, scale = of[2] ? v[2] * rstd : rstd;
    return scale * (dy - v[3] / count - h * (v[4] / count));
  }
};

template <class T, class X, class Result>
void forward(In x, Out y, Out mean, Out rstd, Out running_mean, Out running_var, double momentum, double eps,
             const Result& result) {
  const ByChannel channels(x);
  const T count = static_cast<T>(x.shape[0] * x.shape[2]);
  reduce("batch_norm", channels.view, nullptr, mean, 2, ChannelMean<T, X>{mean.as<T>(), count});
  reduce("batch_norm", channels.view, nullptr, mean, 2,
         ChannelSpread<T, X>{mean.as<T>(), rstd.as<T>(), running_mean.as<T>(), running_var.as<T>(), count,
                             static_cast<T>(eps), static_cast<T>(momentum)});
  map_channels<T, X>(x, View{}, y, result);
}

template <class T, class X, class Gate>
void backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias, const Gate& gate,
              const T* bias) {
  constexpr bool kRelu = std::is_same_v<Gate, ReluGate<T>>;
  const std::int64_t C = x.shape[1];
  const ByChannel xs(x), dys(dy);
  const Workspace room(2 * C * static_cast<std::int64_t>(sizeof(T)));
  T* const db = dbias ? dbias.as<T>() : room.as<T>();
  T* const dw = dweight ? dweight.as<T>() : room.as<T>() + C;
  reduce("batch_norm_backward", xs.view, &dys.view, mean, 2,
         ChannelGradients<T, X, Gate>{mean.as<T>(), rstd.as<T>(), db, dw, gate});
  InputGradient<T, kRelu> f{{mean.as<T>(), rstd.as<T>(), weight.as<T>(), db, dw},
                            static_cast<T>(x.shape[0] * x.shape[2])};
  if constexpr (kRelu) f.of[5] = bias;
  map_channels<T, X>(x, dy, dx, f);
}

template <class T>
Normalise<T> normalise(In weight, In bias, const View& mean, const View& rstd) {
  return {{static_cast<const T*>(mean.data), static_cast<const T*>(rstd.data), weight.as<T>(), bias.as<T>()}};
}

}  // namespace

void batch_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                double momentum, double eps) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    forward<T, X>(x, y, mean, rstd, running_mean, running_var, momentum, eps,
                  normalise<T>(weight, bias, mean, rstd));
  });
}
void batch_norm_relu(In x, In weight, In bias, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                     double momentum, double eps) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    forward<T, X>(x, y, mean, rstd, running_mean, running_var, momentum, eps,
                  NormaliseRelu<T>{normalise<T>(weight, bias, mean, rstd)});
  });
}

void batch_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    backward<T, X>(dy, x, weight, mean, rstd, dx, dweight, dbias, NoGate<T>{}, nullptr);
  });
}
void batch_norm_relu_backward(In dy, In x, In weight, In bias, In mean, In rstd, Out dx, Out dweight,
                              Out dbias, Out) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    backward<T, X>(dy, x, weight, mean, rstd, dx, dweight, dbias,
                   ReluGate<T>{rstd.as<T>(), weight.as<T>(), bias.as<T>()}, bias.as<T>());
  });
}

void channel_affine(In x, In scale, In shift, Out y) {
  with_computed(x.dtype, [&]<class T, class X>(Type<T>, Type<X>) {
    map_channels<T, X>(x, View{}, y, Affine<T>{{scale.as<T>(), shift.as<T>()}});
  });
}

}  // namespace ts::cuda
