// Array: a strided view of a storage. Copying an Array shares the storage; no method copies elements.
#pragma once

#include <optional>

#include "core/dtype.h"
#include "core/shape.h"
#include "core/storage.h"
#include "core/view.h"

namespace ts {

class Array {
 public:
  Array() {}  // no array: an optional operand that was not given
  Array(StorageRef storage, DType dtype, Shape shape, Shape strides, std::int64_t offset = 0)
      : storage_(std::move(storage)),
        shape_(std::move(shape)),
        strides_(std::move(strides)),
        offset_(offset),
        dtype_(dtype) {}

  explicit operator bool() const { return static_cast<bool>(storage_); }

  DType dtype() const { return dtype_; }
  Device device() const { return storage_->device(); }
  int ndim() const { return shape_.rank(); }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }  // in elements
  std::int64_t shape(int axis) const { return shape_[axis]; }
  std::int64_t stride(int axis) const { return strides_[axis]; }
  std::int64_t offset() const { return offset_; }  // in elements
  std::int64_t size() const { return size_of(shape_); }
  std::int64_t nbytes() const { return size() * itemsize(dtype_); }
  Storage* storage() const { return storage_.get(); }
  const StorageRef& storage_ref() const { return storage_; }
  void* data() const { return static_cast<char*>(storage_->data()) + offset_ * itemsize(dtype_); }
  template <class T>
  T* data_as() const {
    return static_cast<T*>(data());
  }
  bool read_only() const { return storage_->read_only(); }

  // Row-major without gaps.
  bool is_contiguous() const;
  // Without gaps or overlaps in some order of the axes.
  bool is_dense() const;
  // Two positions may share an element: a stride of 0 on an extent > 1, or strides that interleave.
  bool self_overlaps() const;

  // The same storage seen otherwise.
  Array as_strided(Shape shape, Shape strides, std::int64_t offset) const {
    return Array(storage_, dtype_, std::move(shape), std::move(strides), offset);
  }
  Array permute(const Shape& axes) const;  // axes is a permutation, already normalised
  Array transpose(int a, int b) const;
  Array broadcast_to(const char* operation, const Shape& shape) const;  // ValueError when it does not
  Array slice(int axis, std::int64_t start, std::int64_t length, std::int64_t step = 1) const;
  Array select(int axis, std::int64_t index) const;  // drops the axis
  Array expand_dims(int axis) const;
  Array squeeze(int axis) const;  // the extent is 1
  // A view with this shape, or nothing where the strides do not allow one. Sizes agree.
  std::optional<Array> view_as(const Shape& shape) const;
  Array view_dtype(DType dtype) const {  // of the same item size
    return Array(storage_, dtype, shape_, strides_, offset_);
  }

  // What kernels take. As an output: ValueError if the storage is read-only; bumps its version.
  operator In() const;
  operator Out();

 private:
  StorageRef storage_;
  Shape shape_, strides_;
  std::int64_t offset_ = 0;
  DType dtype_ = DType::float32;
};

// Fresh arrays, contents undefined. `operation` names the caller in a MemoryError.
Array empty(const char* operation, DType dtype, const Shape& shape);
// With the memory order of `like` (its axes sorted by stride), so that pointwise results keep a layout.
Array empty_like(const char* operation, const Array& like, DType dtype);
// Dense, with the axes in the given order from slowest to fastest.
Array empty_ordered(const char* operation, DType dtype, const Shape& shape, const Shape& order);
// The axes of a dense order closest to the strides, slowest first.
Shape memory_order(const Shape& shape, const Shape& strides);

// Whether any element of `a` lies in memory that `b` covers; conservative (compares byte ranges of one
// storage).
bool may_overlap(const Array& a, const Array& b);
// Exactly the same elements in the same order.
bool same_elements(const Array& a, const Array& b);

}  // namespace ts
