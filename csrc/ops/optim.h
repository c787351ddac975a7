// Optimizer steps: every parameter of a group in one call.
//
// params are written in place; grads[i] may be absent (that parameter and its state are left alone) and has
// params[i]'s shape and dtype. State arrays are flat, of the parameters' dtype and total size; `step` counts
// each parameter's steps (float64, one a parameter) and `hyper` holds the numbers that may change between
// steps (float64; the slots are listed in cpu/optim.cpp). Where rows[i] is given, grads[i] holds those rows
// alone (int64, ascending and different). zero_grads: the gradients are zeros afterwards. Nothing is
// returned.
#pragma once

#include <vector>

#include "core/array.h"

namespace ts::ops {

using Arrays = std::vector<Array>;

Arrays sgd(const Arrays& params, const Arrays& grads, const Array& momentum, const Array& step,
           const Array& hyper, bool nesterov, bool maximize, const Arrays& rows, bool zero_grads);
Arrays adam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& v_max,
            const Array& step, const Array& hyper, bool decoupled, bool amsgrad, bool maximize,
            const Arrays& rows, bool zero_grads, bool plain_eps);
Arrays adamax(const Arrays& params, const Arrays& grads, const Array& m, const Array& u, const Array& step,
              const Array& hyper, bool maximize, bool zero_grads);
Arrays nadam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& product,
             const Array& step, const Array& hyper, bool decoupled, bool maximize, bool zero_grads);
Arrays radam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& step,
             const Array& hyper, bool decoupled, bool maximize, bool zero_grads);
Arrays lamb(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& step,
            const Array& hyper, bool maximize, bool zero_grads);
Arrays rmsprop(const Arrays& params, const Arrays& grads, const Array& square, const Array& momentum,
               const Array& mean, const Array& step, const Array& hyper, bool centered, bool maximize,
               bool zero_grads);
Arrays adagrad(const Arrays& params, const Arrays& grads, const Array& square, const Array& step,
               const Array& hyper, bool maximize, const Arrays& rows, bool zero_grads);
Arrays adadelta(const Arrays& params, const Arrays& grads, const Array& square, const Array& delta,
                const Array& step, const Array& hyper, bool maximize, bool zero_grads);
Arrays lion(const Arrays& params, const Arrays& grads, const Array& m, const Array& step, const Array& hyper,
            bool maximize, bool zero_grads);
Arrays rprop(const Arrays& params, const Arrays& grads, const Array& before, const Array& size,
             const Array& step, const Array& hyper, bool maximize, bool zero_grads);
Arrays asgd(const Arrays& params, const Arrays& grads, const Array& average, const Array& eta,
            const Array& mu, const Array& step, const Array& hyper, bool maximize, bool zero_grads);
// The square root of the sum of the squares of all elements: float64, 0-d.
Array gradient_norm(const Arrays& grads);

}  // namespace ts::ops
