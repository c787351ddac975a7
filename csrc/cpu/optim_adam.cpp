// The Adam family: first moments m and second moments v of the gradient, one pass (lamb: two).
//
// hyper, float64:  0 lr, 1 weight_decay, 2 grad_scale, 3 beta1, 4 beta2, 5 eps; nadam 6 momentum_decay.
// Scalars are computed in float64, once a parameter, and rounded once; c1 = 1 - beta1^t, c2 = 1 - beta2^t are
// folded into them. Bytes read and written for a float32: 28 (amsgrad 36); lamb 40.
#include "cpu/optim.h"

#include <cmath>

#include "cpu/kernels.h"

namespace ts::cpu::TS_ISA {

// m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g²;
// p -= lr / (1 - beta1^t) · m / (sqrt(v / (1 - beta2^t)) + eps), v_max = max(v_max, v) for v with amsgrad;
// decay: g += weight_decay p, or decoupled: p *= 1 - lr weight_decay. plain_eps adds eps to sqrt(v), before
// the correction (SparseAdam).
void adam(Outs params, Ins grads, Ins rows, Outs zeroed, Out m, Out v, Out v_max, Out step, In hyper,
          Adam options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  const bool coupled = !options.decoupled && h[kWeightDecay] != 0;
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
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
          return Corrections{
              t, Vec<T>(static_cast<T>(-h[kLr] * root / (1 - std::pow(beta1, t)))),
              Vec<T>(static_cast<T>(options.plain_eps ? h[kFirst + 2] : h[kFirst + 2] * root))};
        };
        const double* const steps = step.as<double>();
        const Corrections common = correct(steps[0]);  // nearly always everyone's
        for_each_range(params, grads, rows, zeroed, [&](const Range& at) {
          const Corrections c = steps[at.param] == common.step ? common : correct(steps[at.param]);
          S* const p = params.data[at.param].as<S>();
          const S* const g = at.gradient<S>(grads);
          T* const m_k = m.as<T>() + at.offset;
          T* const v_k = v.as<T>() + at.offset;
          T* const top_k = amsgrad.value ? v_max.as<T>() + at.offset : nullptr;
          for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
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

namespace {

// The moments of a register of gradients, written back.
template <class T>
struct Moments {
  Vec<T> fresh1, keep2, fresh2;

  explicit Moments(const double* h)
      : fresh1(static_cast<T>(1 - h[kFirst])),
        keep2(static_cast<T>(h[kFirst + 1])),
        fresh2(static_cast<T>(1 - h[kFirst + 1])) {}
  TS_INLINE Vec<T> first(Vec<T> m, Vec<T> d) const { return fma(fresh1, d - m, m); }
  TS_INLINE Vec<T> second(Vec<T> v, Vec<T> d) const { return fma(fresh2 * d, d, keep2 * v); }
};

}  // namespace

// m += (1 - beta1) (g - m); u = max(beta2 u, |g| + eps); p -= lr / c1 · m / u
void adamax(Outs params, Ins grads, Outs zeroed, Out m, Out u, Out step, In hyper, Adamax options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Moments<T> moments(h);
      const Vec<T> eps(static_cast<T>(h[kFirst + 2]));
      for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
        const double c1 = 1 - std::pow(h[kFirst], step.as<double>()[at.param]);
        const Vec<T> rate(static_cast<T>(-h[kLr] / c1));
        S* const p = params.data[at.param].as<S>();
        const S* const g = at.gradient<S>(grads);
        T *const m_k = m.as<T>() + at.offset, *const u_k = u.as<T>() + at.offset;
        for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
          const Vec<T> x = io(p + i), d = gradient(io(g + i), x);
          const Vec<T> first = moments.first(io(m_k + i), d);
          const Vec<T> largest = max(io(u_k + i) * moments.keep2, abs(d) + eps);
          io(first, m_k + i);
          io(largest, u_k + i);
          io(fma(rate, first / largest, x), p + i);
        });
      });
    });
  });
}

// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), product = mu_1 ... mu_t (float64, one a parameter);
// p -= lr (mu_{t+1} m / (1 - product mu_{t+1}) + (1 - mu_t) g / (1 - product)) / (sqrt(v / c2) + eps)
void nadam(Outs params, Ins grads, Outs zeroed, Out m, Out v, Out product, Out step, In hyper,
           NAdam options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  const auto mu = [&](double t) { return h[kFirst] * (1 - 0.5 * std::pow(0.96, t * h[kFirst + 3])); };
  for (std::int64_t k = 0; k < params.size; ++k)
    if (grads.data[k]) product.as<double>()[k] *= mu(step.as<double>()[k]);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(!options.decoupled && h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Moments<T> moments(h);
      const Vec<T> shrink(static_cast<T>(options.decoupled ? 1 - h[kLr] * h[kWeightDecay] : 1.0));
      for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
        const double t = step.as<double>()[at.param], root = std::sqrt(1 - std::pow(h[kFirst + 1], t));
        const double now = mu(t), next = mu(t + 1), past = product.as<double>()[at.param];
        const Vec<T> of_g(static_cast<T>(-h[kLr] * root * (1 - now) / (1 - past)));
        const Vec<T> of_m(static_cast<T>(-h[kLr] * root * next / (1 - past * next)));
        const Vec<T> eps(static_cast<T>(h[kFirst + 2] * root));
        S* const p = params.data[at.param].as<S>();
        const S* const g = at.gradient<S>(grads);
        T *const m_k = m.as<T>() + at.offset, *const v_k = v.as<T>() + at.offset;
        for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
          const Vec<T> x = io(p + i), d = gradient(io(g + i), x);
          const Vec<T> first = moments.first(io(m_k + i), d), second = moments.second(io(v_k + i), d);
          io(first, m_k + i);
          io(second, v_k + i);
          io(fma(of_m, first, of_g * d) / (sqrt(second) + eps) + x * shrink, p + i);
        });
      });
    });
  });
}

// rho_t = rho - 2 t beta2^t / c2 with rho = 2 / (1 - beta2) - 1;
// p -= lr / c1 · m r sqrt(c2) / (sqrt(v) + eps), r = sqrt((rho_t - 4)(rho_t - 2) rho / ((rho - 4)(rho - 2)
// rho_t)), where rho_t > 5, else p -= lr / c1 · m
void radam(Outs params, Ins grads, Outs zeroed, Out m, Out v, Out step, In hyper, RAdam options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    with_flag(!options.decoupled && h[kWeightDecay] != 0, [&](auto decay) {
      const Gradient<T, decay.value> gradient(h, options.maximize);
      const Moments<T> moments(h);
      const Vec<T> shrink(static_cast<T>(options.decoupled ? 1 - h[kLr] * h[kWeightDecay] : 1.0));
      const Vec<T> eps(static_cast<T>(h[kFirst + 2]));
      const double beta2 = h[kFirst + 1], rho = 2 / (1 - beta2) - 1;
      for_each_range(params, grads, Ins{}, zeroed, [&](const Range& at) {
        const double t = step.as<double>()[at.param], past = std::pow(beta2, t), c2 = 1 - past;
        const double rho_t = rho - 2 * t * past / c2, plain = -h[kLr] / (1 - std::pow(h[kFirst], t));
        S* const p = params.data[at.param].as<S>();
        const S* const g = at.gradient<S>(grads);
        T *const m_k = m.as<T>() + at.offset, *const v_k = v.as<T>() + at.offset;
        with_flag(rho_t > 5, [&](auto rectified) {
          double rate = plain;
          if constexpr (rectified.value)
            rate *= std::sqrt(c2 * (rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t));
          const Vec<T> move(static_cast<T>(rate));
          for_each_register<T>(at.begin, at.end, [&](auto io, std::int64_t i) {
            const Vec<T> x = io(p + i), d = gradient(io(g + i), x);
            const Vec<T> first = moments.first(io(m_k + i), d), second = moments.second(io(v_k + i), d);
            io(first, m_k + i);
            io(second, v_k + i);
            io(fma(move, rectified.value ? first / (sqrt(second) + eps) : first, x * shrink), p + i);
          });
        });
      });
    });
  });
}

namespace {

// What lamb does to kLanes elements at a time.
template <class S>
struct LambStep {
  using T = Computed<S>;
  static constexpr int kLanes = SquareSum::kLanes;
  static constexpr int W = Vec<T>::width;
  Moments<T> moments;
  Vec<T> scale, of_m, of_v, eps, decay;

  LambStep(const double* h, double t, bool maximize)
      : moments(h),
        scale(static_cast<T>(maximize ? -h[kGradScale] : h[kGradScale])),
        of_m(static_cast<T>(1 / (1 - std::pow(h[kFirst], t)))),
        of_v(static_cast<T>(1 / std::sqrt(1 - std::pow(h[kFirst + 1], t)))),
        eps(static_cast<T>(h[kFirst + 2])),
        decay(static_cast<T>(h[kWeightDecay])) {}

  TS_INLINE Vec<T> direction(Vec<T> m, Vec<T> v, Vec<T> x) const {
    return fma(decay, x, m * of_m / fma(sqrt(v), of_v, eps));
  }
  // New moments, the sums of squares of p and of the direction.
  void prepare(const S* p, const S* g, T* m, T* v, std::int64_t n, double& p_squares,
               double& r_squares) const {
    SquareSum of_p, of_r;
    alignas(64) T r[kLanes];
    alignas(64) S last[kLanes] = {};
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const std::int64_t left = n - i;
      if (left >= kLanes) {
        for (int j = 0; j < kLanes; j += W)
          moment(Whole<T>{}, p + i + j, g + i + j, m + i + j, v + i + j, r + j);
        of_p.add(p + i);
      } else {
        std::memset(r, 0, sizeof r);
        std::int64_t j = 0;
        for (; j + W <= left; j += W) moment(Whole<T>{}, p + i + j, g + i + j, m + i + j, v + i + j, r + j);
        if (j < left) {
          moment(Partial<T>{left - j}, p + i + j, g + i + j, m + i + j, v + i + j, r + j);
          for (std::int64_t k = left; k < j + W; ++k) r[k] = T(0);
        }
        std::memcpy(last, p + i, static_cast<std::size_t>(left) * sizeof(S));
        of_p.add(last);
      }
      of_r.add(r);
    }
    p_squares = of_p.total(), r_squares = of_r.total();
  }
  void apply(S* p, const T* m, const T* v, std::int64_t n, double rate) const {
    const Vec<T> move(static_cast<T>(-rate));
    for_each_register<T>(0, n, [&](auto io, std::int64_t i) {
      const Vec<T> x = io(p + i);
      io(fma(move, direction(io(m + i), io(v + i), x), x), p + i);
    });
  }

 private:
  template <class Io>
  TS_INLINE void moment(const Io& io, const S* p, const S* g, T* m, T* v, T* r) const {
    const Vec<T> d = io(g) * scale, first = moments.first(io(m), d), second = moments.second(io(v), d);
    io(first, m);
    io(second, v);
    direction(first, second, io(p)).store(r);
  }
};

}  // namespace

// r = m / c1 / (sqrt(v / c2) + eps) + weight_decay p; p -= lr |p| / |r| r, the ratio 1 where a norm is 0.
// Norms of a parameter: float64, of pieces counted from its own beginning, added in order. A parameter of one
// piece is finished while it is in the cache.
void lamb(Outs params, Ins grads, Outs zeroed, Out m, Out v, Out step, In hyper, Lamb options) {
  if (!params.size) return;
  const double* const h = hyper.as<double>();
  count_steps(params, grads, step);
  struct Piece {
    std::int64_t param, begin, end, offset;
    double p_squares, r_squares;
  };
  Piece* const pieces = static_cast<Piece*>(scratch());
  std::int64_t count = 0, offset = 0;
  for (std::int64_t k = 0; k < params.size; ++k) {
    const std::int64_t n = params.data[k].size();
    for (std::int64_t begin = 0; grads.data[k] && begin < n; begin += kOptimGrain)
      pieces[count++] = {k, begin, begin + kOptimGrain < n ? begin + kOptimGrain : n, offset, 0.0, 0.0};
    offset += n;
  }
  // Small parameters go together: a run of pieces that begins in [i kOptimGrain, (i + 1) kOptimGrain) of all
  // elements.
  std::int64_t* const runs = reinterpret_cast<std::int64_t*>(pieces + count);
  std::int64_t run_count = 0, walked = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i == 0 || walked >= kOptimGrain) runs[run_count++] = i, walked = 0;
    walked += pieces[i].end - pieces[i].begin;
  }
  runs[run_count] = count;
  const auto rate = [&](double p_squares, double r_squares) {
    return h[kLr] * (p_squares > 0 && r_squares > 0 ? std::sqrt(p_squares) / std::sqrt(r_squares) : 1.0);
  };
  const double* const steps = step.as<double>();
  with_stored(params.data[0].dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    const LambStep<S> common(h, steps[0], options.maximize);  // nearly always everyone's
    const auto rule_of = [&](const Piece& piece) {
      const double t = steps[piece.param];
      return t == steps[0] ? common : LambStep<S>(h, t, options.maximize);
    };
    const auto apply = [&](const LambStep<S>& rule, const Piece& piece) {
      const std::int64_t at = piece.offset + piece.begin;
      rule.apply(params.data[piece.param].as<S>() + piece.begin, m.as<T>() + at, v.as<T>() + at,
                 piece.end - piece.begin, rate(piece.p_squares, piece.r_squares));
    };
    const auto whole = [&](const Piece& piece) {
      return piece.end - piece.begin == params.data[piece.param].size();
    };
    parallel_for(run_count, [&](std::int64_t run) {
      for (std::int64_t i = runs[run]; i < runs[run + 1]; ++i) {
        Piece& piece = pieces[i];
        const LambStep<S> rule = rule_of(piece);
        const std::int64_t at = piece.offset + piece.begin, n = piece.end - piece.begin;
        rule.prepare(params.data[piece.param].as<S>() + piece.begin,
                     grads.data[piece.param].as<S>() + piece.begin, m.as<T>() + at, v.as<T>() + at, n,
                     piece.p_squares, piece.r_squares);
        if (whole(piece)) apply(rule, piece);
        if (zeroed.size && zeroed.data[piece.param])
          std::memset(zeroed.data[piece.param].as<S>() + piece.begin, 0,
                      static_cast<std::size_t>(n) * sizeof(S));
      }
    });
    bool any_left = false;
    for (std::int64_t i = 0; i < count;) {  // the sums of each parameter to all of its pieces
      std::int64_t end = i;
      double p_squares = 0, r_squares = 0;
      for (; end < count && pieces[end].param == pieces[i].param; ++end)
        p_squares += pieces[end].p_squares, r_squares += pieces[end].r_squares;
      any_left = any_left || end - i > 1;
      for (; i < end; ++i) pieces[i].p_squares = p_squares, pieces[i].r_squares = r_squares;
    }
    if (!any_left) return;
    parallel_for(run_count, [&](std::int64_t run) {
      for (std::int64_t i = runs[run]; i < runs[run + 1]; ++i)
        if (!whole(pieces[i])) apply(rule_of(pieces[i]), pieces[i]);
    });
  });
}

}  // namespace ts::cpu::TS_ISA
