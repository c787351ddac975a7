#include "ops/complex.h"

#include "core/launch.h"
#include "ops/check.h"
#include "ops/creation.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

Array part(const Array& x, std::int64_t which) {
  Shape strides = x.strides();
  for (int i = 0; i < strides.rank(); ++i) strides[i] *= 2;
  return Array(x.storage_ref(), real_of(x.dtype()), x.shape(), strides, 2 * x.offset() + which);
}

}  // namespace

Array real(const Array& x) { return is_complex(x.dtype()) ? part(x, 0) : x; }

Array imag(const Array& x) {
  if (is_complex(x.dtype())) return part(x, 1);
  Array y = zeros(x.shape(), x.dtype());
  y.storage()->set_read_only();  // what is written here would be lost
  return y;
}

Array as_pairs(const Array& x) {
  Shape shape = x.shape(), strides = x.strides();
  for (int i = 0; i < strides.rank(); ++i) strides[i] *= 2;
  shape.push_back(2);
  strides.push_back(1);
  return Array(x.storage_ref(), real_of(x.dtype()), shape, strides, 2 * x.offset());
}

Array conj(const Array& x) {
  if (!is_complex(x.dtype())) return x;
  Array y = copy(x);
  Array imaginary = imag(y);
  launch<&Kernels::negative>(imaginary, imaginary);
  return y;
}

Array from_parts(const Array& a, const Array& b) {
  const DType part = promote(a.dtype(), b.dtype());
  check_domain("complex", "the parts", part, Domain::floating);
  Array y = empty("complex", complex_of(part), broadcast_shapes("complex", a.shape(), b.shape()));
  Array re = real(y), im = imag(y);
  copy_into("complex", a, re);
  copy_into("complex", b, im);
  return y;
}

}  // namespace ts::ops
