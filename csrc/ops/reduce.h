// Reductions along any axes, and cumulative sums. No axes (None): all of them.
#pragma once

#include <optional>
#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// bool and integers are added and multiplied in int64 unless a dtype is named. Of nothing: 0, 1.
Array sum(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims);
Array prod(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims);
// bool and integers become the default float. Of nothing: NaN.
Array mean(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims);
Array var(const Array& x, const Axes& axis, double correction, bool keepdims);
// ValueError where nothing is left to choose from.
Array max(const Array& x, const Axes& axis, bool keepdims);
Array min(const Array& x, const Axes& axis, bool keepdims);
Array any(const Array& x, const Axes& axis, bool keepdims);
Array all(const Array& x, const Axes& axis, bool keepdims);
// Whether |a - b| <= atol + rtol |b|, or a == b, for all elements of floating arrays of one shape; bool ().
Array all_close(const Array& a, const Array& b, double rtol, double atol, bool equal_nan);
Array logsumexp(const Array& x, const Axes& axis, bool keepdims);
// One axis, or the flattened array.
Array argmax(const Array& x, std::optional<std::int64_t> axis, bool keepdims);
Array argmin(const Array& x, std::optional<std::int64_t> axis, bool keepdims);
Array vector_norm(const Array& x, const Axes& axis, double order, bool keepdims);  // order 1, 2, inf, -inf
// Along one axis, or the flattened array.
Array cumsum(const Array& x, std::optional<std::int64_t> axis, std::optional<DType> dtype);
Array cumprod(const Array& x, std::optional<std::int64_t> axis, std::optional<DType> dtype);
// The extreme so far, and where it was last seen.
std::tuple<Array, Array> cummax(const Array& x, std::int64_t axis);
std::tuple<Array, Array> cummin(const Array& x, std::int64_t axis);
// log(e^x_0 + ... + e^x_c), and for its gradient the sum over j >= c of dy_j e^(y_c - y_j).
Array logcumsumexp(const Array& x, std::int64_t axis);
Array logcumsumexp_backward(const Array& gradient, const Array& result, std::int64_t axis);

// A view of dy, the gradient of a reduction of an array of this shape, that broadcasts over that array.
Array expand_reduced(const Array& dy, const Shape& shape, const Axes& axis, bool keepdims);

}  // namespace ts::ops
