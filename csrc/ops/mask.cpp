// One mask of an array's shape, both dense: kernels move what it chooses, without positions.
#include "ops/mask.h"

#include <optional>

#include "core/launch.h"

namespace ts::ops {
namespace {

// How many elements one mask, alone, of x's shape chooses of a contiguous x; nothing where the key is another
// or the memory lies otherwise.
std::optional<std::int64_t> count_masked(const Array& x, const Key& key) {
  if (key.arrays.size() != 1 || key.end() - key.begin() != 1) return std::nullopt;
  const Array& mask = key.arrays[0];
  if (!is_mask(mask) || mask.ndim() == 0 || mask.shape() != x.shape() || !mask.is_contiguous() ||
      !x.is_contiguous() || x.device() != Device::cpu || mask.device() != Device::cpu)
    return std::nullopt;
  std::int64_t count = 0;
  const std::int64_t one = 1;
  launch<&Kernels::nonzero>(mask, Out{}, Out{{&count, &one, &one, nullptr, 1, DType::int64}});
  return count;
}

}  // namespace

Array take_masked(const Array& x, const Key& key) {
  const auto count = count_masked(x, key);
  if (!count) return {};
  Array y = empty("getitem", x.dtype(), {*count});
  if (*count) launch<&Kernels::take_masked>(x, key.arrays[0], y);
  return y;
}

bool put_masked(Array& x, const Key& key, const Operand& value) {
  if (!value.is_array() || key.arrays.size() != 1) return false;
  const Array& v = value.array();
  if (v.ndim() != 1 || v.dtype() != x.dtype() || v.device() != x.device() || !v.is_contiguous() ||
      may_overlap(v, x) || may_overlap(key.arrays[0], x))
    return false;
  const auto count = count_masked(x, key);
  if (!count || *count != v.size()) return false;
  if (*count) launch<&Kernels::put_masked>(key.arrays[0], v, x);
  return true;
}

}  // namespace ts::ops
