// Recurrent layers: the inputs' part of the gates is one product over all steps, the rest the kernel's.
#include "ops/recurrent.h"

#include "core/launch.h"
#include "ops/bf16.h"
#include "ops/device.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"

namespace ts::ops {
namespace {

Recurrent read_options(const char* operation, const std::string& cell, bool reverse) {
  if (cell == "tanh") return {Cell::tanh, reverse};
  if (cell == "relu") return {Cell::relu, reverse};
  if (cell == "lstm") return {Cell::lstm, reverse};
  if (cell == "gru") return {Cell::gru, reverse};
  value_error(operation, ": cell must be 'tanh', 'relu', 'lstm' or 'gru', got '", cell, "'");
}
int gates_of(Cell cell) { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }
bool has_extra(Cell cell) { return cell == Cell::lstm || cell == Cell::gru; }

// A dense array of this dtype and shape, or nothing. With `bf16` it may be bfloat16 or float32, and is made
// float32.
Array operand(const char* operation, const char* argument, const Array& x, DType dtype, const Shape& shape,
              bool bf16 = false) {
  if (!x) return x;
  if (bf16)
    check_takes_bf16(operation, argument, x);
  else
    check_same_dtype(operation, argument, x, dtype);
  check_shape(operation, argument, x, shape);
  return contiguous(astype(x, dtype, false));
}

void require_lengths(In lengths, const char* operation, std::int64_t T) {
  const OnHost elements(lengths);
  const auto* const length = elements.as<std::int64_t>();
  for (std::int64_t n = 0; n < lengths.size(); ++n)
    if (length[n] < 0 || length[n] > T)
      value_error(operation, ": lengths must be in [0, ", T, "], got ", length[n], " at ", n);
}

Array read_lengths(const char* operation, const Array& lengths, std::int64_t T, std::int64_t N) {
  const Array dense = operand(operation, "lengths", lengths, DType::int64, Shape{N});
  if (dense) perform("recurrent lengths", &require_lengths, dense, operation, T);
  return dense;
}

struct Extents {
  std::int64_t T, N, H, GH;
  Extents(const char* operation, const Shape& gates, const Array& w_hidden, Cell cell)
      : T(gates[0]), N(gates[1]), GH(gates[2]) {
    check_rank(operation, "w_hidden", w_hidden, 2);
    H = w_hidden.shape(1);
    if (w_hidden.shape(0) != gates_of(cell) * H)
      value_error(operation, ": w_hidden must have shape (", gates_of(cell), " H, H), got ",
                  w_hidden.shape());
    if (GH != w_hidden.shape(0))
      value_error(operation, ": w_input has ", GH, " rows, but w_hidden ", w_hidden.shape(0));
  }
};

// Whether products of bfloat16 numbers have a kernel: a GPU multiplies the steps in float32.
bool has_bf16_kernel(const Array& x) { return x.device() == Device::cpu; }
// The recurrent weights as the kernel for `engine` takes them.
Array engine_weights(const Array& w, Bf16Engine engine) {
  return engine == Bf16Engine::float32 ? rounded(w) : w;
}
// Memory that the weights are packed into.
Array workspace(const char* operation, const Extents& e, DType dtype, bool bf16) {
  if (!bf16) return empty(operation, dtype, Shape{e.H + 16, e.GH + 16});
  return empty(operation, DType::uint8, Shape{recurrent_bf16_workspace(e.H ? e.GH / e.H : 1, e.H)});
}

using Results = std::tuple<Array, Array, Array, Array, Array>;

// With `bf16`, products are of bfloat16 numbers and what is floating may be bfloat16 or float32.
Results forward(const char* operation, const Array& x, const Array& w_input, const Array& w_hidden,
                const Array& b_input, const Array& b_hidden, const Array& h0, const Array& c0,
                const Array& lengths, const std::string& cell, bool reverse, bool bf16) {
  const Recurrent options = read_options(operation, cell, reverse);
  const DType dtype = bf16 ? DType::float32 : x.dtype();
  check_rank(operation, "x", x, 3);
  if (bf16) {
    check_takes_bf16(operation, "x", x);
    check_takes_bf16(operation, "w_hidden", w_hidden);
  } else {
    check_domain(operation, "x", dtype, Domain::floating);
    check_same_dtype(operation, "w_hidden", w_hidden, dtype);
  }
  check_rank(operation, "w_input", w_input, 2);
  const Extents e(operation, Shape{x.shape(0), x.shape(1), w_input.shape(0)}, w_hidden, options.cell);
  const Shape states{e.N, e.H}, steps{e.T, e.N, e.H};
  const Array bias = operand(operation, "b_hidden", b_hidden, dtype, Shape{e.GH}, bf16);
  const Array h = operand(operation, "h0", h0, dtype, states, bf16);
  const bool has_cell = options.cell == Cell::lstm;
  const Array c = has_cell ? operand(operation, "c0", c0, dtype, states, bf16) : Array();
  if (!h || (has_cell && !c)) type_error(operation, ": ", h ? "c0" : "h0", " is missing");
  const Array length = read_lengths(operation, lengths, e.T, e.N);

  Array gates = bf16 ? linear_bf16_wide(x, w_input, b_input) : linear(x, w_input, b_input);
  Array y = empty(operation, dtype, steps), hn = empty(operation, dtype, states);
  Array cn = empty(operation, dtype, has_cell ? states : Shape{0});
  Array extra = empty(operation, dtype, has_extra(options.cell) ? steps : Shape{0});
  const bool rounds = bf16 && has_bf16_kernel(x);
  Array packed = workspace(operation, e, dtype, rounds), none;
  if (rounds) {
    const Bf16Engine engine = bf16_engine().engine;
    launch<&Kernels::recurrent_bf16>(engine_weights(w_hidden, engine), bias, h, c, length, gates, y, extra,
                                     hn, has_cell ? cn : none, packed, options, engine);
  } else {
    launch<&Kernels::recurrent>(astype(w_hidden, dtype, false), bias, h, c, length, gates, y, extra, hn,
                                has_cell ? cn : none, packed, options);
  }
  return {y, hn, cn, gates, extra};
}

Results backward(const char* operation, const Array& gates_given, const Array& extra_given,
                 const Array& y_given, const Array& w_hidden, const Array& h0, const Array& c0,
                 const Array& lengths, const Array& gradient, const Array& gradient_h,
                 const Array& gradient_c, const std::string& cell, bool reverse, bool bf16) {
  const Recurrent options = read_options(operation, cell, reverse);
  const DType dtype = bf16 ? DType::float32 : w_hidden.dtype();
  if (bf16)
    check_takes_bf16(operation, "w_hidden", w_hidden);
  else
    check_domain(operation, "w_hidden", dtype, Domain::floating);
  check_rank(operation, "gates", gates_given, 3);
  const Extents e(operation, gates_given.shape(), w_hidden, options.cell);
  const Shape states{e.N, e.H}, steps{e.T, e.N, e.H};
  const bool has_cell = options.cell == Cell::lstm, is_gru = options.cell == Cell::gru;
  const Array dy = operand(operation, "dy", gradient, dtype, steps, bf16);
  const Array dhn = operand(operation, "dhn", gradient_h, dtype, states, bf16);
  const Array dcn = has_cell ? operand(operation, "dcn", gradient_c, dtype, states, bf16) : Array();
  const Array gates = operand(operation, "gates", gates_given, dtype, gates_given.shape());
  const Array extra =
      operand(operation, "extra", extra_given, dtype, has_extra(options.cell) ? steps : Shape{0});
  const Array y = operand(operation, "y", y_given, dtype, steps);
  const Array h = operand(operation, "h0", h0, dtype, states, bf16);
  const Array c = has_cell ? operand(operation, "c0", c0, dtype, states, bf16) : Array();
  if (!gates || !y || !extra || !h || (has_cell && !c))
    type_error(operation, ": gates, extra, y, h0 and, for lstm, c0 are needed");
  const Array length = read_lengths(operation, lengths, e.T, e.N);

  const bool rounds = bf16 && has_bf16_kernel(gates);
  const DType multiplied = rounds ? DType::bfloat16 : dtype;
  Array dgates = empty(operation, multiplied, gates.shape()), before = empty(operation, multiplied, steps);
  Array dhidden = is_gru ? empty(operation, multiplied, gates.shape()) : Array();
  Array dh0 = empty(operation, dtype, states), dc0 = empty(operation, dtype, has_cell ? states : Shape{0});
  Array packed = workspace(operation, e, dtype, rounds), none;
  if (rounds) {
    const Bf16Engine engine = bf16_engine().engine;
    launch<&Kernels::recurrent_bf16_backward>(dy, dhn, dcn, gates, extra, y, engine_weights(w_hidden, engine),
                                              h, c, length, dgates, dhidden, before, dh0,
                                              has_cell ? dc0 : none, packed, options, engine);
  } else {
    launch<&Kernels::recurrent_backward>(dy, dhn, dcn, gates, extra, y, astype(w_hidden, dtype, false), h, c,
                                         length, dgates, dhidden, before, dh0, has_cell ? dc0 : none, packed,
                                         options);
  }
  return {dgates, is_gru ? dhidden : dgates, before, dh0, dc0};
}

}  // namespace

Results recurrent(const Array& x, const Array& w_input, const Array& w_hidden, const Array& b_input,
                  const Array& b_hidden, const Array& h0, const Array& c0, const Array& lengths,
                  const std::string& cell, bool reverse) {
  return forward("recurrent", x, w_input, w_hidden, b_input, b_hidden, h0, c0, lengths, cell, reverse, false);
}

Results recurrent_bf16(const Array& x, const Array& w_input, const Array& w_hidden, const Array& b_input,
                       const Array& b_hidden, const Array& h0, const Array& c0, const Array& lengths,
                       const std::string& cell, bool reverse) {
  return forward("recurrent_bf16", x, w_input, w_hidden, b_input, b_hidden, h0, c0, lengths, cell, reverse,
                 true);
}

Results recurrent_backward(const Array& gates, const Array& extra, const Array& y, const Array& w_hidden,
                           const Array& h0, const Array& c0, const Array& lengths, const Array& gradient,
                           const Array& gradient_h, const Array& gradient_c, const std::string& cell,
                           bool reverse) {
  return backward("recurrent_backward", gates, extra, y, w_hidden, h0, c0, lengths, gradient, gradient_h,
                  gradient_c, cell, reverse, false);
}

Results recurrent_bf16_backward(const Array& gates, const Array& extra, const Array& y, const Array& w_hidden,
                                const Array& h0, const Array& c0, const Array& lengths, const Array& gradient,
                                const Array& gradient_h, const Array& gradient_c, const std::string& cell,
                                bool reverse) {
  return backward("recurrent_bf16_backward", gates, extra, y, w_hidden, h0, c0, lengths, gradient, gradient_h,
                  gradient_c, cell, reverse, true);
}

}  // namespace ts::ops
