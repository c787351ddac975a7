// Shapes and orders: reshape, transpose, broadcast, join, flip. Views wherever the strides allow one.
#pragma once

#include <vector>

#include "ops/check.h"

namespace ts::ops {

Array reshape(const Array& x, const Shape& shape);  // one extent may be -1
Array view(const Array& x, const Shape& shape);     // never a copy: ValueError where it would need one
Array flatten(const Array& x, std::int64_t start, std::int64_t end);
Array permute_dims(const Array& x, const Axes& axes);  // None reverses
Array swapaxes(const Array& x, std::int64_t a, std::int64_t b);
Array moveaxis(const Array& x, const Shape& source, const Shape& destination);
Array matrix_transpose(const Array& x);  // the last two axes
Array expand_dims(const Array& x, const Shape& axes);
Array squeeze(const Array& x, const Axes& axes);
Array broadcast_to(const Array& x, const Shape& shape);
Array expand(const Array& x, const Shape& shape);  // -1 keeps an extent
Array flip(const Array& x, const Axes& axes);
Array as_strided(const Array& x, const Shape& shape, const Shape& strides,
                 std::int64_t offset);  // in elements
// The same bits as another dtype of that size: a view.
Array bitcast(const Array& x, DType dtype);
Array concat(const std::vector<Array>& arrays, std::optional<std::int64_t> axis);  // None: flattened
Array stack(const std::vector<Array>& arrays, std::int64_t axis);
// Views of the sections; `sections` is a count, or the sizes.
std::vector<Array> split(const Array& x, const Shape& sizes, std::int64_t axis);
// x copied into the middle of zeros: `before` and `after` per axis.
Array pad_constant(const Array& x, const Shape& before, const Shape& after, double value);

}  // namespace ts::ops
