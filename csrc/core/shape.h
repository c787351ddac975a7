// Shape: a short list of int64, the first few inline; and size arithmetic that cannot wrap.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <ostream>

namespace ts {

constexpr int kMaxRank = 64;

// Used for shapes, strides and lists of axes alike.
class Shape {
 public:
  Shape() {}  // not defaulted: value-initialisation would clear the inline values
  explicit Shape(int rank, std::int64_t fill = 0) {
    resize(rank);
    for (int i = 0; i < rank; ++i) data()[i] = fill;
  }
  Shape(std::initializer_list<std::int64_t> values)
      : Shape(values.begin(), static_cast<int>(values.size())) {}
  Shape(const std::int64_t* values, int rank) {
    resize(rank);
    if (rank) std::memcpy(data(), values, sizeof(std::int64_t) * static_cast<std::size_t>(rank));
  }
  Shape(const Shape& other) : Shape(other.data(), other.rank_) {}
  Shape(Shape&& other) noexcept : rank_(other.rank_) {
    if (rank_ > kInline) {
      heap_ = other.heap_;
      other.rank_ = 0;
    } else {
      std::memcpy(inline_, other.inline_, sizeof(inline_));
    }
  }
  Shape& operator=(const Shape& other) {
    if (this != &other) {
      resize(other.rank_);
      if (rank_) std::memcpy(data(), other.data(), sizeof(std::int64_t) * static_cast<std::size_t>(rank_));
    }
    return *this;
  }
  Shape& operator=(Shape&& other) noexcept {
    if (this != &other) {
      if (rank_ > kInline) delete[] heap_;
      rank_ = other.rank_;
      if (rank_ > kInline) {
        heap_ = other.heap_;
        other.rank_ = 0;
      } else {
        std::memcpy(inline_, other.inline_, sizeof(inline_));
      }
    }
    return *this;
  }
  ~Shape() {
    if (rank_ > kInline) delete[] heap_;
  }

  int rank() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  std::int64_t* data() { return rank_ > kInline ? heap_ : inline_; }
  const std::int64_t* data() const { return rank_ > kInline ? heap_ : inline_; }
  std::int64_t& operator[](int i) { return data()[i]; }
  std::int64_t operator[](int i) const { return data()[i]; }
  const std::int64_t* begin() const { return data(); }
  const std::int64_t* end() const { return data() + rank_; }
  std::int64_t back() const { return data()[rank_ - 1]; }

  // Keeps the first min(old, new) values; the rest are undefined.
  void resize(int rank);
  void push_back(std::int64_t value) {
    resize(rank_ + 1);
    data()[rank_ - 1] = value;
  }
  void insert(int position, std::int64_t value);
  void erase(int position);

  friend bool operator==(const Shape& a, const Shape& b) {
    return a.rank_ == b.rank_ &&
           std::memcmp(a.data(), b.data(), sizeof(std::int64_t) * static_cast<std::size_t>(a.rank_)) == 0;
  }
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

 private:
  static constexpr int kInline = 6;
  std::int32_t rank_ = 0;
  union {
    std::int64_t inline_[kInline];
    std::int64_t* heap_;
  };
};

// As Python writes it: (), (3,), (2, 3).
std::ostream& operator<<(std::ostream& out, const Shape& shape);

// The product of the extents, which must not be negative; MemoryError naming `operation` where it, times
// `itemsize`, does not fit 2^63.
std::int64_t checked_size(const char* operation, const Shape& shape, std::int64_t itemsize);
// The same of a shape that an array already has.
std::int64_t size_of(const Shape& shape);

// Strides in elements of the dense row-major layout.
Shape row_major_strides(const Shape& shape);

// The shape that both broadcast to; ValueError naming `operation` and both shapes.
Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b);

}  // namespace ts
