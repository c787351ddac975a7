// x[1, ..., None, 2:8:3] is a view; a key that holds arrays of integers or a mask gathers, and writes what it
// gathered from.
#pragma once

#include <vector>

#include "ops/operand.h"

namespace ts::ops {

struct Index {
  enum Kind : std::uint8_t { integer, slice, new_axis, ellipsis, array } kind;
  std::int64_t start = 0, stop = 0, step = 1;  // of a slice: as in Python, before they are cut to the extent
};

// The items in their order, the first few inline; the arrays are those of the `array` items, integers or
// bool.
class Key {
 public:
  void push_back(Index item) {
    if (count_ == kInline) more_.assign(inline_, inline_ + kInline);
    if (count_ < kInline)
      inline_[count_] = item;
    else
      more_.push_back(item);
    ++count_;
  }
  void push_back(Array index) {
    push_back({Index::array});
    arrays.push_back(std::move(index));
  }
  const Index* begin() const { return count_ <= kInline ? inline_ : more_.data(); }
  const Index* end() const { return begin() + count_; }

  std::vector<Array> arrays;

 private:
  static constexpr int kInline = 4;
  int count_ = 0;
  Index inline_[kInline];
  std::vector<Index> more_;
};

Array getitem(const Array& x, const Key& key);
// The view that a key without arrays names; errors say `operation`.
Array basic_view(const char* operation, const Array& x, const Key& key);
// Writes the value to `target`, a basic view of x, where it broadcasts.
void assign(const Array& x, Array& target, const Operand& value);
void setitem_(Array& x, const Key& key, const Operand& value);        // of equal places the last value stays
Array setitem(const Array& x, const Key& key, const Operand& value);  // a copy of x, then setitem_
// Zeros of `shape` with dy added at `key`: the gradient of getitem.
Array getitem_backward(const Array& dy, const Key& key, const Shape& shape);

// The same where the key holds arrays.
Array getitem_arrays(const Array& x, const Key& key);
void setitem_arrays(Array& x, const Key& key, const Operand& value);
void additem_arrays(Array& x, const Key& key, const Array& value);

}  // namespace ts::ops
