#include "core/shape.h"

#include "core/error.h"

namespace ts {

void Shape::resize(int rank) {
  if (rank > kMaxRank) value_error("an array has at most ", kMaxRank, " dimensions, asked for ", rank);
  if (rank <= kInline && rank_ <= kInline) {
    rank_ = rank;
    return;
  }
  std::int64_t values[kMaxRank];
  const int kept = rank_ < rank ? rank_ : rank;
  std::memcpy(values, data(), sizeof(std::int64_t) * static_cast<std::size_t>(kept));
  if (rank_ > kInline) delete[] heap_;
  rank_ = 0;
  if (rank > kInline) heap_ = new std::int64_t[kMaxRank];
  rank_ = rank;
  std::memcpy(data(), values, sizeof(std::int64_t) * static_cast<std::size_t>(kept));
}

void Shape::insert(int position, std::int64_t value) {
  resize(rank_ + 1);
  std::int64_t* p = data();
  for (int i = rank_ - 1; i > position; --i) p[i] = p[i - 1];
  p[position] = value;
}

void Shape::erase(int position) {
  std::int64_t* p = data();
  for (int i = position; i + 1 < rank_; ++i) p[i] = p[i + 1];
  resize(rank_ - 1);
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (int i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << (shape.rank() == 1 ? ",)" : ")");
}

std::int64_t checked_size(const char* operation, const Shape& shape, std::int64_t itemsize) {
  std::int64_t size = 1;
  bool overflow = false, empty = false;
  double exact = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] < 0)
      value_error(operation, ": dimension ", i, " of shape ", shape, " is ", shape[i],
                  "; extents must be >= 0");
    empty |= shape[i] == 0;
    exact *= static_cast<double>(shape[i]);
    overflow |= __builtin_mul_overflow(size, shape[i], &size);
  }
  if (empty) return 0;
  std::int64_t bytes;
  if (overflow || __builtin_mul_overflow(size, itemsize, &bytes))
    memory_error(operation, ": shape ", shape, " has ", exact, " elements of ", itemsize,
                 " bytes; an array holds less than 2^63 bytes");
  return size;
}

std::int64_t size_of(const Shape& shape) {
  std::int64_t size = 1;
  for (std::int64_t extent : shape) size *= extent;
  return size;
}

Shape row_major_strides(const Shape& shape) {
  Shape strides(shape.rank());
  std::int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape[i] > 1 ? shape[i] : 1;
  }
  return strides;
}

Shape broadcast_shapes(const char* operation, const Shape& a, const Shape& b) {
  const int rank = a.rank() > b.rank() ? a.rank() : b.rank();
  Shape result(rank);
  for (int i = 1; i <= rank; ++i) {
    const std::int64_t m = i <= a.rank() ? a[a.rank() - i] : 1;
    const std::int64_t n = i <= b.rank() ? b[b.rank() - i] : 1;
    if (m != n && m != 1 && n != 1)
      value_error(operation, ": shapes ", a, " and ", b, " do not broadcast: ", m, " and ", n,
                  " differ and neither is 1 (axis -", i, ")");
    result[rank - i] = m == 1 ? n : m;
  }
  return result;
}

}  // namespace ts
