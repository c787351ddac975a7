// New arrays: empty, zeros, ones, full, arange, eye.
#pragma once

#include <optional>

#include "ops/operand.h"

namespace ts::ops {

Array empty(const Shape& shape, std::optional<DType> dtype);
Array zeros(const Shape& shape, std::optional<DType> dtype);
Array ones(const Shape& shape, std::optional<DType> dtype);
Array full(const Shape& shape, const Operand& value, std::optional<DType> dtype);
Array empty_like(const Array& x, std::optional<DType> dtype);
Array zeros_like(const Array& x, std::optional<DType> dtype);
Array ones_like(const Array& x, std::optional<DType> dtype);
Array full_like(const Array& x, const Operand& value, std::optional<DType> dtype);
// start, start + step, ... below (or above) stop; one bound given is the stop.
Array arange(Scalar start, std::optional<Scalar> stop, Scalar step, std::optional<DType> dtype);
Array eye(std::int64_t rows, std::optional<std::int64_t> columns, std::int64_t k, std::optional<DType> dtype);
// The lower (upper) triangle of the last two axes, the rest 0; k moves the diagonal.
Array tril(const Array& x, std::int64_t k);
Array triu(const Array& x, std::int64_t k);

}  // namespace ts::ops
