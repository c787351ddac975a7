#include "ops/optim.h"

#include <algorithm>

#include "core/launch.h"
#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

// Whether kernels take such an array as it is: a GPU's take no halves.
bool as_it_is(const Array& x) { return !is_half(x.dtype()) || x.device() == Device::cpu; }

// The operands of one step, checked, as the kernels take them.
class Step {
 public:
  Step(const char* op, const Arrays& params, const Arrays& grads, bool zero_grads, const Arrays& rows = {})
      : op_(op), params_(params), given_(grads), zero_(zero_grads) {
    if (grads.size() != params.size())
      value_error(op, ": ", params.size(), " params and ", grads.size(),
                  " grads; there must be as many of each");
    if (!rows.empty() && rows.size() != params.size())
      value_error(op, ": ", params.size(), " params and ", rows.size(),
                  " rows; there must be as many of each, or no rows at all");
    grads_.reserve(grads.size());
    for (std::size_t i = 0; i < params.size(); ++i) {
      const Array& p = params[i];
      if (!p) value_error(op, ": params[", i, "] is None");
      check_floating(op, "params", p.dtype());
      if (p.dtype() != params[0].dtype())
        type_error(op, ": params[", i, "] is ", name(p.dtype()), " where params[0] is ",
                   name(params[0].dtype()));
      if (grads[i]) check_writable(op, p);
      if (!rows.empty()) rows_.push_back(rows[i] ? checked_rows(i, rows[i]) : Array());
      if (!grads[i]) {
        grads_.emplace_back();
      } else {
        Shape wanted = p.shape();
        if (has_rows(i)) wanted[0] = rows_[i].size();
        if (grads[i].shape() != wanted)
          value_error(op, ": grads[", i, "] has shape ", grads[i].shape(),
                      has_rows(i) ? ", its rows ask for " : ", its parameter ", wanted);
        if (grads[i].dtype() != p.dtype())
          type_error(op, ": grads[", i, "] is ", name(grads[i].dtype()), ", its parameter ", name(p.dtype()));
        if (zero_grads) check_writable(op, grads[i]);
        grads_.push_back(as_it_is(p) ? contiguous(grads[i])
                                     : astype(contiguous(grads[i]), DType::float32, false));
      }
      total_ += p.size();
    }
  }

  // A flat state array, which `needed` says must be there.
  void check_state(const char* argument, const Array& state, bool needed) const {
    if (!needed || params_.empty()) return;
    if (!state) value_error(op_, ": ", argument, " is needed with these options");
    check_same_dtype(op_, argument, state, computed_in(params_[0].dtype()));
    check_flat(argument, state, total_);
  }
  // One float64 number a parameter: `step` and its like.
  void check_numbers(const char* argument, const Array& numbers, bool needed) const {
    if (!numbers && !needed) return;
    if (!numbers) value_error(op_, ": ", argument, " is needed with these options");
    check_same_dtype(op_, argument, numbers, DType::float64);
    check_flat(argument, numbers, static_cast<std::int64_t>(params_.size()));
  }
  void check_hyper(const Array& hyper, std::int64_t slots) const {
    if (!hyper) value_error(op_, ": hyper is None");
    check_same_dtype(op_, "hyper", hyper, DType::float64);
    if (hyper.shape() != Shape{slots} || !hyper.is_contiguous())
      value_error(op_, ": hyper must be ", slots, " contiguous float64, got shape ", hyper.shape());
  }

  // Calls kernel(params, grads, rows, zeroed). A parameter that is not row-major goes through a copy, on a
  // GPU a half through one of float32.
  template <class Kernel>
  Arrays run(const Kernel& kernel) {
    const std::size_t count = params_.size();
    Arrays dense;
    dense.reserve(count);
    for (const Array& p : params_)
      dense.push_back(as_it_is(p) ? contiguous(p) : astype(contiguous(p), DType::float32, false));
    std::vector<Out> outs, zeroed;
    std::vector<In> ins, rows;
    outs.reserve(count);
    ins.reserve(count);
    const bool in_pass = zero_ && nothing_shared(dense);
    for (std::size_t i = 0; i < count; ++i) {
      ins.push_back(grads_[i]);
      outs.push_back(grads_[i] ? static_cast<Out>(dense[i]) : unwritten(dense[i]));
      if (!rows_.empty()) rows.push_back(rows_[i]);
      if (in_pass) zeroed.push_back(zeroed_by_kernel(i) ? static_cast<Out>(grads_[i]) : Out{});
    }
    const auto size = static_cast<std::int64_t>(count);
    kernel(Outs{outs.data(), size}, Ins{ins.data(), size},
           Ins{rows.data(), static_cast<std::int64_t>(rows.size())},
           Outs{zeroed.data(), static_cast<std::int64_t>(zeroed.size())});
    for (std::size_t i = 0; i < count; ++i) {
      if (!grads_[i]) continue;
      if (dense[i].data() != params_[i].data()) {
        Array p = params_[i];
        copy_into(op_, dense[i], p);
      }
      if (zero_ && !(in_pass && zeroed_by_kernel(i))) {
        Array g = given_[i];
        copy_into(op_, Scalar::of(0.0), g);
      }
    }
    return {};
  }

 private:
  // For the extent alone: not a write, so the version stays.
  static Out unwritten(const Array& p) { return Out{static_cast<In>(p)}; }

  bool has_rows(std::size_t i) const { return !rows_.empty() && rows_[i]; }
  bool zeroed_by_kernel(std::size_t i) const { return grads_[i] && grads_[i].data() == given_[i].data(); }

  // Ascending and different: what the kernels' pieces rely on to touch no row twice.
  Array checked_rows(std::size_t i, const Array& given) const {
    const Array& p = params_[i];
    if (p.ndim() == 0) value_error(op_, ": params[", i, "] has no rows: its shape is ()");
    if (given.dtype() != DType::int64)
      type_error(op_, ": rows[", i, "] must be int64, got ", name(given.dtype()));
    if (given.ndim() != 1)
      value_error(op_, ": rows[", i, "] must have one dimension, got shape ", given.shape());
    if (given.device() != Device::cpu) return given;
    const Array rows = contiguous(given);
    host_read(op_, rows.storage());
    const std::int64_t* const row = rows.data_as<std::int64_t>();
    for (std::int64_t k = 0; k < rows.size(); ++k) {
      if (row[k] < 0 || row[k] >= p.shape(0))
        index_error(op_, ": rows[", i, "] holds ", row[k], "; params[", i, "] has ", p.shape(0), " rows");
      if (k && row[k] <= row[k - 1])
        value_error(op_, ": rows[", i, "] must ascend without equals, got ", row[k - 1], " before ", row[k]);
    }
    return rows;
  }

  // Whether no gradient lies in memory of another or of a parameter: then a piece may clear what it has read.
  bool nothing_shared(const Arrays& dense) const {
    std::vector<const Storage*> seen;
    for (const Array& p : dense) seen.push_back(p.storage());
    std::sort(seen.begin(), seen.end());
    const std::vector<const Storage*> of_params = seen;
    std::vector<const Storage*> of_grads;
    for (const Array& g : grads_) {
      if (!g) continue;
      if (std::binary_search(of_params.begin(), of_params.end(), g.storage())) return false;
      of_grads.push_back(g.storage());
    }
    std::sort(of_grads.begin(), of_grads.end());
    return std::adjacent_find(of_grads.begin(), of_grads.end()) == of_grads.end();
  }

  void check_flat(const char* argument, const Array& state, std::int64_t size) const {
    if (state.shape() != Shape{size} || !state.is_contiguous())
      value_error(op_, ": ", argument, " must be contiguous, of shape (", size, ",), got ", state.shape());
    if (state.read_only()) value_error(op_, ": ", argument, " is read-only");
  }

  const char* op_;
  const Arrays &params_, &given_;
  Arrays grads_, rows_;
  std::int64_t total_ = 0;
  bool zero_;
};

// An array that the kernel writes, or nothing where it does not use it.
Out written(const Array& state, bool used = true) {
  if (!used || !state) return Out{};
  return const_cast<Array&>(state);  // not a copy: the view points at the array's shape
}

}  // namespace

Arrays sgd(const Arrays& params, const Arrays& grads, const Array& momentum, const Array& step,
           const Array& hyper, bool nesterov, bool maximize, const Arrays& rows, bool zero_grads) {
  Step s("sgd", params, grads, zero_grads, rows);
  const bool has_momentum = static_cast<bool>(momentum);
  if (nesterov && !has_momentum) value_error("sgd: nesterov needs momentum");
  s.check_state("momentum", momentum, has_momentum);
  s.check_numbers("step", step, has_momentum);
  s.check_hyper(hyper, 5);
  return s.run([&](Outs p, Ins g, Ins r, Outs z) {
    launch<&Kernels::sgd>(p, g, r, z, written(momentum), written(step), hyper,
                          Sgd{nesterov, maximize, has_momentum});
  });
}

Arrays adam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& v_max,
            const Array& step, const Array& hyper, bool decoupled, bool amsgrad, bool maximize,
            const Arrays& rows, bool zero_grads, bool plain_eps) {
  Step s("adam", params, grads, zero_grads, rows);
  s.check_state("m", m, true);
  s.check_state("v", v, true);
  s.check_state("v_max", v_max, amsgrad);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g, Ins r, Outs z) {
    launch<&Kernels::adam>(p, g, r, z, written(m), written(v), written(v_max, amsgrad), written(step), hyper,
                           Adam{decoupled, amsgrad, maximize, plain_eps});
  });
}

Arrays adamax(const Arrays& params, const Arrays& grads, const Array& m, const Array& u, const Array& step,
              const Array& hyper, bool maximize, bool zero_grads) {
  Step s("adamax", params, grads, zero_grads);
  s.check_state("m", m, true);
  s.check_state("u", u, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::adamax>(p, g, z, written(m), written(u), written(step), hyper, Adamax{maximize});
  });
}

Arrays nadam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& product,
             const Array& step, const Array& hyper, bool decoupled, bool maximize, bool zero_grads) {
  Step s("nadam", params, grads, zero_grads);
  s.check_state("m", m, true);
  s.check_state("v", v, true);
  s.check_numbers("product", product, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 7);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::nadam>(p, g, z, written(m), written(v), written(product), written(step), hyper,
                            NAdam{decoupled, maximize});
  });
}

Arrays radam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& step,
             const Array& hyper, bool decoupled, bool maximize, bool zero_grads) {
  Step s("radam", params, grads, zero_grads);
  s.check_state("m", m, true);
  s.check_state("v", v, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::radam>(p, g, z, written(m), written(v), written(step), hyper,
                            RAdam{decoupled, maximize});
  });
}

Arrays lamb(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& step,
            const Array& hyper, bool maximize, bool zero_grads) {
  Step s("lamb", params, grads, zero_grads);
  s.check_state("m", m, true);
  s.check_state("v", v, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::lamb>(p, g, z, written(m), written(v), written(step), hyper, Lamb{maximize});
  });
}

Arrays rmsprop(const Arrays& params, const Arrays& grads, const Array& square, const Array& momentum,
               const Array& mean, const Array& step, const Array& hyper, bool centered, bool maximize,
               bool zero_grads) {
  Step s("rmsprop", params, grads, zero_grads);
  const bool has_momentum = static_cast<bool>(momentum);
  s.check_state("square", square, true);
  s.check_state("momentum", momentum, has_momentum);
  s.check_state("mean", mean, centered);
  s.check_numbers("step", step, false);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::rmsprop>(p, g, z, written(square), written(momentum), written(mean, centered),
                              written(step), hyper, RmsProp{centered, maximize, has_momentum});
  });
}

Arrays adagrad(const Arrays& params, const Arrays& grads, const Array& square, const Array& step,
               const Array& hyper, bool maximize, const Arrays& rows, bool zero_grads) {
  Step s("adagrad", params, grads, zero_grads, rows);
  s.check_state("square", square, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 5);
  return s.run([&](Outs p, Ins g, Ins r, Outs z) {
    launch<&Kernels::adagrad>(p, g, r, z, written(square), written(step), hyper, Adagrad{maximize});
  });
}

Arrays adadelta(const Arrays& params, const Arrays& grads, const Array& square, const Array& delta,
                const Array& step, const Array& hyper, bool maximize, bool zero_grads) {
  Step s("adadelta", params, grads, zero_grads);
  s.check_state("square", square, true);
  s.check_state("delta", delta, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 5);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::adadelta>(p, g, z, written(square), written(delta), written(step), hyper,
                               Adadelta{maximize});
  });
}

Arrays lion(const Arrays& params, const Arrays& grads, const Array& m, const Array& step, const Array& hyper,
            bool maximize, bool zero_grads) {
  Step s("lion", params, grads, zero_grads);
  s.check_state("m", m, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 5);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::lion>(p, g, z, written(m), written(step), hyper, Lion{maximize});
  });
}

Arrays rprop(const Arrays& params, const Arrays& grads, const Array& before, const Array& size,
             const Array& step, const Array& hyper, bool maximize, bool zero_grads) {
  Step s("rprop", params, grads, zero_grads);
  s.check_state("before", before, true);
  s.check_state("size", size, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 7);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::rprop>(p, g, z, written(before), written(size), written(step), hyper, Rprop{maximize});
  });
}

Arrays asgd(const Arrays& params, const Arrays& grads, const Array& average, const Array& eta,
            const Array& mu, const Array& step, const Array& hyper, bool maximize, bool zero_grads) {
  Step s("asgd", params, grads, zero_grads);
  s.check_state("average", average, true);
  s.check_numbers("eta", eta, true);
  s.check_numbers("mu", mu, true);
  s.check_numbers("step", step, true);
  s.check_hyper(hyper, 6);
  return s.run([&](Outs p, Ins g, Ins, Outs z) {
    launch<&Kernels::asgd>(p, g, z, written(average), written(eta), written(mu), written(step), hyper,
                           Asgd{maximize});
  });
}

Array gradient_norm(const Arrays& grads) {
  Arrays dense;
  dense.reserve(grads.size());
  std::vector<In> ins;
  ins.reserve(grads.size());
  for (const Array& g : grads) {
    if (!g) continue;
    check_floating("gradient_norm", "grads", g.dtype());
    // Elements are added in memory order, so a dense gradient needs no copy.
    dense.push_back(g.is_dense() ? g : contiguous(g));
    if (!as_it_is(g)) dense.back() = astype(dense.back(), DType::float32, false);
    ins.push_back(dense.back());
  }
  Array norm = empty("gradient_norm", DType::float64, {});
  launch<&Kernels::gradient_norm>(Ins{ins.data(), static_cast<std::int64_t>(ins.size())}, norm);
  return norm;
}

}  // namespace ts::ops
