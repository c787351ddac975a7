// New arrays: empty, zeros, ones, full, arange, eye. Without a device they lie on the thread's own, or where
// x is.
#pragma once

#include <optional>

#include "ops/operand.h"

namespace ts::ops {

Array empty(const Shape& shape, std::optional<DType> dtype, std::optional<Device> device = {});
Array zeros(const Shape& shape, std::optional<DType> dtype, std::optional<Device> device = {});
Array ones(const Shape& shape, std::optional<DType> dtype, std::optional<Device> device = {});
Array full(const Shape& shape, const Operand& value, std::optional<DType> dtype,
           std::optional<Device> device = {});
Array empty_like(const Array& x, std::optional<DType> dtype, std::optional<Device> device = {});
Array zeros_like(const Array& x, std::optional<DType> dtype, std::optional<Device> device = {});
Array ones_like(const Array& x, std::optional<DType> dtype, std::optional<Device> device = {});
Array full_like(const Array& x, const Operand& value, std::optional<DType> dtype,
                std::optional<Device> device = {});
// start, start + step, ... below (or above) stop; one bound given is the stop.
Array arange(Scalar start, std::optional<Scalar> stop, Scalar step, std::optional<DType> dtype,
             std::optional<Device> device = {});
// `count` float64 numbers: start, start + step, ...
Array ramp(double start, double step, std::int64_t count, std::optional<Device> device = {});
Array eye(std::int64_t rows, std::optional<std::int64_t> columns, std::int64_t k, std::optional<DType> dtype,
          std::optional<Device> device = {});
// The lower (upper) triangle of the last two axes, the rest 0; k moves the diagonal.
Array tril(const Array& x, std::int64_t k);
Array triu(const Array& x, std::int64_t k);

}  // namespace ts::ops
