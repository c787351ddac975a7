// Matrix products with NumPy's shapes, and the affine map of a layer.
#pragma once

#include <optional>

#include "ops/check.h"

namespace ts::ops {

// a (..., M, K) and b (..., K, N) with broadcast leading axes; a 1-D operand is a row on the left, a column
// on the right, and its axis is dropped from the result. Dtypes promote. Products of floating vectors on the
// CPU are sums by the tree of reduce.h, others by the order of the matrix product (docs/adr/0005-*).
Array matmul(const Array& a, const Array& b);
// The same, written into `out`; false where that takes a temporary, and nothing was done.
bool try_matmul_into(const Array& a, const Array& b, Array& out);

// The sum of a b over their last `axes` axes, where both broadcast first. Dtypes promote.
Array vecdot(const Array& a, const Array& b, std::int64_t axes);

// x weight' + bias: x (..., I), weight (O, I), bias (O) or none -> (..., O).
Array linear(const Array& x, const Array& weight, const Array& bias);
Array linear_relu(const Array& x, const Array& weight, const Array& bias);

// The products that linear's gradients are made of: gradient (..., O)' x (..., I) -> (O, I), the leading axes
// of both summed over.
Array linear_weight_backward(const Array& gradient, const Array& x);

// The same as products of bfloat16, float32 operands rounded to it: sums in float32, the result bfloat16, or
// what `dtype` says (bfloat16 or float32). The bias is added before the sum is rounded.
Array matmul_bf16(const Array& a, const Array& b, std::optional<DType> dtype);
Array linear_bf16(const Array& x, const Array& weight, const Array& bias);
// linear_bf16 that is not rounded: the result is float32.
Array linear_bf16_wide(const Array& x, const Array& weight, const Array& bias);
Array linear_relu_bf16(const Array& x, const Array& weight, const Array& bias);
Array linear_weight_backward_bf16(const Array& gradient, const Array& x, std::optional<DType> dtype);

}  // namespace ts::ops
