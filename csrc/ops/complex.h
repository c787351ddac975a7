// Complex arrays as the pairs of real numbers that they are in memory: views, and what is made of them.
#pragma once

#include "core/array.h"

namespace ts::ops {

// Views of a complex array's parts; of a real array, itself and zeros.
Array real(const Array& x);
Array imag(const Array& x);
// A complex array as reals with a last axis (real part, imaginary part): a view.
Array as_pairs(const Array& x);
// x with every imaginary part negated: a copy; a real array is returned as it is.
Array conj(const Array& x);
// a + b i of two real arrays that broadcast.
Array from_parts(const Array& a, const Array& b);

}  // namespace ts::ops
