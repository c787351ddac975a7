// What operations check before a kernel may run. Every message starts with the operation's name.
#pragma once

#include <string>

#include "core/array.h"
#include "core/error.h"

namespace ts {

// The domains of kernels.def.
enum class Domain { numeric, floating, integral, any, number, inexact, all };

// TypeError unless the dtype belongs to the domain; `all` takes every dtype.
void check_domain(const char* operation, const char* argument, DType dtype, Domain domain);
// The same for `floating` and halves.
void check_floating(const char* operation, const char* argument, DType dtype);

// An axis in [-ndim, ndim) as one in [0, ndim); AxisError otherwise.
int normalize_axis(const char* operation, std::int64_t axis, int ndim);
// Several, distinct, ascending. No axes given (rank 0 and `all`): all of them.
struct Axes {
  bool all = true;  // None
  Shape list;
};
Shape normalize_axes(const char* operation, const Axes& axes, int ndim);

// What numbers of this dtype are computed in: halves in float32.
inline DType computed_in(DType d) { return is_half(d) ? DType::float32 : d; }

void check_rank(const char* operation, const char* argument, const Array& x, int rank);
void check_shape(const char* operation, const char* argument, const Array& x, const Shape& expected);
void check_same_dtype(const char* operation, const char* argument, const Array& x, DType expected);

// A number that was read as int64 in the words of the dtype it was given in: 2^64 - 1 is no -1. The dtype has
// 64 bits, so that what a check is asked has no padding: recordings compare its bytes.
enum class Given : std::int64_t {};
inline Given given_as(DType d) { return Given{static_cast<std::int64_t>(d)}; }
std::string as_given(std::int64_t value, Given dtype);

}  // namespace ts
