// Matrix products: promote, broadcast the leading axes, allocate, launch. No operand is copied for its
// strides.
#include "ops/matmul.h"

#include "core/launch.h"
#include "ops/bf16.h"
#include "ops/complex.h"
#include "ops/elementwise.h"
#include "ops/manipulate.h"

namespace ts::ops {

namespace {

// One or more leading axes that every operand steps through evenly: what a single launch covers.
struct Batch {
  std::int64_t extent = 1, step_a = 0, step_b = 0, step_c = 0;
};

// a (*leading, M, K), b (*leading, K, N), c (*leading, M, N): their last two axes behind one batch axis.
Array matrices(const Array& x, std::int64_t extent, std::int64_t step, std::int64_t offset) {
  const int n = x.ndim();
  return x.as_strided(Shape{extent, x.shape(n - 2), x.shape(n - 1)},
                      Shape{step, x.stride(n - 2), x.stride(n - 1)}, x.offset() + offset);
}

// Launches over the axes [0, axis) in a loop and over those behind it in one go.
void launch_over(const Array& a, const Array& b, const Array& bias, Array& c, Activation activation,
                 bool bf16, int axis, const Batch& batch, std::int64_t at_a, std::int64_t at_b,
                 std::int64_t at_c, int outer = 0) {
  if (outer < axis) {
    for (std::int64_t i = 0; i < c.shape(outer); ++i)
      launch_over(a, b, bias, c, activation, bf16, axis, batch, at_a + i * a.stride(outer),
                  at_b + i * b.stride(outer), at_c + i * c.stride(outer), outer + 1);
    return;
  }
  Array target = matrices(c, batch.extent, batch.step_c, at_c);
  const Array left = matrices(a, batch.extent, batch.step_a, at_a),
              right = matrices(b, batch.extent, batch.step_b, at_b);
  if (bf16)
    launch<&Kernels::gemm_bf16>(left, right, bias, target, activation, bf16_engine().engine);
  else
    launch<&Kernels::gemm>(left, right, bias, target, activation);
}

// c = act(a b + bias), all of one rank >= 2 and one dtype, leading axes equal (stride 0 where broadcast).
void multiply(const Array& a, const Array& b, const Array& bias, Array& c, Activation activation,
              bool bf16 = false) {
  if (c.size() == 0) return;
  Batch batch;
  int axis = c.ndim() - 2;
  for (; axis > 0; --axis) {
    const std::int64_t n = c.shape(axis - 1);
    if (n == 1) continue;
    const std::int64_t sa = a.stride(axis - 1), sb = b.stride(axis - 1), sc = c.stride(axis - 1);
    if (batch.extent == 1)
      batch = {n, sa, sb, sc};
    else if (sa == batch.step_a * batch.extent && sb == batch.step_b * batch.extent &&
             sc == batch.step_c * batch.extent)
      batch.extent *= n;
    else
      break;
  }
  launch_over(a, b, bias, c, activation, bf16, axis, batch, 0, 0, 0);
}

// What the kernel multiplies a dtype in: integers wrap in any width that is not smaller. The GPU's takes
// float16 as it is.
DType product_dtype(DType d, Device device) {
  if (d == DType::float16 && device == Device::cuda) return d;
  switch (d) {
    case DType::int8:
      return DType::uint8;
    case DType::int16:
    case DType::uint16:
    case DType::uint32:
      return DType::int32;
    case DType::uint64:
      return DType::int64;
    case DType::float16:
    case DType::bfloat16:
      return DType::float32;
    default:
      return d;
  }
}

// Four real products: (ar br - ai bi) + (ar bi + ai br) i.
Array complex_matmul(const Array& a, const Array& b) {
  const Array ar = real(a), ai = imag(a), br = real(b), bi = imag(b);
  Array re = matmul(ar, br), im = matmul(ar, bi);
  const Array rest = matmul(ai, bi), cross = matmul(ai, br);
  launch<&Kernels::subtract>(re, rest, re);
  launch<&Kernels::add>(im, cross, im);
  return from_parts(re, im);
}

// Whether the sum over k of products with a vector goes by the tree of sums: see
// docs/adr/0005-vector-products.md.
bool sums_by_tree(DType d) { return d == DType::float32 || d == DType::float64; }

// The sum of a b over their last `reduced` axes; one shape, one dtype.
Array sum_of_products(const char* operation, const Array& a, const Array& b, int reduced) {
  Array y = empty(operation, a.dtype(), Shape(a.shape().data(), a.ndim() - reduced));
  if (y.size() > 0) launch<&Kernels::dot>(a, b, y, reduced);
  return y;
}

// A product with a 1-D operand, both of one such dtype.
Array vector_product(const char* operation, const Array& a, const Array& b) {
  if (a.ndim() == 1 && b.ndim() == 1) return sum_of_products(operation, a, b, 1);
  const Array matrix = b.ndim() == 1 ? a : b.transpose(b.ndim() - 2, b.ndim() - 1);  // (..., rows, K)
  const Array vector = contiguous(b.ndim() == 1 ? b : a);
  Shape strides(matrix.ndim());
  strides[matrix.ndim() - 1] = 1;
  const Array wide = vector.as_strided(matrix.shape(), std::move(strides), vector.offset());
  return sum_of_products(operation, matrix, wide, 1);
}

// c = act(a b + bias) for `multiply`, in bfloat16 with sums in float32, rounded to `dtype` once.
Array multiply_bf16(const char* operation, const Array& a, const Array& b, const Array& bias,
                    const Shape& shape, DType dtype, Activation activation) {
  const Array wide = bias ? contiguous(astype(bias, DType::float32, false)) : bias;
  if (a.device() == Device::cuda || bf16_engine().engine != Bf16Engine::float32) {
    Array c = empty(operation, dtype, shape);
    multiply(a, b, wide, c, activation, true);
    return c;
  }
  Array c = empty(operation, DType::float32, shape);
  multiply(rounded(a), rounded(b), wide, c, activation);
  return astype(c, dtype, false);
}

// With `lowered`, x, weight and bias are bfloat16 or float32, in any mixture, and the product is one of
// bfloat16, whose result may stay float32.
Array affine(const char* operation, const Array& x, const Array& weight, const Array& bias,
             Activation activation, bool lowered = false, DType rounded_to = DType::bfloat16) {
  if (x.ndim() < 1) value_error(operation, ": x must have at least 1 dimension (..., I), got a 0-d array");
  check_rank(operation, "weight", weight, 2);
  const bool bf16 = lowered || x.dtype() == DType::bfloat16;
  if (lowered) {
    check_takes_bf16(operation, "x", x);
    check_takes_bf16(operation, "weight", weight);
    if (bias) check_takes_bf16(operation, "bias", bias);
  } else {
    if (!bf16)
      check_domain(operation, "x",
                   product_dtype(x.dtype(), x.device()) != x.dtype() ? DType::boolean
                   : is_half(x.dtype())                              ? DType::float32
                                                                     : x.dtype(),
                   Domain::numeric);
    check_same_dtype(operation, "weight", weight, x.dtype());
  }
  const int last = x.ndim() - 1;
  if (x.shape(last) != weight.shape(1))
    value_error(operation, ": x of shape ", x.shape(), " has ", x.shape(last),
                " features, but weight of shape ", weight.shape(), " takes ", weight.shape(1));
  if (bias) {
    if (!lowered) check_same_dtype(operation, "bias", bias, x.dtype());
    check_shape(operation, "bias", bias, Shape{weight.shape(0)});
  }
  Shape shape = x.shape();
  shape[last] = weight.shape(0);
  const Array rows = x.ndim() == 1 ? x.expand_dims(0) : x;
  Array w = weight.transpose(0, 1);
  if (rows.ndim() > 2) {
    Shape full = rows.shape();
    full[rows.ndim() - 2] = w.shape(0);
    full[rows.ndim() - 1] = w.shape(1);
    w = w.broadcast_to(operation, full);
  }
  const Shape matrix = x.ndim() == 1 ? Shape{1, shape[0]} : shape;
  Array y;
  if (bf16) {
    y = multiply_bf16(operation, rows, w, bias, matrix, rounded_to, activation);
  } else {
    y = empty(operation, x.dtype(), matrix);
    multiply(rows, w, bias, y, activation);
  }
  return x.ndim() == 1 ? y.squeeze(0) : y;
}

// The operands of a product, of one rank and with the same leading axes, and its shape (..., M, N).
struct Factors {
  Array left, right;
  Shape shape;
};
Factors factors(const char* operation, const Array& a, const Array& b) {
  for (const Array* x : {&a, &b})
    if (x->ndim() == 0)
      value_error(operation, ": ", x == &a ? "a" : "b",
                  " must have at least 1 dimension, got a 0-d array; use multiply");
  Array left = a.ndim() == 1 ? a.expand_dims(0) : a, right = b.ndim() == 1 ? b.expand_dims(1) : b;
  const std::int64_t k = left.shape(left.ndim() - 1);
  if (k != right.shape(right.ndim() - 2))
    value_error(operation, ": a of shape ", a.shape(), " has ", k, " columns, but b of shape ", b.shape(),
                " has ", right.shape(right.ndim() - 2), " rows");
  const std::int64_t m = left.shape(left.ndim() - 2), n = right.shape(right.ndim() - 1);
  if (left.ndim() > 2 || right.ndim() > 2) {
    Shape leading = broadcast_shapes(operation, Shape(left.shape().data(), left.ndim() - 2),
                                     Shape(right.shape().data(), right.ndim() - 2));
    Shape of_left = leading, of_right = leading;
    of_left.push_back(m), of_left.push_back(k);
    of_right.push_back(k), of_right.push_back(n);
    left = left.broadcast_to(operation, of_left), right = right.broadcast_to(operation, of_right);
  }
  Shape shape = left.shape();
  shape[left.ndim() - 1] = n;
  return {std::move(left), std::move(right), std::move(shape)};
}

// matmul for one dtype; `result` other than that only for products of bfloat16, whose operands may be
// float32.
Array product(const char* operation, const Array& a, const Array& b, DType result, bool bf16) {
  const bool row = a.ndim() == 1, column = b.ndim() == 1;
  if ((row || column) && a.ndim() > 0 && b.ndim() > 0 && !bf16 && sums_by_tree(result) &&
      a.shape(a.ndim() - 1) == b.shape(b.ndim() > 1 ? b.ndim() - 2 : 0))
    return vector_product(operation, a, b);
  const Factors f = factors(operation, a, b);
  Array c;
  if (bf16) {
    c = multiply_bf16(operation, f.left, f.right, Array{}, f.shape, result, Activation::none);
  } else {
    c = empty(operation, result, f.shape);
    multiply(f.left, f.right, Array{}, c, Activation::none);
  }
  if (column) c = c.squeeze(c.ndim() - 1);
  if (row) c = c.squeeze(c.ndim() - (column ? 1 : 2));
  return c;
}

// Leading axes as one: without a copy where the strides allow.
Array as_matrix(const Array& v) {
  if (v.ndim() == 2) return v;
  std::int64_t count = 1;
  for (int i = 0; i < v.ndim() - 1; ++i) count *= v.shape(i);
  const Shape shape{count, v.shape(v.ndim() - 1)};
  const std::optional<Array> view = v.view_as(shape);
  return view ? *view : *contiguous(v).view_as(shape);
}

void check_weight_gradient(const char* operation, const Array& gradient, const Array& x) {
  if (x.ndim() < 1) value_error(operation, ": x must have at least 1 dimension (..., I), got a 0-d array");
  const int last = x.ndim() - 1;
  Shape expected = x.shape();
  if (gradient.ndim() == x.ndim()) expected[last] = gradient.shape(last);
  check_shape(operation, "gradient", gradient, expected);
}

}  // namespace

Array matmul(const Array& a, const Array& b) {
  const char* operation = "matmul";
  const DType dtype = a.dtype() == b.dtype() ? a.dtype() : promote(a.dtype(), b.dtype());
  if (a.dtype() == b.dtype() && (dtype == DType::float32 || dtype == DType::float64))
    return product(operation, a, b, dtype, false);
  if (dtype == DType::boolean) return astype(matmul(astype(a, DType::int32, false), b), dtype, false);
  if (is_complex(dtype)) return complex_matmul(astype(a, dtype, false), astype(b, dtype, false));
  const bool bf16 = dtype == DType::bfloat16;
  const DType computed = bf16 ? dtype : product_dtype(dtype, a.device());
  const Array c = product(operation, astype(a, computed, false), astype(b, computed, false), computed, bf16);
  return astype(c, dtype, false);
}

bool try_matmul_into(const Array& a, const Array& b, Array& out) {
  const char* operation = "matmul";
  const DType dtype = out.dtype();
  if (!sums_by_tree(dtype) || a.dtype() != dtype || b.dtype() != dtype || a.ndim() < 2 || b.ndim() < 2)
    return false;
  if (may_overlap(a, out) || may_overlap(b, out)) return false;
  const Factors f = factors(operation, a, b);
  if (f.shape != out.shape()) return false;
  check_writable(operation, out);
  multiply(f.left, f.right, Array{}, out, Activation::none);
  return true;
}

Array vecdot(const Array& a, const Array& b, std::int64_t axes) {
  const char* operation = "vecdot";
  if (axes < 1 || axes > a.ndim() || axes > b.ndim())
    value_error(operation, ": axes must be from 1 to the number of dimensions, got ", axes, " for shapes ",
                a.shape(), " and ", b.shape());
  const DType dtype = a.dtype() == b.dtype() ? a.dtype() : promote(a.dtype(), b.dtype());
  if (is_complex(dtype)) {
    const Array x = astype(a, dtype, false), y = astype(b, dtype, false);
    const Array ar = real(x), ai = imag(x), br = real(y), bi = imag(y);
    Array re = vecdot(ar, br, axes), im = vecdot(ar, bi, axes);
    launch<&Kernels::subtract>(re, vecdot(ai, bi, axes), re);
    launch<&Kernels::add>(im, vecdot(ai, br, axes), im);
    return from_parts(re, im);
  }
  const DType computed = computed_in(dtype);
  const Shape shape = a.shape() == b.shape() ? a.shape() : broadcast_shapes(operation, a.shape(), b.shape());
  const Array left = astype(a, computed, false).broadcast_to(operation, shape),
              right = astype(b, computed, false).broadcast_to(operation, shape);
  if (sums_by_tree(computed))
    return astype(sum_of_products(operation, left, right, static_cast<int>(axes)), dtype, false);
  // As a row times a column.
  const Shape kept(shape.data(), shape.rank() - static_cast<int>(axes));
  Shape row = kept, column = kept;
  std::int64_t k = 1;
  for (int i = kept.rank(); i < shape.rank(); ++i) k *= shape[i];
  row.push_back(1), row.push_back(k);
  column.push_back(k), column.push_back(1);
  return astype(reshape(matmul(reshape(left, row), reshape(right, column)), kept), dtype, false);
}

Array matmul_bf16(const Array& a, const Array& b, std::optional<DType> dtype) {
  const char* operation = "matmul_bf16";
  check_takes_bf16(operation, "a", a);
  check_takes_bf16(operation, "b", b);
  return product(operation, a, b, bf16_result(operation, dtype), true);
}

Array linear(const Array& x, const Array& weight, const Array& bias) {
  return affine("linear", x, weight, bias, Activation::none);
}

Array linear_relu(const Array& x, const Array& weight, const Array& bias) {
  return affine("linear_relu", x, weight, bias, Activation::relu);
}

Array linear_bf16(const Array& x, const Array& weight, const Array& bias) {
  return affine("linear_bf16", x, weight, bias, Activation::none, true);
}

Array linear_bf16_wide(const Array& x, const Array& weight, const Array& bias) {
  return affine("linear_bf16", x, weight, bias, Activation::none, true, DType::float32);
}

Array linear_relu_bf16(const Array& x, const Array& weight, const Array& bias) {
  return affine("linear_relu_bf16", x, weight, bias, Activation::relu, true);
}

Array linear_weight_backward(const Array& gradient, const Array& x) {
  const char* operation = "linear_weight_backward";
  check_domain(operation, "x", is_half(x.dtype()) ? DType::float32 : x.dtype(), Domain::numeric);
  check_same_dtype(operation, "gradient", gradient, x.dtype());
  check_weight_gradient(operation, gradient, x);
  return matmul(as_matrix(gradient).transpose(0, 1), as_matrix(x));
}

Array linear_weight_backward_bf16(const Array& gradient, const Array& x, std::optional<DType> dtype) {
  const char* operation = "linear_weight_backward_bf16";
  check_takes_bf16(operation, "gradient", gradient);
  check_takes_bf16(operation, "x", x);
  check_weight_gradient(operation, gradient, x);
  return product(operation, as_matrix(gradient).transpose(0, 1), as_matrix(x), bf16_result(operation, dtype),
                 true);
}

}  // namespace ts::ops
