// Random numbers. `state` is uint64 {seed, counter, stream} (math/philox.h); every call moves its counter.
#pragma once

#include <optional>

#include "ops/operand.h"

namespace ts::ops {

Array random_bits(Array& state, const Shape& shape);  // uint32
Array random_uniform(Array& state, const Shape& shape, double low, double high, std::optional<DType> dtype);
Array random_normal(Array& state, const Shape& shape, double mean, double std, std::optional<DType> dtype);
Array random_exponential(Array& state, const Shape& shape, double scale, std::optional<DType> dtype);
// Parameters: tensors or numbers, broadcast to `shape`, or without it to their common shape.
Array random_gamma(Array& state, const Operand& k, const std::optional<Shape>& shape,
                   std::optional<DType> dtype);
Array random_poisson(Array& state, const Operand& mean, const std::optional<Shape>& shape);  // int64
Array random_binomial(Array& state, const Operand& n, const Operand& p, const std::optional<Shape>& shape);
Array random_bernoulli(Array& state, const Shape& shape, double p);  // bool
Array random_integers(Array& state, const Shape& shape, std::int64_t low,
                      std::int64_t high);  // int64, [low, high)
Array random_permutation(Array& state, std::int64_t n);
// The same into x, whose element i in row-major order is element i of the draw.
void uniform_(Array& x, Array& state, double low, double high);
void normal_(Array& x, Array& state, double mean, double std);
void exponential_(Array& x, Array& state, double lambd);
void bernoulli_(Array& x, Array& state, double p);

// ValueError or TypeError unless `state` is one.
void check_random_state(const char* operation, const Array& state);

}  // namespace ts::ops
