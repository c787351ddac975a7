#include "ops/elementwise.h"

#include "python/bindings.h"

namespace ts::python {

namespace {

// One body for all pointwise operations: the Op's context says which.
template <std::size_t... I>
void gather(const Op& op, PyObject* const* arguments, Operand* operands, Convert<Operand>* converters,
            std::index_sequence<I...>) {
  ((operands[I] = converters[I](op.argument(I, arguments[I]))), ...);
}

template <std::size_t Arity, bool in_place>
void call(const Op& op, PyObject* const* arguments, Results& results) {
  const auto& pointwise = *static_cast<const ops::Pointwise*>(op.context);
  Convert<Operand> converters[Arity];
  Operand operands[3] = {Scalar{}, Scalar{}, Scalar{}};
  gather(op, arguments, operands, converters, std::make_index_sequence<Arity>{});
  if constexpr (in_place)
    ops::pointwise_into(pointwise, operands, Convert<Array&>{}(op.argument(0, arguments[0])));
  else
    results.push_back(ops::pointwise(pointwise, operands));
}

template <std::size_t Arity>
bool call_into(const Op& op, PyObject* const* arguments, Array& out) {
  Convert<Operand> converters[Arity];
  Operand operands[3] = {Scalar{}, Scalar{}, Scalar{}};
  gather(op, arguments, operands, converters, std::make_index_sequence<Arity>{});
  return ops::try_pointwise_into(*static_cast<const ops::Pointwise*>(op.context), operands, out);
}

template <bool in_place>
void bind(PyObject* m, const ops::Pointwise& p) {
  constexpr decltype(&call<1, in_place>) calls[] = {&call<1, in_place>, &call<2, in_place>,
                                                    &call<3, in_place>};
  constexpr const char* parameters[] = {"(x, /)", "(a, b, /)", "(a, b, c, /)"};
  Op op;
  constexpr decltype(&call_into<1>) into[] = {&call_into<1>, &call_into<2>, &call_into<3>};
  op.call = calls[p.arity - 1];
  if (!in_place) op.call_into = into[p.arity - 1];
  op.context = &p;
  op.roles.assign(static_cast<std::size_t>(p.arity), Role::tensor);
  op.differentiable = !p.boolean_result && p.domain != Domain::integral;
  add_op(m, (std::string(p.name) + (in_place ? "_" : "") + parameters[p.arity - 1]).c_str(), std::move(op));
}

}  // namespace

void bind_elementwise(PyObject* m) {
  for (int i = 0; i < ops::kPointwiseCount; ++i) {
    bind<false>(m, ops::kPointwise[i]);
    bind<true>(m, ops::kPointwise[i]);
  }
  add_op(m, "where(condition, a, b, /)", &ops::where);
  add_op(m, "contiguous(x, /)", &ops::contiguous);
  add_op(m, "copy(x, /)", &ops::copy);
  add_op(m, "astype(x, dtype, copy=True)", &ops::astype);
  add_op(m, "sum_to(x, shape, /)", &ops::sum_to);
  add_op(
      m, "copy_(x, source, /)", +[](Array& x, const Operand& source) { ops::copy_into("copy_", source, x); })
      .moves = true;
}

}  // namespace ts::python
