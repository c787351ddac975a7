// Optimizers: one pass over every parameter of a group, its gradient and its state.
//
// hyper, float64:  0 lr, 1 weight_decay, 2 grad_scale, then as cpu/optim.cpp lists them. The scalars of a
// step are computed in float64 by each block and rounded once. A launch takes up to 64 parameters; a block
// 4096 elements of one of them. Bytes read and written for a float32: sgd 12, with momentum 20, adam 28
// (amsgrad 36), rmsprop 20, adagrad 20.
#include <cmath>

#include "cuda/kernels.h"
#include "cuda/simd.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

enum Slot { kLr, kWeightDecay, kGradScale, kFirst };
constexpr int kParameters = 64, kThreads = 256;
constexpr std::int64_t kBlock = 4096;  // elements

struct Batch {
  void* param[kParameters];
  const void* grad[kParameters];
  void* zeroed[kParameters];  // the gradient again where it becomes zeros, else null
  std::int64_t size[kParameters], offset[kParameters];  // of the state
  std::int32_t number[kParameters];                     // in the group
  std::int32_t first_block[kParameters + 1];
  std::int32_t count;
};

__global__ void count_steps_kernel(const Batch batch, double* step) {
  const int k = static_cast<int>(threadIdx.x);
  if (k < batch.count) step[batch.number[k]] += 1;
}

// rule.prepare(hyper, t): the numbers of a step; rule.apply(numbers, i, param, gradient): element i of the
// state.
template <class T, class Rule>
__global__ void __launch_bounds__(kThreads)
    step_kernel(const Batch batch, const double* hyper, const double* step, const Rule rule, bool maximize) {
  __shared__ typename Rule::Numbers shared;
  int k = 0;
  for (int last = batch.count - 1; k < last;) {
    const int middle = k + (last - k + 1) / 2;
    if (batch.first_block[middle] <= static_cast<int>(blockIdx.x))
      k = middle;
    else
      last = middle - 1;
  }
  if (threadIdx.x == 0) shared = rule.prepare(hyper, step ? step[batch.number[k]] : 0);
  __syncthreads();
  const typename Rule::Numbers numbers = shared;
  const T scale = static_cast<T>(maximize ? -hyper[kGradScale] : hyper[kGradScale]);
  const T decay = rule.coupled() ? static_cast<T>(hyper[kWeightDecay]) : T(0);
  T* const p = static_cast<T*>(batch.param[k]);
  const T* const g = static_cast<const T*>(batch.grad[k]);
  T* const zeroed = static_cast<T*>(batch.zeroed[k]);
  const std::int64_t begin = (std::int64_t{blockIdx.x} - batch.first_block[k]) * kBlock;
  const std::int64_t end = begin + kBlock < batch.size[k] ? begin + kBlock : batch.size[k];
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const Vec<T> x(p[i]);
    Vec<T> d = Vec<T>(g[i]) * Vec<T>(scale);
    if (decay != T(0)) d = fma(Vec<T>(decay), x, d);
    p[i] = rule.apply(numbers, batch.offset[k] + i, x, d).r;
    if (zeroed) zeroed[i] = T(0);
  }
}

template <class T, class Rule>
void run(const Outs& params, const Ins& grads, const Outs& zeroed, const View& step, const View& hyper,
         const Rule& rule, bool maximize) {
  Batch batch{};
  std::int64_t offset = 0;
  const auto flush = [&] {
    if (batch.count == 0) return;
    if (step.data)
      launch(&count_steps_kernel, dim3(1), dim3(kParameters), 0, batch, static_cast<double*>(step.data));
    if (batch.first_block[batch.count] > 0)
      launch(&step_kernel<T, Rule>, dim3(static_cast<unsigned>(batch.first_block[batch.count])),
             dim3(kThreads), 0, batch, static_cast<const double*>(hyper.data),
             static_cast<const double*>(step.data), rule, maximize);
    batch.count = 0;
  };
  for (std::int64_t k = 0; k < params.size; ++k) {
    const std::int64_t size = params.data[k].size();
    if (grads.data[k]) {
      const int at = batch.count++;
      batch.param[at] = params.data[k].data;
      batch.grad[at] = grads.data[k].data;
      batch.zeroed[at] = zeroed.size ? zeroed.data[k].data : nullptr;
      batch.size[at] = size;
      batch.offset[at] = offset;
      batch.number[at] = static_cast<std::int32_t>(k);
      batch.first_block[at + 1] = batch.first_block[at] + static_cast<std::int32_t>(ceil_div(size, kBlock));
      if (batch.count == kParameters) flush();
    }
    offset += size;
  }
  flush();
}

// b = momentum b + (1 - dampening) g (b = g in the first step); p -= lr (nesterov ? g + momentum b : b)
template <class T>
struct SgdRule {
  T* momentum;
  bool nesterov;
  struct Numbers {
    T rate, mu, keep, fresh;
  };
  TS_INLINE bool coupled() const { return true; }
  TS_INLINE Numbers prepare(const double* h, double t) const {
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

// m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g²;
// p -= lr / (1 - beta1^t) · m / (sqrt(v / (1 - beta2^t)) + eps), v_max = max(v_max, v) for v with amsgrad
template <class T>
struct AdamRule {
  T *m, *v, *v_max;
  bool decoupled, plain_eps;
  struct Numbers {
    T fresh1, keep2, fresh2, shrink, rate, eps;
  };
  TS_INLINE bool coupled() const { return !decoupled; }
  TS_INLINE Numbers prepare(const double* h, double t) const {
    const double beta1 = h[kFirst], beta2 = h[kFirst + 1], root = ::sqrt(1 - ::pow(beta2, t));
    return {static_cast<T>(1 - beta1),
            static_cast<T>(beta2),
            static_cast<T>(1 - beta2),
            static_cast<T>(decoupled ? 1 - h[kLr] * h[kWeightDecay] : 1.0),
            static_cast<T>(-h[kLr] * root / (1 - ::pow(beta1, t))),
            static_cast<T>(plain_eps ? h[kFirst + 2] : h[kFirst + 2] * root)};
  }
  TS_INLINE Vec<T> apply(const Numbers& n, std::int64_t i, Vec<T> x, Vec<T> d) const {
    const Vec<T> before(m[i]);
    const Vec<T> first = fma(Vec<T>(n.fresh1), d - before, before);
    Vec<T> second = fma(Vec<T>(n.fresh2) * d, d, Vec<T>(n.keep2) * Vec<T>(v[i]));
    m[i] = first.r;
    v[i] = second.r;
    if (v_max) {
      second = ts::cuda::max(Vec<T>(v_max[i]), second);
      v_max[i] = second.r;
    }
    return fma(Vec<T>(n.rate), first / (sqrt(second) + Vec<T>(n.eps)), x * Vec<T>(n.shrink));
  }
};

// s = alpha s + (1 - alpha) g²; centered: a += (1 - alpha) (g - a) and s - a² for s; d = g / (sqrt(s) + eps);
// with momentum b = momentum b + d and p -= lr b, else p -= lr d
template <class T>
struct RmsPropRule {
  T *square, *momentum, *mean;
  struct Numbers {
    T keep, fresh, eps, mu, rate;
  };
  TS_INLINE bool coupled() const { return true; }
  TS_INLINE Numbers prepare(const double* h, double) const {
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
struct AdagradRule {
  T* square;
  struct Numbers {
    T rate, eps;
  };
  TS_INLINE bool coupled() const { return true; }
  TS_INLINE Numbers prepare(const double* h, double t) const {
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
struct AdadeltaRule {
  T *square, *delta;
  struct Numbers {
    T keep, fresh, eps, rate;
  };
  TS_INLINE bool coupled() const { return true; }
  TS_INLINE Numbers prepare(const double* h, double) const {
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
struct LionRule {
  T* m;
  struct Numbers {
    T fresh1, fresh2, shrink, rate;
  };
  TS_INLINE bool coupled() const { return false; }
  TS_INLINE Numbers prepare(const double* h, double) const {
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

void refuse_rows(const char* name, const Ins& rows) {
  for (std::int64_t k = 0; k < rows.size; ++k)
    if (rows.data[k]) not_implemented(name, "row-sparse gradients have no CUDA kernel yet; use dense ones");
}

}  // namespace

void sgd(Outs params, Ins grads, Ins rows, Outs zeroed, Out momentum, Out step, In hyper, Sgd options) {
  if (!params.size) return;
  refuse_rows("sgd", rows);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, zeroed, step, hyper,
           SgdRule<T>{options.has_momentum ? momentum.as<T>() : nullptr, options.nesterov}, options.maximize);
  });
}
void adam(Outs params, Ins grads, Ins rows, Outs zeroed, Out m, Out v, Out v_max, Out step, In hyper,
          Adam options) {
  if (!params.size) return;
  refuse_rows("adam", rows);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, zeroed, step, hyper,
           AdamRule<T>{m.as<T>(), v.as<T>(), options.amsgrad ? v_max.as<T>() : nullptr, options.decoupled,
                       options.plain_eps},
           options.maximize);
  });
}
void rmsprop(Outs params, Ins grads, Outs zeroed, Out square, Out momentum, Out mean, Out step, In hyper,
             RmsProp options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, zeroed, step, hyper,
           RmsPropRule<T>{square.as<T>(), options.has_momentum ? momentum.as<T>() : nullptr,
                          options.centered ? mean.as<T>() : nullptr},
           options.maximize);
  });
}
void adagrad(Outs params, Ins grads, Ins rows, Outs zeroed, Out square, Out step, In hyper, Adagrad options) {
  if (!params.size) return;
  refuse_rows("adagrad", rows);
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, zeroed, step, hyper, AdagradRule<T>{square.as<T>()}, options.maximize);
  });
}

void adadelta(Outs params, Ins grads, Outs zeroed, Out square, Out delta, Out step, In hyper,
              Adadelta options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, zeroed, step, hyper, AdadeltaRule<T>{square.as<T>(), delta.as<T>()},
           options.maximize);
  });
}
void lion(Outs params, Ins grads, Outs zeroed, Out m, Out step, In hyper, Lion options) {
  if (!params.size) return;
  with_floating(params.data[0].dtype, [&]<class T>(Type<T>) {
    run<T>(params, grads, zeroed, step, hyper, LionRule<T>{m.as<T>()}, options.maximize);
  });
}

}  // namespace ts::cuda
