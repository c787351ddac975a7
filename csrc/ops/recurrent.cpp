// Recurrent layers: the inputs' part of the gates is one product over all steps, the rest the kernel's.
#include "ops/recurrent.h"

#include "core/launch.h"
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

// A dense array of this dtype and shape, or nothing.
Array operand(const char* operation, const char* argument, const Array& x, DType dtype, const Shape& shape) {
  if (!x) return x;
  check_same_dtype(operation, argument, x, dtype);
  check_shape(operation, argument, x, shape);
  return contiguous(x);
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

}  // namespace

std::tuple<Array, Array, Array, Array, Array> recurrent(const Array& x, const Array& w_input,
                                                        const Array& w_hidden, const Array& b_input,
                                                        const Array& b_hidden, const Array& h0,
                                                        const Array& c0, const Array& lengths,
                                                        const std::string& cell, bool reverse) {
  const char* operation = "recurrent";
  const Recurrent options = read_options(operation, cell, reverse);
  const DType dtype = x.dtype();
  check_rank(operation, "x", x, 3);
  check_domain(operation, "x", dtype, Domain::floating);
  check_same_dtype(operation, "w_hidden", w_hidden, dtype);
  check_rank(operation, "w_input", w_input, 2);
  const Extents e(operation, Shape{x.shape(0), x.shape(1), w_input.shape(0)}, w_hidden, options.cell);
  const Shape states{e.N, e.H}, steps{e.T, e.N, e.H};
  const Array bias = operand(operation, "b_hidden", b_hidden, dtype, Shape{e.GH});
  const Array h = operand(operation, "h0", h0, dtype, states);
  const bool has_cell = options.cell == Cell::lstm;
  const Array c = has_cell ? operand(operation, "c0", c0, dtype, states) : Array();
  if (!h || (has_cell && !c)) type_error(operation, ": ", h ? "c0" : "h0", " is missing");
  const Array length = read_lengths(operation, lengths, e.T, e.N);

  Array gates = linear(x, w_input, b_input);
  Array y = empty(operation, dtype, steps), hn = empty(operation, dtype, states);
  Array cn = empty(operation, dtype, has_cell ? states : Shape{0});
  Array extra = empty(operation, dtype, has_extra(options.cell) ? steps : Shape{0});
  Array packed = empty(operation, dtype, Shape{e.H + 16, e.GH + 16}), none;
  launch<&Kernels::recurrent>(w_hidden, bias, h, c, length, gates, y, extra, hn, has_cell ? cn : none, packed,
                              options);
  return {y, hn, cn, gates, extra};
}

std::tuple<Array, Array, Array, Array, Array> recurrent_backward(
    const Array& gates_given, const Array& extra_given, const Array& y_given, const Array& w_hidden,
    const Array& h0, const Array& c0, const Array& lengths, const Array& gradient, const Array& gradient_h,
    const Array& gradient_c, const std::string& cell, bool reverse) {
  const char* operation = "recurrent_backward";
  const Recurrent options = read_options(operation, cell, reverse);
  const DType dtype = w_hidden.dtype();
  check_domain(operation, "w_hidden", dtype, Domain::floating);
  check_rank(operation, "gates", gates_given, 3);
  const Extents e(operation, gates_given.shape(), w_hidden, options.cell);
  const Shape states{e.N, e.H}, steps{e.T, e.N, e.H};
  const bool has_cell = options.cell == Cell::lstm, is_gru = options.cell == Cell::gru;
  const Array dy = operand(operation, "dy", gradient, dtype, steps);
  const Array dhn = operand(operation, "dhn", gradient_h, dtype, states);
  const Array dcn = has_cell ? operand(operation, "dcn", gradient_c, dtype, states) : Array();
  const Array gates = operand(operation, "gates", gates_given, dtype, gates_given.shape());
  const Array extra =
      operand(operation, "extra", extra_given, dtype, has_extra(options.cell) ? steps : Shape{0});
  const Array y = operand(operation, "y", y_given, dtype, steps);
  const Array h = operand(operation, "h0", h0, dtype, states);
  const Array c = has_cell ? operand(operation, "c0", c0, dtype, states) : Array();
  if (!gates || !y || !extra || !h || (has_cell && !c))
    type_error(operation, ": gates, extra, y, h0 and, for lstm, c0 are needed");
  const Array length = read_lengths(operation, lengths, e.T, e.N);

  Array dgates = empty(operation, dtype, gates.shape()), before = empty(operation, dtype, steps);
  Array dhidden = is_gru ? empty(operation, dtype, gates.shape()) : Array();
  Array dh0 = empty(operation, dtype, states), dc0 = empty(operation, dtype, has_cell ? states : Shape{0});
  Array packed = empty(operation, dtype, Shape{e.H + 16, e.GH + 16}), none;
  launch<&Kernels::recurrent_backward>(dy, dhn, dcn, gates, extra, y, w_hidden, h, c, length, dgates, dhidden,
                                       before, dh0, has_cell ? dc0 : none, packed, options);
  return {dgates, is_gru ? dhidden : dgates, before, dh0, dc0};
}

}  // namespace ts::ops
