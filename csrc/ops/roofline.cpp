// The machine's limits, as operations that the bench times.
#include "ops/roofline.h"

#include "core/launch.h"
#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

// One number a piece.
Array zeros_of(const char* operation, std::int64_t pieces, DType dtype) {
  constexpr std::int64_t kMost = std::int64_t{1} << 20;
  if (pieces < 1 || pieces > kMost)
    value_error(operation, ": pieces must be in 1..", kMost, ", got ", pieces);
  Array y = empty(operation, dtype, Shape{pieces});
  copy_into(operation, Scalar::of(std::int64_t{0}), y);
  return y;
}

}  // namespace

Array fma_loop(std::int64_t pieces, DType dtype) {
  check_domain("fma_loop", "dtype", dtype, Domain::floating);
  Array y = zeros_of("fma_loop", pieces, dtype);
  launch<&Kernels::fma_loop>(y);
  return y;
}

Array bf16_loop(std::int64_t pieces) {
  const Bf16Engine engine = bf16_engine().engine;
  if (engine == Bf16Engine::float32)
    runtime_error("bf16_loop: bfloat16 is multiplied in float32 here (", bf16_engine().reason,
                  "), whose limit is fma_loop's");
  Array y = zeros_of("bf16_loop", pieces, DType::float32);
  launch<&Kernels::bf16_loop>(y, engine);
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
