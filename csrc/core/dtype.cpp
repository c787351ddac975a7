#include "core/dtype.h"

namespace ts {

const char* name(DType d) {
  static constexpr const char* kNames[kDTypes] = {
#define TS_NAME(name, type, kind) #name,
      TS_DTYPES(TS_NAME)
#undef TS_NAME
  };
  return d == DType::boolean ? "bool" : kNames[static_cast<int>(d)];
}

namespace {

// The smallest float that NumPy gives an integer of this many bytes when it meets a float.
DType float_for(std::int64_t bytes) {
  return bytes == 1 ? DType::float16 : bytes == 2 ? DType::float32 : DType::float64;
}

DType signed_of(std::int64_t bytes) {
  return bytes == 1 ? DType::int8 : bytes == 2 ? DType::int16 : bytes == 4 ? DType::int32 : DType::int64;
}

DType float_promote(DType a, DType b) {
  if (a == b) return a;
  if (itemsize(a) == 2 && itemsize(b) == 2) return DType::float32;  // float16 with bfloat16
  return itemsize(a) > itemsize(b) ? a : b;
}

}  // namespace

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (a == DType::boolean) return b;
  if (b == DType::boolean) return a;
  if (is_complex(a) || is_complex(b)) return complex_of(promote(real_of(a), real_of(b)));
  if (is_floating(a) && is_floating(b)) return float_promote(a, b);
  if (is_floating(a) || is_floating(b)) {
    const DType f = is_floating(a) ? a : b, i = is_floating(a) ? b : a;
    // With bfloat16 an integer has no smaller float that keeps NumPy's order: float32 from two bytes on.
    if (f == DType::bfloat16 && itemsize(i) == 1) return f;
    return float_promote(f, float_for(itemsize(i)));
  }
  const bool signed_a = kind(a) == Kind::signed_integer, signed_b = kind(b) == Kind::signed_integer;
  if (signed_a == signed_b) return itemsize(a) > itemsize(b) ? a : b;
  const DType s = signed_a ? a : b, u = signed_a ? b : a;
  if (itemsize(s) > itemsize(u)) return s;
  return itemsize(u) == 8 ? DType::float64 : signed_of(itemsize(u) * 2);
}

}  // namespace ts
