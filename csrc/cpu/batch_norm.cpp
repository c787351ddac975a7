// Batch norm: y = (x - mean_c) rstd_c w_c + b_c, mean and variance of channel c over the batch (biased).
//
// x (N, C, S); M = N S numbers a channel; h = (x - mean) rstd.
//   db = sum dy,  dw = sum dy h,  dx = w rstd (dy - db/M - h dw/M)
// Channels last (C has stride 1) or first (S has stride 1); every operand of a call is of one kind. The
// statistics are sums by the tree of reduce.h over (N, S), so both layouts give the same bits. Forward reads
// x twice, backward reads dy and x twice; each writes its result once. Where a channel fits in the
// second-level cache the second reading comes from there.
#include <cmath>

#include "core/epilogue.h"
#include "cpu/channel_moments.h"
#include "cpu/kernels.h"
#include "cpu/reduction.h"
#include "cpu/stream.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrain = 1 << 15;      // elements of a piece
constexpr std::int64_t kFinishedOnce = 4096;  // elements that an epilogue is given

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
struct GradientSums {  // params: mean, rstd
  using Op = Add;
  static constexpr int kSums = 2, kInputs = 2, kParams = 2, kOutputs = 2;
  template <class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T> dy, const Vec<T>* p, Part part) const {
    s[0] = s[0] + dy;
    s[1] = fma(dy, only((x - p[0]) * p[1], Vec<T>(T(0)), part), s[1]);
  }
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const { y[0] = s[0], y[1] = s[1]; }
};

// The same where y = max(0, h scale + bias) was > 0. params: mean, rstd, scale, bias.
template <class T>
struct GradientSumsRelu {
  using Op = Add;
  static constexpr int kSums = 2, kInputs = 2, kParams = 4, kOutputs = 2;
  template <class Part>
  TS_INLINE void step(Vec<T>* s, Vec<T> x, Vec<T> dy, const Vec<T>* p, Part part) const {
    const Vec<T> zero(T(0)), centred = x - p[0];
    const Vec<T> passed = only(select(fma(centred, p[2], p[3]) > zero, dy, zero), zero, part);
    s[0] = s[0] + passed;
    s[1] = fma(passed, only(centred * p[1], zero, part), s[1]);
  }
  TS_INLINE void finish(const Vec<T>* s, const Vec<T>*, Vec<T>* y) const { y[0] = s[0], y[1] = s[1]; }
};

bool channels_last(const View& x) {
  return x.strides[1] == 1 && (x.shape[1] > 1 || x.strides[2] != 1) && x.shape[2] * x.shape[0] > 0;
}

// Of x (N, C, S) the channels from `first` on.
struct SomeChannels {
  std::int64_t shape[3];
  View view;
  SomeChannels(const View& x, std::int64_t first, std::int64_t count, std::int64_t item)
      : shape{x.shape[0], count, x.shape[2]}, view(x) {
    view.shape = shape;
    view.data = static_cast<char*>(x.data) + first * x.strides[1] * item;
  }
};

// Calls body(first, count) for groups of channels that are worked on from their sums to their results while
// the second-level cache holds them, by all threads; or for all channels at once.
template <class E, class Body>
void for_channel_groups(const View& x, const Body& body) {
  constexpr std::int64_t kHeld = std::int64_t{1} << 19;  // bytes
  const std::int64_t C = x.shape[1], K = x.shape[0] * x.shape[2];
  const std::int64_t group = K < kGrain ? kGrain / (K + 1) + 1 : 1;
  if (channels_last(x) || K * static_cast<std::int64_t>(sizeof(E)) > kHeld || C < 4 * num_threads() * group)
    return body(std::int64_t{0}, C);
  parallel_ranges(C, group, [&](std::int64_t begin, std::int64_t end) { body(begin, end - begin); });
}

// Large results go past the caches, where every register of them lies at a multiple of its size.
template <class E>
bool goes_past(const View& y) {
  return !is_half_type<E> && y.size() * static_cast<std::int64_t>(sizeof(E)) >= 4 * kStreamBytes &&
         at_line(y.data);
}
template <class E>
bool is_far(const View& x) {
  return x.size() * static_cast<std::int64_t>(sizeof(E)) >= kFarBytes;
}

// Writes y = f(i-th inputs, channel numbers) over the whole of y. `numbers(c, get)` returns what f needs of
// channel c as registers, get(p) being p's numbers for them: neighbouring channels, or one channel broadcast.
template <class E, int Inputs, class Numbers, class F>
void map_channels(const View* const* inputs, const View& y, bool large, const Numbers& numbers, const F& f) {
  using T = Computed<E>;
  const std::int64_t N = y.shape[0], C = y.shape[1], S = y.shape[2];
  if (N * C * S == 0) return;
  const auto at = [](const View& v, std::int64_t n, std::int64_t c, std::int64_t s) {
    return static_cast<E*>(v.data) + n * v.strides[0] + c * v.strides[1] + s * v.strides[2];
  };
  const auto write = [](bool streams, E* p, Vec<T> v, auto part) {
    if constexpr (std::is_same_v<decltype(part), All> && !is_half_type<E>)
      if (streams) return stream_lanes(p, v);
    put(p, v, part);
  };
  const auto read = [](bool streams, const E* p, auto part) {
    if (streams) ask_ahead(p, kVectorBytes);
    return get(p, part);
  };
  if (channels_last(y)) {
    constexpr std::int64_t W = Vec<T>::width;
    // Rows of C numbers that follow one another are one long row, in which what f needs repeats after `span`.
    bool adjacent = true;
    const auto is_adjacent = [&](const View& v) {
      return (S == 1 || v.strides[2] == C) && (N == 1 || v.strides[0] == S * C);
    };
    for (int k = 0; k < Inputs; ++k) adjacent &= is_adjacent(*inputs[k]);
    std::int64_t repeat = 1;
    while (repeat * C % W != 0) repeat *= 2;
    const std::int64_t span = repeat * C;
    if (adjacent && is_adjacent(y) && span <= 1024 && 4 * span <= N * S * C) {
      const auto of_lanes = [&](std::int64_t i) {
        return numbers([&](const T* p) {
          T lanes[W];
          for (std::int64_t k = 0; k < W; ++k) lanes[k] = p[(i + k) % C];
          return Vec<T>::load(lanes);
        });
      };
      using Of = decltype(of_lanes(0));
      Of* const table = static_cast<Of*>(scratch());
      for (std::int64_t i = 0; i < span; i += W) table[i / W] = of_lanes(i);
      const Epilogue* const epilogue = take_epilogue();
      parallel_ranges(N * S * C, (kGrain / span + 1) * span, [&](std::int64_t begin, std::int64_t end) {
        const bool streams = large && !epilogue;
        std::int64_t finished = begin;
        const auto element = [&](std::int64_t i, const Of& of, auto part) {
          Vec<T> x[Inputs];
          for (int k = 0; k < Inputs; ++k)
            x[k] = read(streams, static_cast<const E*>(inputs[k]->data) + i, part);
          write(streams, static_cast<E*>(y.data) + i, f(x, of), part);
        };
        for (std::int64_t i = begin; i < end; i += span) {
          const std::int64_t n = end - i < span ? end - i : span;
          const Of* of = table;
          each<T>(i, i + n, [&](std::int64_t j, auto part) { element(j, *of++, part); });
          if (!epilogue || (i + n < end && i + n - finished < kFinishedOnce)) continue;
          const E* const block = static_cast<const E*>(y.data) + finished;
          epilogue->run(*epilogue, {finished / C, (i + n - finished) / C, 0, C, block, C});
          finished = i + n;
        }
        if (streams) _mm_sfence();
      });
      return;
    }
    const std::int64_t grain = C >= kGrain ? 1 : kGrain / C;
    parallel_ranges(N * S, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t n = r / S, s = r % S;
        E* const out = at(y, n, 0, s);
        const E* in[Inputs];
        for (int k = 0; k < Inputs; ++k) in[k] = at(*inputs[k], n, 0, s);
        each<T>(0, C, [&](std::int64_t c, auto part) {
          Vec<T> x[Inputs];
          for (int k = 0; k < Inputs; ++k) x[k] = get(in[k] + c, part);
          put(out + c, f(x, numbers([&](const T* p) { return get(p + c, part); })), part);
        });
      }
    });
    return;
  }
  constexpr std::int64_t kSegment = 4 * kGrain;
  const std::int64_t segments = (S + kSegment - 1) / kSegment;
  const std::int64_t grain = S >= kGrain ? 1 : kGrain / (S + 8);
  const auto whole = [](std::int64_t stride) {
    return stride * static_cast<std::int64_t>(sizeof(E)) % kLine == 0;
  };
  const bool lines = large && whole(y.strides[0]) && whole(y.strides[1]);
  parallel_ranges(N * C * segments, grain, [&](std::int64_t begin, std::int64_t end) {
    const bool streams = lines;
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t run = piece / segments, first = piece % segments * kSegment;
      const std::int64_t n = run / C, c = run % C, length = S - first < kSegment ? S - first : kSegment;
      E* const out = at(y, n, c, first);
      const E* in[Inputs];
      for (int k = 0; k < Inputs; ++k) in[k] = at(*inputs[k], n, c, first);
      const auto of_channel = numbers([&](const T* p) { return Vec<T>(Lane<T>(p[c])); });
      each<T>(0, length, [&](std::int64_t i, auto part) {
        Vec<T> x[Inputs];
        for (int k = 0; k < Inputs; ++k) x[k] = read(streams, in[k] + i, part);
        write(streams, out + i, f(x, of_channel), part);
      });
    }
    if (streams) _mm_sfence();
  });
}

template <class T>
struct Affine {
  Vec<T> center, scale, shift;
};

template <bool kRelu, class T>
TS_INLINE Vec<T> activated(Vec<T> y) {
  return kRelu ? max(Vec<T>(T(0)), y) : y;
}

template <bool kRelu>
void normalise(In x, In weight, In bias, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
               double momentum, double eps) {
  with_stored(x.dtype, [&]<class E>(Type<E>) {
    using T = Computed<E>;
    const std::int64_t M = x.shape[0] * x.shape[2];
    const bool large = goes_past<E>(y), far = is_far<E>(x);
    const auto from = [](T* p, std::int64_t first) { return p ? p + first : p; };
    const T fresh = static_cast<T>(momentum), kept = static_cast<T>(1 - momentum);
    const T unbias = static_cast<T>(static_cast<double>(M) / static_cast<double>(M - 1));
    for_channel_groups<E>(x, [&](std::int64_t first, std::int64_t count) {
      const SomeChannels xs(x, first, count, sizeof(E)), ys(y, first, count, sizeof(E));
      T *const means = mean.as<T>() + first, *const rstds = rstd.as<T>() + first;
      ChannelMoments<E>(xs.view, channels_last(x), far)(means, rstds);  // rstds: the variance for now
      T* const running_means = from(running_mean.as<T>(), first);
      T* const running_vars = from(running_var.as<T>(), first);
      for (std::int64_t c = 0; c < count; ++c) {
        const T var = rstds[c];
        if (running_means) running_means[c] = kept * running_means[c] + fresh * means[c];
        if (running_vars) running_vars[c] = kept * running_vars[c] + fresh * (var * unbias);
        rstds[c] = T(1) / std::sqrt(var + static_cast<T>(eps));
      }
      const T *const w = weight.as<T>(), *const b = bias.as<T>();
      const View* const inputs[1] = {&xs.view};
      map_channels<E, 1>(
          inputs, ys.view, large,
          [&](const auto& of) {
            const Vec<T> r = of(rstds);
            return Affine<T>{of(means), w ? r * of(w + first) : r, b ? of(b + first) : Vec<T>(T(0))};
          },
          [](const Vec<T>* v, const Affine<T>& p) {
            return activated<kRelu>(fma(v[0] - p.center, p.scale, p.shift));
          });
    });
  });
}

template <bool kRelu>
void gradients(In dy, In x, In weight, In bias, In mean, In rstd, Out dx, Out dweight, Out dbias, Out work) {
  with_stored(x.dtype, [&]<class E>(Type<E>) {
    using T = Computed<E>;
    const T n = static_cast<T>(x.shape[0] * x.shape[2]);
    const bool large = goes_past<E>(dx);
    for_channel_groups<E>(x, [&](std::int64_t first, std::int64_t count) {
      const SomeChannels dys(dy, first, count, sizeof(E)), xs(x, first, count, sizeof(E)),
          dxs(dx, first, count, sizeof(E));
      const ByChannel x_by(xs.view), dy_by(dys.view);
      const T *const means = mean.as<T>() + first, *const rstds = rstd.as<T>() + first;
      const T* const w = weight ? weight.as<T>() + first : nullptr;
      const T* const b = bias ? bias.as<T>() + first : nullptr;
      T *const dw = dweight.as<T>() + first, *const db = dbias.as<T>() + first;
      Axes axes;
      find_axes(x_by.view, &dy_by.view, mean, 2, axes);
      Operands<E> o;
      o.x = static_cast<const E*>(xs.view.data), o.x2 = static_cast<const E*>(dys.view.data);
      o.params[0] = means, o.params[1] = rstds;
      o.y[0] = db, o.y[1] = dw;
      o.partials = static_cast<T*>(scratch());
      if constexpr (kRelu) {
        T *const scales = work.as<T>() + first, *const shifts = scales + x.shape[1];
        for (std::int64_t c = 0; c < count; ++c) {
          scales[c] = w ? rstds[c] * w[c] : rstds[c];
          shifts[c] = b ? b[c] : T(0);
        }
        o.params[2] = scales, o.params[3] = shifts;
        reduce(axes, o, GradientSumsRelu<T>{});
      } else {
        reduce(axes, o, GradientSums<T>{});
      }
      struct Numbers {
        Vec<T> scale, db, mean, slope, shift;
      };
      const View* const inputs[2] = {&dys.view, &xs.view};
      map_channels<E, 2>(
          inputs, dxs.view, large,
          [&](const auto& of) {
            const Vec<T> r = of(rstds), numbers(n);
            return Numbers{w ? r * of(w) : r, of(db) / numbers, of(means), r * (of(dw) / numbers),
                           kRelu && b ? of(b) : Vec<T>(T(0))};
          },
          [](const Vec<T>* v, const Numbers& p) {
            const Vec<T> centred = v[1] - p.mean, zero(T(0));
            const Vec<T> g = kRelu ? select(fma(centred, p.scale, p.shift) > zero, v[0], zero) : v[0];
            return (g - fma(centred, p.slope, p.db)) * p.scale;
          });
    });
  });
}

}  // namespace

void batch_norm(In x, In weight, In bias, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                double momentum, double eps) {
  normalise<false>(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps);
}
void batch_norm_relu(In x, In weight, In bias, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                     double momentum, double eps) {
  normalise<true>(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps);
}

void batch_norm_backward(In dy, In x, In weight, In mean, In rstd, Out dx, Out dweight, Out dbias) {
  gradients<false>(dy, x, weight, In{}, mean, rstd, dx, dweight, dbias, Out{});
}
void batch_norm_relu_backward(In dy, In x, In weight, In bias, In mean, In rstd, Out dx, Out dweight,
                              Out dbias, Out work) {
  gradients<true>(dy, x, weight, bias, mean, rstd, dx, dweight, dbias, work);
}

void channel_affine(In x, In scale, In shift, Out y) {
  with_stored(x.dtype, [&]<class E>(Type<E>) {
    using T = Computed<E>;
    const T *const scales = scale.as<T>(), *const shifts = shift.as<T>();
    struct Numbers {
      Vec<T> scale, shift;
    };
    const View* const inputs[1] = {&x};
    map_channels<E, 1>(
        inputs, y, goes_past<E>(y),
        [&](const auto& of) { return Numbers{of(scales), shifts ? of(shifts) : Vec<T>(T(0))}; },
        [](const Vec<T>* v, const Numbers& p) { return fma(v[0], p.scale, p.shift); });
  });
}

}  // namespace ts::cpu::TS_ISA
