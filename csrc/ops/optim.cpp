#include "ops/optim.h"

#include "core/launch.h"
#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

// The operands of one step, checked, as the kernels take them.
class Step {
 public:
  Step(const char* op, const Arrays& params, const Arrays& grads) : op_(op), params_(params) {
    if (grads.size() != params.size())
      value_error(op, ": ", params.size(), " params and ", grads.size(),
                  " grads; there must be as many of each");
    grads_.reserve(grads.size());
    for (std::size_t i = 0; i < params.size(); ++i) {
      const Array& p = params[i];
      if (!p) value_error(op, ": params[", i, "] is None");
      check_domain(op, "params", p.dtype(), Domain::floating);
      if (p.dtype() != params[0].dtype())
        type_error(op, ": params[", i, "] is ", name(p.dtype()), " where params[0] is ",
                   name(params[0].dtype()));
      check_writable(op, p);
      if (!grads[i]) {
        grads_.emplace_back();
      } else {
        if (grads[i].shape() != p.shape())
          value_error(op, ": grads[", i, "] has shape ", grads[i].shape(), ", its parameter ", p.shape());
        if (grads[i].dtype() != p.dtype())
          type_error(op, ": grads[", i, "] is ", name(grads[i].dtype()), ", its parameter ", name(p.dtype()));
        grads_.push_back(contiguous(grads[i]));
      }
      total_ += p.size();
    }
  }

  // A flat state array, which `needed` says must be there.
  void check_state(const char* argument, const Array& state, bool needed) const {
    if (!needed || params_.empty()) return;
    if (!state) value_error(op_, ": ", argument, " is needed with these options");
    check_same_dtype(op_, argument, state, params_[0].dtype());
    check_flat(argument, state, total_);
  }
  void check_step(const Array& step, bool needed) const {
    if (!step && !needed) return;
    if (!step) value_error(op_, ": step is needed with these options");
    check_same_dtype(op_, "step", step, DType::float64);
    check_flat("step", step, static_cast<std::int64_t>(params_.size()));
  }
  void check_hyper(const Array& hyper, std::int64_t slots) const {
    if (!hyper) value_error(op_, ": hyper is None");
    check_same_dtype(op_, "hyper", hyper, DType::float64);
    if (hyper.shape() != Shape{slots} || !hyper.is_contiguous())
      value_error(op_, ": hyper must be ", slots, " contiguous float64, got shape ", hyper.shape());
  }

  // Calls kernel(params, grads). A parameter that is not row-major goes through a copy.
  template <class Kernel>
  Arrays run(const Kernel& kernel) {
    Arrays dense;
    dense.reserve(params_.size());
    for (const Array& p : params_) dense.push_back(p.is_contiguous() ? p : contiguous(p));
    std::vector<Out> outs;
    std::vector<In> ins;
    outs.reserve(dense.size());
    ins.reserve(dense.size());
    for (std::size_t i = 0; i < dense.size(); ++i) {
      ins.push_back(grads_[i]);
      outs.push_back(grads_[i] ? static_cast<Out>(dense[i]) : unwritten(dense[i]));
    }
    const auto count = static_cast<std::int64_t>(dense.size());
    kernel(Outs{outs.data(), count}, Ins{ins.data(), count});
    for (std::size_t i = 0; i < dense.size(); ++i) {
      if (dense[i].data() == params_[i].data() || !grads_[i]) continue;
      Array p = params_[i];
      copy_into(op_, dense[i], p);
    }
    return {};
  }

 private:
  // For the extent alone: not a write, so the version stays.
  static Out unwritten(const Array& p) { return Out{static_cast<In>(p)}; }

  void check_flat(const char* argument, const Array& state, std::int64_t size) const {
    if (state.shape() != Shape{size} || !state.is_contiguous())
      value_error(op_, ": ", argument, " must be contiguous, of shape (", size, ",), got ", state.shape());
    if (state.read_only()) value_error(op_, ": ", argument, " is read-only");
  }

  const char* op_;
  const Arrays& params_;
  Arrays grads_;
  std::int64_t total_ = 0;
};

// An array that the kernel writes, or nothing where it does not use it.
Out written(const Array& state, bool used = true) {
  if (!used || !state) return Out{};
  return const_cast<Array&>(state);  // not a copy: the view points at the array's shape
}

}  // namespace

Arrays sgd(const Arrays& params, const Arrays& grads, const Array& momentum, const Array& step,
           const Array& hyper, bool nesterov, bool maximize) {
  Step s("sgd", params, grads);
  const bool has_momentum = static_cast<bool>(momentum);
  if (nesterov && !has_momentum) value_error("sgd: nesterov needs momentum");
  s.check_state("momentum", momentum, has_momentum);
  s.check_step(step, has_momentum);
  s.check_hyper(hyper, 5);
  return s.run([&](Outs p, Ins g) {
    launch<&Kernels::sgd>(p, g, written(momentum), written(step), hyper,
                          Sgd{nesterov, maximize, has_momentum});
  });
}

Arrays adam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& v_max,
            const Array& step, const Array& hyper, bool decoupled, bool amsgrad, bool maximize) {
  Step s("adam", params, grads);
  s.check_state("m", m, true);
  s.check_state("v", v, true);
  s.check_state("v_max", v_max, amsgrad);
  s.check_step(step, true);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g) {
    launch<&Kernels::adam>(p, g, written(m), written(v), written(v_max, amsgrad), written(step), hyper,
                           Adam{decoupled, amsgrad, maximize});
  });
}

Arrays rmsprop(const Arrays& params, const Arrays& grads, const Array& square, const Array& momentum,
               const Array& mean, const Array& step, const Array& hyper, bool centered, bool maximize) {
  Step s("rmsprop", params, grads);
  const bool has_momentum = static_cast<bool>(momentum);
  s.check_state("square", square, true);
  s.check_state("momentum", momentum, has_momentum);
  s.check_state("mean", mean, centered);
  s.check_step(step, false);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g) {
    launch<&Kernels::rmsprop>(p, g, written(square), written(momentum), written(mean, centered),
                              written(step), hyper, RmsProp{centered, maximize, has_momentum});
  });
}

Arrays adagrad(const Arrays& params, const Arrays& grads, const Array& square, const Array& step,
               const Array& hyper, bool maximize) {
  Step s("adagrad", params, grads);
  s.check_state("square", square, true);
  s.check_step(step, true);
  s.check_hyper(hyper, 5);
  return s.run([&](Outs p, Ins g) {
    launch<&Kernels::adagrad>(p, g, written(square), written(step), hyper, Adagrad{maximize});
  });
}

Arrays adadelta(const Arrays& params, const Arrays& grads, const Array& square, const Array& delta,
                const Array& step, const Array& hyper, bool maximize) {
  Step s("adadelta", params, grads);
  s.check_state("square", square, true);
  s.check_state("delta", delta, true);
  s.check_step(step, true);
  s.check_hyper(hyper, 5);
  return s.run([&](Outs p, Ins g) {
    launch<&Kernels::adadelta>(p, g, written(square), written(delta), written(step), hyper,
                               Adadelta{maximize});
  });
}

Arrays lion(const Arrays& params, const Arrays& grads, const Array& m, const Array& step, const Array& hyper,
            bool maximize) {
  Step s("lion", params, grads);
  s.check_state("m", m, true);
  s.check_step(step, true);
  s.check_hyper(hyper, 5);
  return s.run(
      [&](Outs p, Ins g) { launch<&Kernels::lion>(p, g, written(m), written(step), hyper, Lion{maximize}); });
}

Array gradient_norm(const Arrays& grads) {
  Arrays dense;
  dense.reserve(grads.size());
  std::vector<In> ins;
  ins.reserve(grads.size());
  for (const Array& g : grads) {
    if (!g) continue;
    check_domain("gradient_norm", "grads", g.dtype(), Domain::floating);
    // Elements are added in memory order, so a dense gradient needs no copy.
    dense.push_back(g.is_dense() ? g : contiguous(g));
    ins.push_back(dense.back());
  }
  Array norm = empty("gradient_norm", DType::float64, {});
  launch<&Kernels::gradient_norm>(Ins{ins.data(), static_cast<std::int64_t>(ins.size())}, norm);
  return norm;
}

}  // namespace ts::ops
