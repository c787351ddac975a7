// The planning of map.h: axes sorted, joined and cut into launches.
#include "cuda/map.h"

namespace ts::cuda {
namespace {

constexpr int kMaxDims = 64;
constexpr std::int64_t kMost = std::int64_t{1} << 31;  // elements of a strided launch: 32-bit divisions

struct Plan {
  int operands, ndim;
  std::int64_t size[kMaxDims];
  std::int64_t stride[1 + kMaxInputs][kMaxDims];  // elements
  char* data[1 + kMaxInputs];
  std::int64_t item[1 + kMaxInputs];
  bool constant[1 + kMaxInputs];
  Value value[1 + kMaxInputs];
};

// False if there is nothing to do.
bool make_plan(Plan& plan, const View& y, const View* const* x) {
  const View* views[1 + kMaxInputs] = {&y};
  for (int k = 1; k < plan.operands; ++k) views[k] = x[k - 1];
  for (int k = 0; k < plan.operands; ++k) {
    plan.data[k] = static_cast<char*>(views[k]->data);
    plan.item[k] = itemsize(views[k]->dtype);
    plan.constant[k] = on_host(*views[k]);
    plan.value[k] = {};
    if (plan.constant[k]) std::memcpy(&plan.value[k], views[k]->data, static_cast<std::size_t>(plan.item[k]));
  }
  plan.ndim = 0;
  for (int axis = y.ndim - 1; axis >= 0; --axis) {
    const std::int64_t size = y.shape[axis];
    if (size == 0) return false;
    if (size == 1) continue;
    const bool flip = y.strides[axis] < 0;
    const std::int64_t key = flip ? -y.strides[axis] : y.strides[axis];
    int at = plan.ndim++;
    for (; at > 0 && plan.stride[0][at - 1] > key; --at) {
      plan.size[at] = plan.size[at - 1];
      for (int k = 0; k < plan.operands; ++k) plan.stride[k][at] = plan.stride[k][at - 1];
    }
    plan.size[at] = size;
    for (int k = 0; k < plan.operands; ++k) {
      const std::int64_t stride = plan.constant[k] ? 0 : views[k]->strides[axis];
      if (flip) plan.data[k] += stride * (size - 1) * plan.item[k];
      plan.stride[k][at] = flip ? -stride : stride;
    }
  }
  int last = 0;
  for (int axis = 1; axis < plan.ndim; ++axis) {
    bool joins = true;
    for (int k = 0; k < plan.operands; ++k)
      joins &= plan.stride[k][axis] == plan.size[last] * plan.stride[k][last];
    if (joins) {
      plan.size[last] *= plan.size[axis];
      continue;
    }
    ++last;
    plan.size[last] = plan.size[axis];
    for (int k = 0; k < plan.operands; ++k) plan.stride[k][last] = plan.stride[k][axis];
  }
  if (plan.ndim > 0) {
    plan.ndim = last + 1;
  } else {
    plan.ndim = 1;
    plan.size[0] = 1;
    for (int k = 0; k < plan.operands; ++k) plan.stride[k][0] = 0;
    plan.stride[0][0] = 1;
  }
  return true;
}

void run(LaunchPlaces go, int items, Plan& plan) {
  std::int64_t count = 1;
  for (int d = 0; d < plan.ndim; ++d) count *= plan.size[d];
  const bool flat = plan.ndim == 1;
  // A pack is within a row of the innermost axis, and every row begins where a pack may.
  bool packed = flat || plan.size[0] % items == 0;
  for (int k = 0; k < plan.operands; ++k) {
    if (plan.constant[k]) continue;
    packed &= plan.stride[k][0] == 1 || (k > 0 && plan.stride[k][0] == 0);
    if (plan.stride[k][0] == 0) continue;
    const std::int64_t pack = plan.item[k] * items < 16 ? plan.item[k] * items : 16;
    packed &= reinterpret_cast<std::uintptr_t>(plan.data[k]) % static_cast<std::uintptr_t>(pack) == 0;
    for (int d = 1; d < plan.ndim; ++d) packed &= plan.stride[k][d] * plan.item[k] % pack == 0;
  }
  if (!flat && (count >= kMost || plan.ndim > kMapDims)) {  // halve the outermost axis, or step along it
    const int outer = plan.ndim - 1;
    const std::int64_t size = plan.size[outer];
    char* data[1 + kMaxInputs];
    for (int k = 0; k < plan.operands; ++k) data[k] = plan.data[k];
    const std::int64_t step = plan.ndim > kMapDims ? 1 : size / 2;
    for (std::int64_t i = 0; i < size; i += step) {
      const std::int64_t length = i + step < size ? step : size - i;
      for (int k = 0; k < plan.operands; ++k)
        plan.data[k] = data[k] + i * plan.stride[k][outer] * plan.item[k];
      plan.size[outer] = length;
      if (length == 1 && plan.ndim > 1) plan.ndim = outer;
      run(go, items, plan);
      plan.ndim = outer + 1;
    }
    plan.size[outer] = size;
    for (int k = 0; k < plan.operands; ++k) plan.data[k] = data[k];
    return;
  }
  Places p;
  p.count = count;
  p.ndim = plan.ndim;
  p.packed = packed;
  for (int d = 0; d < plan.ndim; ++d) p.size[d] = Divider(flat ? 1 : plan.size[d]);
  for (int k = 0; k < plan.operands; ++k) {
    p.data[k] = plan.data[k];
    p.constant[k] = plan.constant[k];
    p.value[k] = plan.value[k];
    for (int d = 0; d < plan.ndim; ++d) p.stride[k][d] = plan.stride[k][d];
  }
  go(p);
}

}  // namespace

bool plan_transposition(const View& y, const View& x, Transposition& t) {
  constexpr std::int64_t kNarrow = 16;
  const View* const in[] = {&x};
  Plan plan;
  plan.operands = 2;
  if (on_host(x) || !make_plan(plan, y, in) || plan.ndim < 2 || plan.ndim > kMapDims) return false;
  int across = 0;  // x's contiguous axis
  for (int d = 1; d < plan.ndim; ++d)
    if (plan.stride[1][d] == 1) across = d;
  if (across == 0 || plan.stride[0][0] != 1) return false;
  t = {plan.data[1],
       plan.data[0],
       plan.size[0],
       plan.size[across],
       plan.stride[1][0],
       plan.stride[0][across],
       {},
       {},
       {},
       1,
       0,
       false,
       false};
  if (t.rows < kNarrow || t.columns < kNarrow) return false;
  const std::int64_t item = plan.item[0];
  t.x_aligned = reinterpret_cast<std::uintptr_t>(t.x) % 16 == 0 && t.x_row * item % 16 == 0;
  t.y_aligned = reinterpret_cast<std::uintptr_t>(t.y) % 16 == 0 && t.y_column * item % 16 == 0;
  for (int d = 1; d < plan.ndim; ++d) {
    if (d == across) continue;
    t.size[t.ndim] = plan.size[d], t.x_stride[t.ndim] = plan.stride[1][d];
    t.y_stride[t.ndim++] = plan.stride[0][d];
    t.batches *= plan.size[d];
    t.x_aligned &= plan.stride[1][d] * item % 16 == 0;
    t.y_aligned &= plan.stride[0][d] * item % 16 == 0;
  }
  return true;
}

void map_places(LaunchPlaces go, int items, const View& y, const View* const* x, int inputs) {
  Plan plan;
  plan.operands = 1 + inputs;
  if (make_plan(plan, y, x)) run(go, items, plan);
}

}  // namespace ts::cuda
