// An operand of a pointwise operation: an array, or a Python scalar whose type gives way to the arrays'.
#pragma once

#include "core/array.h"

namespace ts {

// A number without a dtype: it takes the dtype of the arrays that it meets (NEP 50).
struct Scalar {
  Kind kind = Kind::signed_integer;  // unsigned_integer only from 2^63 on, with its bits in `integer`
  double real = 0;
  std::int64_t integer = 0;
  double imaginary = 0;

  static Scalar of(bool x) { return {Kind::boolean, double(x), x}; }
  static Scalar of(std::int64_t x) { return {Kind::signed_integer, double(x), x}; }
  static Scalar of(std::uint64_t x) {
    if (x >> 63 == 0) return of(static_cast<std::int64_t>(x));
    return {Kind::unsigned_integer, double(x), static_cast<std::int64_t>(x)};
  }
  static Scalar of(double x) { return {Kind::floating, x, 0}; }
  static Scalar of(double re, double im) { return {Kind::complex_floating, re, 0, im}; }
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

// Whether an integer scalar is a value of an integer dtype.
bool scalar_fits(const Scalar& scalar, DType dtype);

// Writes the scalar as one element of `dtype`; TypeError for a complex one in a real dtype, OverflowError
// naming `operation` if an integer does not fit.
void write_scalar(const char* operation, const Scalar& scalar, DType dtype, void* element);

}  // namespace ts
