// An operand of a pointwise operation: an array, or a Python scalar whose type gives way to the arrays'.
#pragma once

#include "core/array.h"

namespace ts {

// A number without a dtype: it takes the dtype of the arrays that it meets (NEP 50).
struct Scalar {
  Kind kind = Kind::signed_integer;  // boolean, signed_integer (or unsigned for one above 2^63) or floating
  double real = 0;
  std::int64_t integer = 0;

  static Scalar of(bool x) { return {Kind::boolean, double(x), x}; }
  static Scalar of(std::int64_t x) { return {Kind::signed_integer, double(x), x}; }
  static Scalar of(double x) { return {Kind::floating, x, 0}; }
};

class Operand {
 public:
  Operand(const Array& array) : array_(&array) {}
  Operand(Scalar scalar) : scalar_(scalar) {}
  bool is_array() const { return array_ != nullptr; }
  const Array& array() const { return *array_; }
  const Scalar& scalar() const { return scalar_; }

 private:
  const Array* array_ = nullptr;
  Scalar scalar_;
};

// The dtype that floats take when nothing says otherwise: float32, or what set_default_dtype was given.
DType default_float();
void set_default_float(DType dtype);

// The common dtype of the operands: arrays promote among themselves, then scalars of a higher kind lift the
// result to the default float or int64.
DType result_type(const Operand* operands, int count);

// Writes the scalar as one element of `dtype`; OverflowError naming `operation` if an integer does not fit.
void write_scalar(const char* operation, const Scalar& scalar, DType dtype, void* element);

}  // namespace ts
