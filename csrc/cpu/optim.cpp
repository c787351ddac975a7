// Optimizers: one pass over every parameter of a group, its gradient and its state.
//
// hyper, float64:  0 lr, 1 weight_decay, 2 grad_scale (multiplies the gradient first: clipping; 1), then
//   sgd      3 momentum, 4 dampening
//   rmsprop  3 alpha, 4 eps, 5 momentum
//   adagrad  3 lr_decay, 4 eps
//   adadelta 3 rho, 4 eps
//   lion     3 beta1, 4 beta2
//   rprop    3 eta-, 4 eta+, 5 smallest, 6 largest step
//   asgd     3 lambd, 4 alpha, 5 t0
// and optim_adam.cpp for the rest. The scalars of a step are computed in float64 and rounded once to the
// parameters' type; the updates are PyTorch's (torch.optim). Where `zeroed` has a parameter's gradient, it is
// filled with zeros while it is in the cache. Bytes read and written for a float32: sgd 12, with momentum 20,
// rmsprop 20, adagrad 20, adadelta 28, lion 20, rprop 28, asgd 20.
#include "cpu/optim.h"

#include <cmath>

#include "cpu/kernels.h"

namespace ts::cpu::TS_ISA {

// b = momentum b + (1 - dampening) g (b = g in the first step);
// p -= lr (nesterov ? g + momentum b : b)
void sgd(Outs params, Ins grads, Ins rows, Outs zeroed, Out momentum, Out step, In hyper, Sgd options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Vec<T> rate(static_cast<T>(-h[kLr]));
      if (!options.has_momentum) {
        return for_each_range(params, grads, rows, zeroed, [&](const Range& at) {
          S* const p = params.data[at.param].as<S>();
          const S* const g = at.gradient<S>(grads);
          for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
            const Vec<T> x = io(p + i);
            io(fma(rate, gradient(io(g + i), x), x), p + i);
          });
        });
      }
      with_flag(options.nesterov, [&](auto nesterov) {
        for_each_range(params, grads, rows, zeroed, [&](const Range& at) {
          S* const p = params.data[at.param].as<S>();
          const S* const g = at.gradient<S>(grads);
          T* const b = momentum.as<T>() + at.offset;
          const bool first = step.as<double>()[at.param] == 1;
          const Vec<T> mu(static_cast<T>(h[kFirst])), keep(first ? T(0) : static_cast<T>(h[kFirst]));
          const Vec<T> fresh(first ? T(1) : static_cast<T>(1 - h[kFirst + 1]));
          for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
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

// s = alpha s + (1 - alpha) g²; centered: a += (1 - alpha) (g - a) and s - a² for s;
// d = g / (sqrt(s) + eps); with momentum b = momentum b + d and p -= lr b, else p -= lr d
void rmsprop(Outs params, Ins grads, Outs zeroed, Out square, Out momentum, Out mean, Out step, In hyper,
             RmsProp options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      with_flag(options.centered, [&](auto centered) {
        with_flag(options.has_momentum, [&](auto buffered) {
          const Gradient<T, decay.value> gradient(h, options.maximize);
          const double alpha = h[kFirst];
          const Vec<T> keep(static_cast<T>(alpha)), fresh(static_cast<T>(1 - alpha)), zero(T(0));
          const Vec<T> eps(static_cast<T>(h[kFirst + 1])), mu(static_cast<T>(h[kFirst + 2]));
          const Vec<T> rate(static_cast<T>(-h[kLr]));
          for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
            S* const p = params.data[at.param].as<S>();
            const S* const g = at.gradient<S>(grads);
            T* const s = square.as<T>() + at.offset;
            T* const a = centered.value ? mean.as<T>() + at.offset : nullptr;
            T* const b = buffered.value ? momentum.as<T>() + at.offset : nullptr;
            for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
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
void adagrad(Outs params, Ins grads, Ins rows, Outs zeroed, Out square, Out step, In hyper, Adagrad options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Vec<T> eps(static_cast<T>(h[kFirst + 1]));
      for_each_range(params, grads, rows, zeroed, [&](const Range& at) {
        S* const p = params.data[at.param].as<S>();
        const S* const g = at.gradient<S>(grads);
        T* const s = square.as<T>() + at.offset;
        const Vec<T> rate(static_cast<T>(-h[kLr] / (1 + (step.as<double>()[at.param] - 1) * h[kFirst])));
        for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
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
void adadelta(Outs params, Ins grads, Outs zeroed, Out square, Out delta, Out step, In hyper,
              Adadelta options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Vec<T> keep(static_cast<T>(h[kFirst])), fresh(static_cast<T>(1 - h[kFirst]));
      const Vec<T> eps(static_cast<T>(h[kFirst + 1])), rate(static_cast<T>(-h[kLr]));
      for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
        S* const p = params.data[at.param].as<S>();
        const S* const g = at.gradient<S>(grads);
        T *const s = square.as<T>() + at.offset, *const a = delta.as<T>() + at.offset;
        for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
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
void lion(Outs params, Ins grads, Outs zeroed, Out m, Out step, In hyper, Lion options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const Gradient<T, false> gradient(h, options.maximize);
    const Vec<T> fresh1(static_cast<T>(1 - h[kFirst])), fresh2(static_cast<T>(1 - h[kFirst + 1]));
    const Vec<T> shrink(static_cast<T>(1 - h[kLr] * h[kWeightDecay])), rate(static_cast<T>(h[kLr])),
        zero(T(0));
    for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
      S* const p = params.data[at.param].as<S>();
      const S* const g = at.gradient<S>(grads);
      T* const m_k = m.as<T>() + at.offset;
      for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
        const Vec<T> x = io(p + i), d = gradient(io(g + i), x), before = io(m_k + i);
        const Vec<T> toward = fma(fresh1, d - before, before);
        const Vec<T> move = select(toward > zero, rate, select(toward < zero, -rate, toward));
        io(fma(x, shrink, -move), p + i);
        io(fma(fresh2, d - before, before), m_k + i);
      });
    });
  });
}

// s *= eta+ where g keeps its sign, eta- where it turned (then g = 0), within bounds (s = lr in the first
// step); p -= sign(g) s
void rprop(Outs params, Ins grads, Outs zeroed, Out before, Out size, Out step, In hyper, Rprop options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const Gradient<T, false> gradient(h, options.maximize);
    const Vec<T> less(static_cast<T>(h[kFirst])), more(static_cast<T>(h[kFirst + 1])), one(T(1)), zero(T(0));
    const Vec<T> least(static_cast<T>(h[kFirst + 2])), most(static_cast<T>(h[kFirst + 3]));
    const Vec<T> start(static_cast<T>(h[kLr]));
    for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
      const bool first = step.as<double>()[at.param] == 1;
      S* const p = params.data[at.param].as<S>();
      const S* const g = at.gradient<S>(grads);
      T *const g0 = before.as<T>() + at.offset, *const s = size.as<T>() + at.offset;
      for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
        const Vec<T> x = io(p + i), d = gradient(io(g + i), x), turn = d * io(g0 + i);
        const Vec<T> factor = select(turn > zero, more, select(turn < zero, less, one));
        const Vec<T> length = min(max((first ? start : io(s + i)) * factor, least), most);
        const Vec<T> kept = select(turn < zero, zero, d);
        io(length, s + i);
        io(kept, g0 + i);
        io(x - select(kept > zero, length, select(kept < zero, -length, kept * zero)), p + i);
      });
    });
  });
}

// p = (1 - lambd eta) p - eta g; average += mu (p - average); then, for the next step,
// eta = lr / (1 + lambd lr t)^alpha, mu = 1 / max(1, t - t0): float64, one each a parameter. In the first
// step lr and 1.
void asgd(Outs params, Ins grads, Outs zeroed, Out average, Out eta, Out mu, Out step, In hyper,
          Asgd options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
        const bool first = step.as<double>()[at.param] == 1;
        const double rate = first ? h[kLr] : eta.as<double>()[at.param];
        const double weight = first ? 1.0 : mu.as<double>()[at.param];
        const Vec<T> shrink(static_cast<T>(1 - h[kFirst] * rate)), move(static_cast<T>(-rate));
        const Vec<T> share(static_cast<T>(weight));
        S* const p = params.data[at.param].as<S>();
        const S* const g = at.gradient<S>(grads);
        T* const a = average.as<T>() + at.offset;
        for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
          const Vec<T> x = io(p + i), y = fma(move, gradient(io(g + i), x), x * shrink), mean = io(a + i);
          io(y, p + i);
          io(weight == 1 ? y : fma(share, y - mean, mean), a + i);
        });
      });
    });
  });
  for (std::int64_t k = 0; k < params.size; ++k) {
    if (!grads.data[k]) continue;
    const double t = step.as<double>()[k], late = t - h[kFirst + 2];
    eta.as<double>()[k] = h[kLr] / std::pow(1 + h[kFirst] * h[kLr] * t, h[kFirst + 1]);
    mu.as<double>()[k] = 1 / (late > 1 ? late : 1);
  }
}

}  // namespace ts::cpu::TS_ISA
