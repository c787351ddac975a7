// Optimizer steps: every parameter of a group in one call.
//
// params are written in place; grads[i] may be absent (that parameter and its state are left alone) and has
// params[i]'s shape and dtype. State arrays are flat, of the parameters' dtype and total size; `step` counts
// each parameter's steps (float64, one a parameter) and `hyper` holds the numbers that may change between
// steps (float64; the slots are listed in cpu/optim.cpp). Nothing is returned.
#pragma once

#include <vector>

#include "core/array.h"

namespace ts::ops {

using Arrays = std::vector<Array>;

Arrays sgd(const Arrays& params, const Arrays& grads, const Array& momentum, const Array& step,
           const Array& hyper, bool nesterov, bool maximize);
Arrays adam(const Arrays& params, const Arrays& grads, const Array& m, const Array& v, const Array& v_max,
            const Array& step, const Array& hyper, bool decoupled, bool amsgrad, bool maximize);
Arrays rmsprop(const Arrays& params, const Arrays& grads, const Array& square, const Array& momentum,
               const Array& mean, const Array& step, const Array& hyper, bool centered, bool maximize);
Arrays adagrad(const Arrays& params, const Arrays& grads, const Array& square, const Array& step,
               const Array& hyper, bool maximize);
Arrays adadelta(const Arrays& params, const Arrays& grads, const Array& square, const Array& delta,
                const Array& step, const Array& hyper, bool maximize);
Arrays lion(const Arrays& params, const Arrays& grads, const Array& m, const Array& step, const Array& hyper,
            bool maximize);
// The square root of the sum of the squares of all elements: float64, 0-d.
Array gradient_norm(const Arrays& grads);

}  // namespace ts::ops
