// The Adam family: first moments m and second moments v of the gradient, one pass (lamb: two).
//
// hyper, float64, as cpu/optim_adam.cpp lists it; c1 = 1 - beta1^t, c2 = 1 - beta2^t. Bytes read and written
// for a float32: 28 (amsgrad 36); lamb 40.
#include "cuda/kernels.h"
#include "cuda/optim.h"

namespace ts::cuda {
namespace {

// The moments of a gradient, written back.
template <class T>
struct Moments {
  T fresh1, keep2, fresh2;
  Moments() = default;
  TS_INLINE explicit Moments(const double* h)
      : fresh1(static_cast<T>(1 - h[kFirst])),
        keep2(static_cast<T>(h[kFirst + 1])),
        fresh2(static_cast<T>(1 - h[kFirst + 1])) {}
  TS_INLINE Vec<T> first(T& m, Vec<T> d) const {
    const Vec<T> before(m), now = fma(Vec<T>(fresh1), d - before, before);
    m = now.r;
    return now;
  }
  TS_INLINE Vec<T> second(T& v, Vec<T> d) const {
    const Vec<T> now = fma(Vec<T>(fresh2) * d, d, Vec<T>(keep2) * Vec<T>(v));
    v = now.r;
    return now;
  }
};

// m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g²;
// p -= lr / (1 - beta1^t) · m / (sqrt(v / (1 - beta2^t)) + eps), v_max = max(v_max, v) for v with amsgrad
template <class T>
struct AdamRule : Rule {
  T *m, *v, *v_max;
  bool decoupled, plain_eps;
  struct Numbers {
    Moments<T> moments;
    T shrink, rate, eps;
  };
  TS_INLINE bool coupled() const { return !decoupled; }
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far far) {
    near(m), near(v), far(v_max);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int) const {
    const double root = ::sqrt(1 - ::pow(h[kFirst + 1], t));
    return {Moments<T>(h), static_cast<T>(decoupled ? 1 - h[kLr] * h[kWeightDecay] : 1.0),
            static_cast<T>(-h[kLr] * root / (1 - ::pow(h[kFirst], t))),
            static_cast<T>(plain_eps ? h[kFirst + 2] : h[kFirst + 2] * root)};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> first = n.moments.first(m[i], d);
    Vec<T> second = n.moments.second(v[i], d);
    if (v_max) {
      second = ts::cuda::max(Vec<T>(v_max[i]), second);
      v_max[i] = second.r;
    }
    return fma(Vec<T>(n.rate), first / (sqrt(second) + Vec<T>(n.eps)), x * Vec<T>(n.shrink));
  }
};

// m += (1 - beta1) (g - m); u = max(beta2 u, |g| + eps); p -= lr / c1 · m / u
template <class T>
struct AdamaxRule : Rule {
  T *m, *u;
  struct Numbers {
    Moments<T> moments;
    T rate, eps;
  };
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(m), near(u);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int) const {
    return {Moments<T>(h), static_cast<T>(-h[kLr] / (1 - ::pow(h[kFirst], t))),
            static_cast<T>(h[kFirst + 2])};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> first = n.moments.first(m[i], d);
    const Vec<T> largest = ts::cuda::max(Vec<T>(u[i]) * Vec<T>(n.moments.keep2), abs(d) + Vec<T>(n.eps));
    u[i] = largest.r;
    return fma(Vec<T>(n.rate), first / largest, x);
  }
};

// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), product = mu_1 ... mu_t (float64, one a parameter);
// p -= lr (mu_{t+1} m / (1 - product mu_{t+1}) + (1 - mu_t) g / (1 - product)) / (sqrt(v / c2) + eps)
template <class T>
struct NAdamRule : Rule {
  T *m, *v;
  double* product;
  bool decoupled;
  struct Numbers {
    Moments<T> moments;
    T shrink, of_g, of_m, eps;
  };
  TS_INLINE bool coupled() const { return !decoupled; }
  TS_INLINE static double mu(const double* h, double t) {
    return h[kFirst] * (1 - 0.5 * ::pow(0.96, t * h[kFirst + 3]));
  }
  TS_INLINE void begin(const double* h, double t, int k) const { product[k] *= mu(h, t); }
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(m), near(v);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int k) const {
    const double root = ::sqrt(1 - ::pow(h[kFirst + 1], t)), next = mu(h, t + 1), past = product[k];
    return {Moments<T>(h), static_cast<T>(decoupled ? 1 - h[kLr] * h[kWeightDecay] : 1.0),
            static_cast<T>(-h[kLr] * root * (1 - mu(h, t)) / (1 - past)),
            static_cast<T>(-h[kLr] * root * next / (1 - past * next)), static_cast<T>(h[kFirst + 2] * root)};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> first = n.moments.first(m[i], d), second = n.moments.second(v[i], d);
    return fma(Vec<T>(n.of_m), first, Vec<T>(n.of_g) * d) / (sqrt(second) + Vec<T>(n.eps)) +
           x * Vec<T>(n.shrink);
  }
};

// rho_t = rho - 2 t beta2^t / c2 with rho = 2 / (1 - beta2) - 1;
// p -= lr / c1 · m r sqrt(c2) / (sqrt(v) + eps), r = sqrt((rho_t - 4)(rho_t - 2) rho / ((rho - 4)(rho - 2)
// rho_t)), where rho_t > 5, else p -= lr / c1 · m
template <class T>
struct RAdamRule : Rule {
  T *m, *v;
  bool decoupled;
  struct Numbers {
    Moments<T> moments;
    T shrink, move, eps;
    bool rectified;
  };
  TS_INLINE bool coupled() const { return !decoupled; }
  template <class Near, class Far>
  TS_INLINE void states(Near near, Far) {
    near(m), near(v);
  }
  TS_INLINE Numbers prepare(const double* h, double t, int) const {
    const double rho = 2 / (1 - h[kFirst + 1]) - 1, past = ::pow(h[kFirst + 1], t), c2 = 1 - past;
    const double rho_t = rho - 2 * t * past / c2;
    double rate = -h[kLr] / (1 - ::pow(h[kFirst], t));
    if (rho_t > 5) rate *= ::sqrt(c2 * (rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t));
    return {Moments<T>(h), static_cast<T>(decoupled ? 1 - h[kLr] * h[kWeightDecay] : 1.0),
            static_cast<T>(rate), static_cast<T>(h[kFirst + 2]), rho_t > 5};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> first = n.moments.first(m[i], d), second = n.moments.second(v[i], d);
    const Vec<T> move = n.rectified ? first / (sqrt(second) + Vec<T>(n.eps)) : first;
    return fma(Vec<T>(n.move), move, x * Vec<T>(n.shrink));
  }
};

// r = m / c1 / (sqrt(v / c2) + eps) + weight_decay p; p -= lr |p| / |r| r, the ratio 1 where a norm is 0.
template <class T>
struct LambRule : Rule {
  T *m, *v;
  double* squares;  // of p and of r, two for each block
  double* rates;    // one a parameter
  struct Numbers {
    Moments<T> moments;
    T of_m, of_v, eps, decay;
  };
  TS_INLINE bool coupled() const { return false; }
  TS_INLINE Numbers prepare(const double* h, double t, int) const {
    return {Moments<T>(h), static_cast<T>(1 / (1 - ::pow(h[kFirst], t))),
            static_cast<T>(1 / ::sqrt(1 - ::pow(h[kFirst + 1], t))), static_cast<T>(h[kFirst + 2]),
            static_cast<T>(h[kWeightDecay])};
  }
  TS_INLINE Vec<T> direction(const Numbers& n, std::int64_t i, Vec<T> x) const {
    return fma(Vec<T>(n.decay), x,
               Vec<T>(m[i]) * Vec<T>(n.of_m) / fma(sqrt(Vec<T>(v[i])), Vec<T>(n.of_v), Vec<T>(n.eps)));
  }
};

// The moments, and each block's sums of squares.
template <class T>
__global__ void __launch_bounds__(kStepThreads)
    lamb_moments_kernel(const Batch batch, const double* hyper, const typename LambRule<T>::Numbers* all,
                        const LambRule<T> rule, bool maximize) {
  __shared__ double room[kWarp];
  const int k = batch.parameter();
  const auto numbers = all[k];
  const Gradient<T> gradient(hyper, false, maximize);
  const T *const p = static_cast<const T*>(batch.param[k]), *const g = static_cast<const T*>(batch.grad[k]);
  T* const zeroed = static_cast<T*>(batch.zeroed[k]);
  double of_p = 0, of_r = 0;
  for (std::int64_t i = batch.begin(k) + threadIdx.x; i < batch.end(k); i += kStepThreads) {
    const std::int64_t at = batch.offset[k] + i;
    const Vec<T> x(p[i]), d = gradient(Vec<T>(g[i]), x);
    numbers.moments.first(rule.m[at], d);
    numbers.moments.second(rule.v[at], d);
    const double r = static_cast<double>(rule.direction(numbers, at, x).r), y = static_cast<double>(x.r);
    of_p = ::fma(y, y, of_p), of_r = ::fma(r, r, of_r);
    if (zeroed) zeroed[i] = T(0);
  }
  of_p = block_reduce(of_p, 0.0, room, Sum{});
  of_r = block_reduce(of_r, 0.0, room, Sum{});
  if (threadIdx.x == 0) rule.squares[2 * blockIdx.x] = of_p, rule.squares[2 * blockIdx.x + 1] = of_r;
}

// A block a parameter: its rate, from the sums of its blocks.
template <class T>
__global__ void __launch_bounds__(kStepThreads)
    lamb_rates_kernel(const Batch batch, const double* hyper, const LambRule<T> rule) {
  __shared__ double room[kWarp];
  const int k = static_cast<int>(blockIdx.x);
  double of_p = 0, of_r = 0;
  for (int b = batch.first_block[k] + static_cast<int>(threadIdx.x); b < batch.first_block[k + 1];
       b += kStepThreads)
    of_p += rule.squares[2 * b], of_r += rule.squares[2 * b + 1];
  of_p = block_reduce(of_p, 0.0, room, Sum{});
  of_r = block_reduce(of_r, 0.0, room, Sum{});
  if (threadIdx.x == 0)
    rule.rates[k] = hyper[kLr] * (of_p > 0 && of_r > 0 ? ::sqrt(of_p) / ::sqrt(of_r) : 1.0);
}

template <class T>
__global__ void __launch_bounds__(kStepThreads)
    lamb_apply_kernel(const Batch batch, const typename LambRule<T>::Numbers* all, const LambRule<T> rule) {
  const int k = batch.parameter();
  const auto numbers = all[k];
  const Vec<T> move(static_cast<T>(-rule.rates[k]));
  T* const p = static_cast<T*>(batch.param[k]);
  for (std::int64_t i = batch.begin(k) + threadIdx.x; i < batch.end(k); i += kStepThreads) {
    const Vec<T> x(p[i]);
    p[i] = fma(move, rule.direction(numbers, batch.offset[k] + i, x), x).r;
  }
}

}  // namespace

void adam(Outs params, Ins grads, Ins rows, Outs zeroed, Out m, Out v, Out v_max, Out step, In hyper,
          Adam options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, rows, zeroed, step, hyper,
           AdamRule<T>{{},
                       m.as<T>(),
                       v.as<T>(),
                       options.amsgrad ? v_max.as<T>() : nullptr,
                       options.decoupled,
                       options.plain_eps},
           options.maximize);
  });
}

void adamax(Outs params, Ins grads, Outs zeroed, Out m, Out u, Out step, In hyper, Adamax options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper, AdamaxRule<T>{{}, m.as<T>(), u.as<T>()},
           options.maximize);
  });
}
void nadam(Outs params, Ins grads, Outs zeroed, Out m, Out v, Out product, Out step, In hyper,
           NAdam options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper,
           NAdamRule<T>{{}, m.as<T>(), v.as<T>(), product.as<double>(), options.decoupled}, options.maximize);
  });
}
void radam(Outs params, Ins grads, Outs zeroed, Out m, Out v, Out step, In hyper, RAdam options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, Ins{}, zeroed, step, hyper,
           RAdamRule<T>{{}, m.as<T>(), v.as<T>(), options.decoupled}, options.maximize);
  });
}

void lamb(Outs params, Ins grads, Outs zeroed, Out m, Out v, Out step, In hyper, Lamb options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    const double* const h = hyper.as<double>();
    for_each_batch(params, grads, Ins{}, zeroed, [&](const Batch& batch) {
      const std::int64_t blocks = batch.first_block[batch.count];
      const Workspace room((2 * blocks + kParameters) * 8);
      const LambRule<T> rule{{}, m.as<T>(), v.as<T>(), room.as<double>(), room.as<double>() + 2 * blocks};
      using Numbers = typename LambRule<T>::Numbers;
      const Workspace kept(kParameters * static_cast<std::int64_t>(sizeof(Numbers)));
      Numbers* const numbers = kept.as<Numbers>();
      const dim3 grid(blocks_of(blocks)), threads(kStepThreads);
      double* const steps = step.as<double>();
      launch(&begin_step_kernel<LambRule<T>>, dim3(1), dim3(kParameters), 0, batch, h, steps, rule, numbers);
      if (blocks == 0) return;
      launch(&lamb_moments_kernel<T>, grid, threads, 0, batch, h, static_cast<const Numbers*>(numbers), rule,
             options.maximize);
      launch(&lamb_rates_kernel<T>, dim3(static_cast<unsigned>(batch.count)), threads, 0, batch, h, rule);
      launch(&lamb_apply_kernel<T>, grid, threads, 0, batch, static_cast<const Numbers*>(numbers), rule);
    });
  });
}

}  // namespace ts::cuda
