// The machine's limits, as operations that the bench times.
#include "ops/roofline.h"

#include "core/launch.h"
#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

Array fma_loop(std::int64_t pieces, DType dtype) {
  constexpr std::int64_t kMost = std::int64_t{1} << 20;
  if (pieces < 1 || pieces > kMost) value_error("fma_loop: pieces must be in 1..", kMost, ", got ", pieces);
  check_domain("fma_loop", "dtype", dtype, Domain::floating);
  Array y = empty("fma_loop", dtype, Shape{pieces});
  copy_into("fma_loop", Scalar::of(std::int64_t{0}), y);
  launch<&Kernels::fma_loop>(y);
  return y;
}

void copy_loop(Array& target, const Array& x, bool streaming) {
  if (!target.is_contiguous() || !x.is_contiguous())
    value_error("copy_loop: target and x must be contiguous");
  if (target.nbytes() != x.nbytes())
    value_error("copy_loop: target has ", target.nbytes(), " bytes, x ", x.nbytes());
  if (may_overlap(target, x)) value_error("copy_loop: target and x overlap");
  launch<&Kernels::copy_loop>(x, target, streaming);
}

}  // namespace ts::ops
