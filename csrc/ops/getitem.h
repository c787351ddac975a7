// Basic indexing: x[1, ..., None, 2:8:3] is a view. Indexing by arrays is built on take and gather, in
// ops/getitem.py.
#pragma once

#include <vector>

#include "ops/operand.h"

namespace ts::ops {

struct Index {
  enum Kind : std::uint8_t { integer, slice, new_axis, ellipsis } kind;
  std::int64_t start = 0, stop = 0, step = 1;  // of a slice: as in Python, before they are cut to the extent
};
struct Key {
  std::vector<Index> items;
};

Array getitem(const Array& x, const Key& key);
void setitem_(Array& x, const Key& key, const Operand& value);
Array setitem(const Array& x, const Key& key, const Operand& value);  // a copy of x, then setitem_
// Zeros of `shape` with dy at `key`: the gradient of getitem.
Array getitem_backward(const Array& dy, const Key& key, const Shape& shape);

}  // namespace ts::ops
