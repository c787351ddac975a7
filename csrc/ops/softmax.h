// Softmax and its logarithm along one axis.
#pragma once

#include "ops/check.h"

namespace ts::ops {

Array softmax(const Array& x, std::int64_t axis);
Array softmax_backward(const Array& dy, const Array& y, std::int64_t axis);
Array log_softmax(const Array& x, std::int64_t axis);
Array log_softmax_backward(const Array& dy, const Array& y, std::int64_t axis);

}  // namespace ts::ops
