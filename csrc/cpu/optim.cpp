// Optimizers: one pass over every parameter of a group, its gradient and its state.
//
// hyper, float64:  0 lr, 1 weight_decay, 2 grad_scale (multiplies the gradient first: clipping; 1), then
//   sgd      3 momentum, 4 dampening
//   adam     3 beta1, 4 beta2, 5 eps
//   rmsprop  3 alpha, 4 eps, 5 momentum
//   adagrad  3 lr_decay, 4 eps
//   adadelta 3 rho, 4 eps
//   lion     3 beta1, 4 beta2
// The scalars of a step are computed in float64 and rounded once to the parameters' type; the updates
// are PyTorch's (torch.optim), with Adam's bias corrections folded into the step and eps. The elements
// of all parameters, end to end, are cut into pieces of fixed size. Bytes read and written for a
// float32: sgd 12, with momentum 20, adam 28 (amsgrad 36), rmsprop 20, adagrad 20, adadelta 28,
// lion 20.
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements of a piece: 448 KB of Adam's memory
enum Slot { kLr, kWeightDecay, kGradScale, kFirst };

// Runs update(parameter, begin, end, offset) for ranges of elements of every parameter that has a
// gradient; element i's state is at offset + i.
template <class Update>
void for_each_range(Outs params, Ins grads, const Update& update) {
  std::int64_t total = 0;
  for (std::int64_t k = 0; k < params.size; ++k) total += params.data[k].size();
  if (total <= kGrain) {
    std::int64_t offset = 0;
    for (std::int64_t k = 0; k < params.size; ++k) {
      const std::int64_t n = params.data[k].size();
      if (grads.data[k] && n) update(k, std::int64_t{0}, n, offset);
      offset += n;
    }
    return;
  }
  std::int64_t* const offsets = static_cast<std::int64_t*>(scratch());
  offsets[0] = 0;
  for (std::int64_t k = 0; k < params.size; ++k) offsets[k + 1] = offsets[k] + params.data[k].size();
  parallel_ranges(total, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t k = 0, last = params.size - 1;  // the parameter that holds element `begin`
    while (k < last) {
      const std::int64_t middle = k + (last - k + 1) / 2;
      if (offsets[middle] <= begin)
        k = middle;
      else
        last = middle - 1;
    }
    for (; k < params.size && offsets[k] < end; ++k) {
      const std::int64_t from = begin > offsets[k] ? begin - offsets[k] : 0;
      const std::int64_t to = (end < offsets[k + 1] ? end : offsets[k + 1]) - offsets[k];
      if (grads.data[k] && from < to) update(k, from, to, offsets[k]);
    }
  });
}

// One more step for every parameter that has a gradient.
void count_steps(Outs params, Ins grads, Out step) {
  if (!step) return;
  for (std::int64_t k = 0; k < params.size; ++k)
    if (grads.data[k]) step.as<double>()[k] += 1;
}

// A full register or the first n lanes: the loop body is written once for both.
template <class T>
struct Whole {
  TS_INLINE Vec<T> operator()(const T* p) const { return Vec<T>::load(p); }
  TS_INLINE void operator()(Vec<T> x, T* p) const { x.store(p); }
};
template <class T>
struct Partial {
  std::int64_t n;
  TS_INLINE Vec<T> operator()(const T* p) const { return Vec<T>::load_partial(p, n); }
  TS_INLINE void operator()(Vec<T> x, T* p) const { x.store_partial(p, n); }
};

// body(io, i) for every register of [begin, end); io(p + i) loads and io(x, p + i) stores.
template <class T, class Body>
TS_INLINE void for_each_register(std::int64_t begin, std::int64_t end, const Body& body) {
  std::int64_t i = begin;
  for (; i + Vec<T>::width <= end; i += Vec<T>::width) body(Whole<T>{}, i);
  if (i < end) body(Partial<T>{end - i}, i);
}

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};
template <class F>
TS_INLINE void with_flag(bool value, const F& f) {
  if (value)
    f(Flag<true>{});
  else
    f(Flag<false>{});
}

// What every optimizer does to the gradient first: scale and sign, then the coupled decay.
template <class T, bool kDecay>
struct Gradient {
  Vec<T> scale, decay;

  Gradient(const double* hyper, bool maximize)
      : scale(static_cast<T>(maximize ? -hyper[kGradScale] : hyper[kGradScale])),
        decay(static_cast<T>(hyper[kWeightDecay])) {}
  TS_INLINE Vec<T> operator()(Vec<T> g, Vec<T> p) const {
    g = g * scale;
    return kDecay ? fma(decay, p, g) : g;
  }
};

}  // namespace

// b = momentum b + (1 - dampening) g (b = g in the first step);
// p -= lr (nesterov ? g + momentum b : b)
void sgd(Outs params, Ins grads, Out momentum, Out step, In hyper, Sgd options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Vec<T> rate(static_cast<T>(-h[kLr]));
      if (!options.has_momentum) {
        return for_each_range(params, grads,
                              [&](std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t) {
                                T* const p = params.data[k].as<T>();
                                const T* const g = grads.data[k].as<T>();
                                for_each_register<T>(begin, end, [&](auto io, std::int64_t i) {
                                  const Vec<T> x = io(p + i);
                                  io(fma(rate, gradient(io(g + i), x), x), p + i);
                                });
                              });
      }
      with_flag(options.nesterov, [&](auto nesterov) {
        for_each_range(
            params, grads, [&](std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t offset) {
              T* const p = params.data[k].as<T>();
              const T* const g = grads.data[k].as<T>();
              T* const b = momentum.as<T>() + offset;
              const bool first = step.as<double>()[k] == 1;
              const Vec<T> mu(static_cast<T>(h[kFirst])), keep(first ? T(0) : static_cast<T>(h[kFirst]));
              const Vec<T> fresh(first ? T(1) : static_cast<T>(1 - h[kFirst + 1]));
              for_each_register<T>(begin, end, [&](auto io, std::int64_t i) {
                const Vec<T> x = io(p + i), d = gradient(io(g + i), x);
                const Vec<T> buffer = fma(fresh, d, keep * io(b + i));
                io(buffer, b + i);
                io(fma(rate, nesterov.value ? fma(mu, buffer, d) : buffer, x), p + i);
              });
            });
      });
    });
  });
}

// m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g²;
// p -= lr / (1 - beta1^t) · m / (sqrt(v / (1 - beta2^t)) + eps), v_max = max(v_max, v) for v with amsgrad;
// decay: g += weight_decay p, or decoupled: p *= 1 - lr weight_decay.
void adam(Outs params, Ins grads, Out m, Out v, Out v_max, Out step, In hyper, Adam options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  const bool coupled = !options.decoupled && h[kWeightDecay] != 0;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    with_flag(coupled, [&](auto decay) {
      with_flag(options.amsgrad, [&](auto amsgrad) {
        const Gradient<T, decay.value> gradient(h, options.maximize);
        const double beta1 = h[kFirst], beta2 = h[kFirst + 1];
        const Vec<T> fresh1(static_cast<T>(1 - beta1)), keep2(static_cast<T>(beta2));
        const Vec<T> fresh2(static_cast<T>(1 - beta2));
        const Vec<T> shrink(static_cast<T>(options.decoupled ? 1 - h[kLr] * h[kWeightDecay] : 1.0));
        // sqrt(v / c2) + eps = (sqrt v + eps sqrt c2) / sqrt c2, with c = 1 - beta^t
        struct Corrections {
          double step;
          Vec<T> rate, eps;
        };
        const auto correct = [&](double t) {
          const double root = std::sqrt(1 - std::pow(beta2, t));
          return Corrections{t, Vec<T>(static_cast<T>(-h[kLr] * root / (1 - std::pow(beta1, t)))),
                             Vec<T>(static_cast<T>(h[kFirst + 2] * root))};
        };
        const double* const steps = step.as<double>();
        const Corrections common = correct(steps[0]);  // nearly always everyone's
        for_each_range(params, grads,
                       [&](std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t offset) {
                         const Corrections c = steps[k] == common.step ? common : correct(steps[k]);
                         T* const p = params.data[k].as<T>();
                         const T* const g = grads.data[k].as<T>();
                         T* const m_k = m.as<T>() + offset;
                         T* const v_k = v.as<T>() + offset;
                         T* const top_k = amsgrad.value ? v_max.as<T>() + offset : nullptr;
                         for_each_register<T>(begin, end, [&](auto io, std::int64_t i) {
                           const Vec<T> x = io(p + i), d = gradient(io(g + i), x);
                           Vec<T> first = io(m_k + i), second = io(v_k + i);
                           first = fma(fresh1, d - first, first);
                           second = fma(fresh2 * d, d, keep2 * second);
                           io(first, m_k + i);
                           io(second, v_k + i);
                           if constexpr (amsgrad.value) {
                             second = ts::cpu::TS_ISA::max(io(top_k + i), second);
                             io(second, top_k + i);
                           }
                           io(fma(c.rate, first / (sqrt(second) + c.eps), x * shrink), p + i);
                         });
                       });
      });
    });
  });
}

// s = alpha s + (1 - alpha) g²; centered: a += (1 - alpha) (g - a) and s - a² for s;
// d = g / (sqrt(s) + eps); with momentum b = momentum b + d and p -= lr b, else p -= lr d
void rmsprop(Outs params, Ins grads, Out square, Out momentum, Out mean, Out step, In hyper,
             RmsProp options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      with_flag(options.centered, [&](auto centered) {
        with_flag(options.has_momentum, [&](auto buffered) {
          const Gradient<T, decay.value> gradient(h, options.maximize);
          const double alpha = h[kFirst];
          const Vec<T> keep(static_cast<T>(alpha)), fresh(static_cast<T>(1 - alpha)), zero(T(0));
          const Vec<T> eps(static_cast<T>(h[kFirst + 1])), mu(static_cast<T>(h[kFirst + 2]));
          const Vec<T> rate(static_cast<T>(-h[kLr]));
          for_each_range(params, grads,
                         [&](std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t offset) {
                           T* const p = params.data[k].as<T>();
                           const T* const g = grads.data[k].as<T>();
                           T* const s = square.as<T>() + offset;
                           T* const a = centered.value ? mean.as<T>() + offset : nullptr;
                           T* const b = buffered.value ? momentum.as<T>() + offset : nullptr;
                           for_each_register<T>(begin, end, [&](auto io, std::int64_t i) {
                             const Vec<T> x = io(p + i), d = gradient(io(g + i), x);
                             Vec<T> second = fma(fresh * d, d, keep * io(s + i));
                             io(second, s + i);
                             if constexpr (centered.value) {
                               Vec<T> average = io(a + i);
                               average = fma(fresh, d - average, average);
                               io(average, a + i);
                               second = fma(-average, average, second);
                               second = select(second < zero, zero, second);  // rounding must not make a NaN
                             }
                             Vec<T> delta = d / (sqrt(second) + eps);
                             if constexpr (buffered.value) {
                               delta = fma(mu, io(b + i), delta);
                               io(delta, b + i);
                             }
                             io(fma(rate, delta, x), p + i);
                           });
                         });
        });
      });
    });
  });
}

// s += g²; p -= lr / (1 + (t - 1) lr_decay) · g / (sqrt(s) + eps)
void adagrad(Outs params, Ins grads, Out square, Out step, In hyper, Adagrad options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Vec<T> eps(static_cast<T>(h[kFirst + 1]));
      for_each_range(
          params, grads, [&](std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t offset) {
            T* const p = params.data[k].as<T>();
            const T* const g = grads.data[k].as<T>();
            T* const s = square.as<T>() + offset;
            const Vec<T> rate(static_cast<T>(-h[kLr] / (1 + (step.as<double>()[k] - 1) * h[kFirst])));
            for_each_register<T>(begin, end, [&](auto io, std::int64_t i) {
              const Vec<T> x = io(p + i), d = gradient(io(g + i), x);
              const Vec<T> sum = fma(d, d, io(s + i));
              io(sum, s + i);
              io(fma(rate, d / (sqrt(sum) + eps), x), p + i);
            });
          });
    });
  });
}

// s = rho s + (1 - rho) g²; d = sqrt(a + eps) / sqrt(s + eps) g; a = rho a + (1 - rho) d²; p -= lr d
void adadelta(Outs params, Ins grads, Out square, Out delta, Out step, In hyper, Adadelta options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Vec<T> keep(static_cast<T>(h[kFirst])), fresh(static_cast<T>(1 - h[kFirst]));
      const Vec<T> eps(static_cast<T>(h[kFirst + 1])), rate(static_cast<T>(-h[kLr]));
      for_each_range(params, grads,
                     [&](std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t offset) {
                       T* const p = params.data[k].as<T>();
                       const T* const g = grads.data[k].as<T>();
                       T *const s = square.as<T>() + offset, *const a = delta.as<T>() + offset;
                       for_each_register<T>(begin, end, [&](auto io, std::int64_t i) {
                         const Vec<T> x = io(p + i), d = gradient(io(g + i), x), before = io(a + i);
                         const Vec<T> second = fma(fresh * d, d, keep * io(s + i));
                         io(second, s + i);
                         const Vec<T> move = sqrt((before + eps) / (second + eps)) * d;
                         io(fma(fresh * move, move, keep * before), a + i);
                         io(fma(rate, move, x), p + i);
                       });
                     });
    });
  });
}

// p = (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g
void lion(Outs params, Ins grads, Out m, Out step, In hyper, Lion options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    const Gradient<T, false> gradient(h, options.maximize);
    const Vec<T> fresh1(static_cast<T>(1 - h[kFirst])), fresh2(static_cast<T>(1 - h[kFirst + 1]));
    const Vec<T> shrink(static_cast<T>(1 - h[kLr] * h[kWeightDecay])), rate(static_cast<T>(h[kLr])),
        zero(T(0));
    for_each_range(params, grads,
                   [&](std::int64_t k, std::int64_t begin, std::int64_t end, std::int64_t offset) {
                     T* const p = params.data[k].as<T>();
                     const T* const g = grads.data[k].as<T>();
                     T* const m_k = m.as<T>() + offset;
                     for_each_register<T>(begin, end, [&](auto io, std::int64_t i) {
                       const Vec<T> x = io(p + i), d = gradient(io(g + i), x), before = io(m_k + i);
                       const Vec<T> toward = fma(fresh1, d - before, before);
                       const Vec<T> move = select(toward > zero, rate, select(toward < zero, -rate, toward));
                       io(fma(x, shrink, -move), p + i);
                       io(fma(fresh2, d - before, before), m_k + i);
                     });
                   });
  });
}

}  // namespace ts::cpu::TS_ISA
