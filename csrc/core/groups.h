// What finding groups and epilogues share: the operands of their steps on one set of axes.
#pragma once

#include <vector>

#include "core/array.h"
#include "core/fuse.h"
#include "core/recording.h"

namespace ts {

constexpr std::int64_t kLeastFused = 8192;  // elements: smaller arrays are in cache anyway

// The views of a group, seen with one set of axes.
class GroupAxes {
 public:
  // All operands have the shape of the first view that is written, axes in the order of its strides.
  bool begin(const View& y) {
    if (y.ndim > kFusedAxes || y.size() < kLeastFused) return false;
    const Shape order = memory_order(Shape(y.shape, y.ndim), Shape(y.strides, y.ndim));
    shape_.assign(y.shape, y.shape + y.ndim);
    order_.assign(order.begin(), order.end());
    std::int64_t expected = 1;  // dense
    for (int i = y.ndim - 1; i >= 0; --i) {
      const auto axis = static_cast<std::size_t>(order_[static_cast<std::size_t>(i)]);
      if (shape_[axis] != 1 && y.strides[axis] != expected) return false;
      expected *= shape_[axis];
    }
    return true;
  }
  bool fits(const View& v, bool written) const {
    if (v.ndim != static_cast<int>(shape_.size()) || !std::equal(shape_.begin(), shape_.end(), v.shape))
      return false;
    // Along the fastest axis in order or standing still; what is written as dense as the first.
    std::int64_t expected = 1;
    bool inner = true;
    for (std::size_t i = shape_.size(); i-- > 0;) {
      const auto axis = static_cast<std::size_t>(order_[i]);
      if (shape_[axis] == 1) continue;
      if (written && v.strides[axis] != expected) return false;
      if (inner && v.strides[axis] != 1 && v.strides[axis] != 0) return false;
      if (v.strides[axis] < 0) return false;
      inner = false;
      expected *= shape_[axis];
    }
    return true;
  }
  std::vector<std::int64_t> shape() const {
    std::vector<std::int64_t> s;
    for (std::int64_t axis : order_) s.push_back(shape_[static_cast<std::size_t>(axis)]);
    return s;
  }
  std::vector<std::int64_t> strides(const View& v) const {
    std::vector<std::int64_t> s;
    for (std::int64_t axis : order_) s.push_back(v.strides[axis]);
    return s;
  }

 private:
  std::vector<std::int64_t> shape_, order_;
};

// Joins neighbouring axes where all operands allow it, but not the last ones that have `row` elements
// together with those before them.
void join(std::vector<std::int64_t>& shape, std::vector<FusedCall>& calls, std::int64_t row);

// Turns the numbers of buffers into places, for `count` slots of so many elements; false where they take more
// than `room` bytes.
bool place_buffers(Group& group, int count, std::int64_t elements, std::size_t room);

bool same_view(const View& a, const Use& ua, const View& b, const Use& ub);

// Where in the list x stands, at its end if it was not there.
int numbered(std::vector<int>& list, int x);

// What fusion has made of a recording's steps.
struct Fused {
  std::vector<Step> steps;          // those before
  std::vector<std::size_t> begins;  // of each step now: the first of those
  std::vector<bool> pointwise;      // and whether it is a group without a reduction, or might be one alone
  std::vector<int> slots;           // of each view, before groups hid some
};

}  // namespace ts
