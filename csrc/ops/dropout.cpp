#include "ops/dropout.h"

#include "core/launch.h"
#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/random.h"

namespace ts::ops {

namespace {
void check_probability(const char* op, double p) {
  if (!(p >= 0 && p <= 1)) value_error(op, ": p must be in [0, 1], got ", p);
}
}  // namespace

std::tuple<Array, Array> dropout(Array& state, const Array& x, double p) {
  check_floating("dropout", "x", x.dtype());
  check_probability("dropout", p);
  check_random_state("dropout", state);
  const Array dense = contiguous(x);
  Array y = empty("dropout", x.dtype(), x.shape());
  Array mask = empty("dropout", DType::uint8, {(x.size() + 7) / 8});
  launch<&Kernels::dropout>(dense, state, y, mask, p);
  return {std::move(y), std::move(mask)};
}

Array dropout_backward(const Array& dy, const Array& mask, double p) {
  check_floating("dropout_backward", "dy", dy.dtype());
  check_probability("dropout_backward", p);
  check_same_dtype("dropout_backward", "mask", mask, DType::uint8);
  check_shape("dropout_backward", "mask", mask, {(dy.size() + 7) / 8});
  Array dx = empty("dropout_backward", dy.dtype(), dy.shape());
  launch<&Kernels::dropout_backward>(contiguous(dy), contiguous(mask), dx, p);
  return dx;
}

}  // namespace ts::ops
