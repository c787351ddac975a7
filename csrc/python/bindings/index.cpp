#include "ops/index.h"

#include "python/bindings.h"

namespace ts::python {

void bind_index(PyObject* m) {
  add_op(m, "take(x, indices, axis=None)", &ops::take);
  add_op(m, "take_backward(dy, indices, shape, axis) -> dx", &ops::take_backward);
  add_op(m, "take_along_axis(x, indices, axis=-1)", &ops::take_along_axis);
  add_op(m, "index_select(x, dim, index)", &ops::index_select);
  add_op(m, "embedding(x, weight, padding_idx=None)", &ops::embedding);
  add_op(m, "embedding_backward(dy, x, rows, padding_idx) -> dweight", &ops::embedding_backward);
  add_op(m, "gather(x, dim, index)", &ops::gather);
  add_op(m, "gather_backward(dy, dim, index, shape) -> dx", &ops::gather_backward);
  add_op(m, "scatter_(x, dim, index, src)", &ops::scatter_);
  add_op(m, "scatter(x, dim, index, src)", &ops::scatter);
  add_op(m, "scatter_add_(x, dim, index, src)", &ops::scatter_add_);
  add_op(m, "scatter_add(x, dim, index, src)", &ops::scatter_add);
  add_op(m, "scatter_reduce(x, dim, index, src, reduce) -> y", &ops::scatter_reduce);
  add_op(m, "index_add_(x, dim, index, source)", &ops::index_add_);
  add_op(m, "index_add(x, dim, index, source)", &ops::index_add);
  add_op(m, "index_set_(x, dim, index, source)", &ops::index_set_);
  add_op(m, "index_set(x, dim, index, source)", &ops::index_set);
  add_op(
      m, "checked_positions(x, axis, extent)",
      +[](const Array& x, std::int64_t axis, std::int64_t extent) {
        return ops::checked_positions("getitem", x, axis, extent);
      })
      .differentiable = false;
  add_op(m, "nonzero_flat(x)", &ops::nonzero_flat).differentiable = false;
  add_op(m, "count_nonzero_flat(x)", &ops::count_nonzero_flat).differentiable = false;
  add_op(m, "one_hot(x, num_classes)", &ops::one_hot).differentiable = false;
}

}  // namespace ts::python
