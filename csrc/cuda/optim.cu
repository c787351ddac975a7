// Optimizers: one pass over every parameter of a group, its gradient and its state.
//
// hyper, float64, as cpu/optim.cpp lists it; the updates are its formulas, element by element. Bytes read and
// written for a float32: sgd 12, with momentum 20, rmsprop 20, adagrad 20, adadelta 28, lion 20, rprop 28,
// asgd 20.
#include "cuda/optim.h"

#include "cuda/kernels.h"

namespace ts::cuda {
namespace {

// b = momentum b + (1 - dampening) g (b = g in the first step); p -= lr (nesterov ? g + momentum b : b)
template <class T>
struct SgdRule : Rule {
  T* momentum;
  bool nesterov;
  struct Numbers {
    T rate, mu, keep, fresh;
  };
  template <class Near, class Far>
  TS_INLINE void states(Near, Far far) {
    far(momentum);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int) const {
    return {static_cast<T>(-h[kLr]), momentum ? static_cast<T>(h[kFirst]) : T(0),
            t == 1 || !momentum ? T(0) : static_cast<T>(h[kFirst]),
            t == 1 || !momentum ? T(1) : static_cast<T>(1 - h[kFirst + 1])};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    if (!momentum) return fma(Vec<T>(n.rate), d, x);
    const Vec<T> buffer = fma(Vec<T>(n.fresh), d, Vec<T>(n.keep) * Vec<T>(momentum[i]));
    momentum[i] = buffer.r;
    return fma(Vec<T>(n.rate), nesterov ? fma(Vec<T>(n.mu), buffer, d) : buffer, x);
  }
};

// s = alpha s + (1 - alpha) g²; centered: a += (1 - alpha) (g - a) and s - a² for s; d = g / (sqrt(s) + eps);
// with momentum b = momentum b + d and p -= lr b, else p -= lr d
template <class T>
struct RmsPropRule : Rule {
  T *square, *momentum, *mean;
  struct Numbers {
    T keep, fresh, eps, mu, rate;
  };
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far far) {
    near(square), far(momentum), far(mean);
  }
  TS_INLINE Numbers prepare(const double* h, double, int) const {
    return {static_cast<T>(h[kFirst]), static_cast<T>(1 - h[kFirst]), static_cast<T>(h[kFirst + 1]),
            static_cast<T>(h[kFirst + 2]), static_cast<T>(-h[kLr])};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> fresh(n.fresh), zero(T(0));
    Vec<T> second = fma(fresh * d, d, Vec<T>(n.keep) * Vec<T>(square[i]));
    square[i] = second.r;
    if (mean) {
      const Vec<T> before(mean[i]), average = fma(fresh, d - before, before);
      mean[i] = average.r;
      second = fma(-average, average, second);
      second = select(second < zero, zero, second);
    }
    Vec<T> delta = d / (sqrt(second) + Vec<T>(n.eps));
    if (momentum) {
      delta = fma(Vec<T>(n.mu), Vec<T>(momentum[i]), delta);
      momentum[i] = delta.r;
    }
    return fma(Vec<T>(n.rate), delta, x);
  }
};

// s += g²; p -= lr / (1 + (t - 1) lr_decay) · g / (sqrt(s) + eps)
template <class T>
struct AdagradRule : Rule {
  T* square;
  struct Numbers {
    T rate, eps;
  };
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(square);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int) const {
    return {static_cast<T>(-h[kLr] / (1 + (t - 1) * h[kFirst])), static_cast<T>(h[kFirst + 1])};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> sum = fma(d, d, Vec<T>(square[i]));
    square[i] = sum.r;
    return fma(Vec<T>(n.rate), d / (sqrt(sum) + Vec<T>(n.eps)), x);
  }
};

// s = rho s + (1 - rho) g²; d = sqrt(a + eps) / sqrt(s + eps) g; a = rho a + (1 - rho) d²; p -= lr d
template <class T>
struct AdadeltaRule : Rule {
  T *square, *delta;
  struct Numbers {
    T keep, fresh, eps, rate;
  };
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(square), near(delta);
  }
  TS_INLINE Numbers prepare(const double* h, double, int) const {
    return {static_cast<T>(h[kFirst]), static_cast<T>(1 - h[kFirst]), static_cast<T>(h[kFirst + 1]),
            static_cast<T>(-h[kLr])};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> before(delta[i]), fresh(n.fresh), keep(n.keep), eps(n.eps);
    const Vec<T> second = fma(fresh * d, d, keep * Vec<T>(square[i]));
    square[i] = second.r;
    const Vec<T> move = sqrt((before + eps) / (second + eps)) * d;
    delta[i] = fma(fresh * move, move, keep * before).r;
    return fma(Vec<T>(n.rate), move, x);
  }
};

// p = (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g
template <class T>
struct LionRule : Rule {
  T* m;
  struct Numbers {
    T fresh1, fresh2, shrink, rate;
  };
  TS_INLINE bool coupled() const { return false; }
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(m);
  }
  TS_INLINE Numbers prepare(const double* h, double, int) const {
    return {static_cast<T>(1 - h[kFirst]), static_cast<T>(1 - h[kFirst + 1]),
            static_cast<T>(1 - h[kLr] * h[kWeightDecay]), static_cast<T>(h[kLr])};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> before(m[i]), rate(n.rate), zero(T(0));
    const Vec<T> toward = fma(Vec<T>(n.fresh1), d - before, before);
    const Vec<T> move = select(toward > zero, rate, select(toward < zero, -rate, toward));
    m[i] = fma(Vec<T>(n.fresh2), d - before, before).r;
    return fma(x, Vec<T>(n.shrink), -move);
  }
};

// s *= eta+ where g keeps its sign, eta- where it turned (then g = 0), within bounds (s = lr in the first
// step); p -= sign(g) s
template <class T>
struct RpropRule : Rule {
  T *before, *size;
  struct Numbers {
    T less, more, least, most, start;
    bool first;
  };
  TS_INLINE bool coupled() const { return false; }
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(before), near(size);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int) const {
    return {static_cast<T>(h[kFirst]),     static_cast<T>(h[kFirst + 1]), static_cast<T>(h[kFirst + 2]),
            static_cast<T>(h[kFirst + 3]), static_cast<T>(h[kLr]),        t == 1};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> turn = d * Vec<T>(before[i]), zero(T(0)), one(T(1));
    const Vec<T> factor = select(turn > zero, Vec<T>(n.more), select(turn < zero, Vec<T>(n.less), one));
    const Vec<T> old(n.first ? n.start : size[i]);
    const Vec<T> length = min(ts::cuda::max(old * factor, Vec<T>(n.least)), Vec<T>(n.most));
    const Vec<T> kept = select(turn < zero, zero, d);
    size[i] = length.r;
    before[i] = kept.r;
    return x - select(kept > zero, length, select(kept < zero, -length, kept * zero));
  }
};

// p = (1 - lambd eta) p - eta g; average += mu (p - average); then, for the next step,
// eta = lr / (1 + lambd lr t)^alpha, mu = 1 / max(1, t - t0): float64, one each a parameter. In the first
// step lr and 1.
template <class T>
struct AsgdRule : Rule {
  static constexpr bool kEnds = true;
  T* average;
  double *eta, *mu;
  struct Numbers {
    T shrink, move, share;
  };
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(average);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int k) const {
    const double rate = t == 1 ? h[kLr] : eta[k];
    return {static_cast<T>(1 - h[kFirst] * rate), static_cast<T>(-rate),
            t == 1 ? T(1) : static_cast<T>(mu[k])};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> y = fma(Vec<T>(n.move), d, x * Vec<T>(n.shrink)), mean(average[i]);
    average[i] = n.share == T(1) ? y.r : fma(Vec<T>(n.share), y - mean, mean).r;
    return y;
  }
  TS_INLINE void end(const double* h, double t, int k) const {
    const double late = t - h[kFirst + 2];
    eta[k] = h[kLr] / ::pow(1 + h[kFirst] * h[kLr] * t, h[kFirst + 1]);
    mu[k] = 1 / (late > 1 ? late : 1);
  }
};

}  // namespace

void sgd(Outs params, Ins grads, Ins rows, Outs zeroed, Out momentum, Out step, In hyper, Sgd options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, rows, zeroed, step, hyper,
           SgdRule<T>{{}, options.has_momentum ? momentum.as<T>() : nullptr, options.nesterov},
           options.maximize);
  });
}
void rmsprop(Outs params, Ins grads, Outs zeroed, Out square, Out momentum, Out mean, Out step, In hyper,
             RmsProp options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper,
           RmsPropRule<T>{{},
                          square.as<T>(),
                          options.has_momentum ? momentum.as<T>() : nullptr,
                          options.centered ? mean.as<T>() : nullptr},
           options.maximize);
  });
}
void adagrad(Outs params, Ins grads, Ins rows, Outs zeroed, Out square, Out step, In hyper, Adagrad options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, rows, zeroed, step, hyper, AdagradRule<T>{{}, square.as<T>()}, options.maximize);
  });
}

void adadelta(Outs params, Ins grads, Outs zeroed, Out square, Out delta, Out step, In hyper,
              Adadelta options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper, AdadeltaRule<T>{{}, square.as<T>(), delta.as<T>()},
           options.maximize);
  });
}
void lion(Outs params, Ins grads, Outs zeroed, Out m, Out step, In hyper, Lion options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper, LionRule<T>{{}, m.as<T>()}, options.maximize);
  });
}
void rprop(Outs params, Ins grads, Outs zeroed, Out before, Out size, Out step, In hyper, Rprop options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper, RpropRule<T>{{}, before.as<T>(), size.as<T>()},
           options.maximize);
  });
}
void asgd(Outs params, Ins grads, Outs zeroed, Out average, Out eta, Out mu, Out step, In hyper,
          Asgd options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper,
           AsgdRule<T>{{}, average.as<T>(), eta.as<double>(), mu.as<double>()}, options.maximize);
  });
}

}  // namespace ts::cuda
