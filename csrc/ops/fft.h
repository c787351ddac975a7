// Discrete Fourier transforms along one axis.
#pragma once

#include "ops/check.h"

namespace ts::ops {

// Complex, of any length: scale * sum_j x_j e^(-+ 2 pi i j k / N), the sign + for the inverse. x is complex.
Array fft(const Array& x, std::int64_t axis, bool inverse, double scale);
// Real x: the first N/2 + 1 of its transform.
Array rfft(const Array& x, std::int64_t axis, double scale);
// From those, the n real numbers; x has n/2 + 1 along the axis.
Array irfft(const Array& x, std::int64_t n, std::int64_t axis, double scale);

}  // namespace ts::ops
