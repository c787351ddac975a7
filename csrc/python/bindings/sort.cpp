#include "ops/sort.h"

#include "python/bindings.h"

namespace ts::python {

void bind_sort(PyObject* m) {
  add_op(m, "sort(x, axis=-1, descending=False)", &ops::sort);
  add_op(m, "argsort(x, axis=-1, descending=False)", &ops::argsort).differentiable = false;
  add_op(m, "topk_index(x, k, axis=-1, largest=True)", &ops::topk_index).differentiable = false;
  add_op(m, "order_statistics(x, places)", &ops::order_statistics);
  add_op(m, "searchsorted(sorted, x, right=False)", &ops::searchsorted).differentiable = false;
  add_op(m, "run_starts(x, one_nan)", &ops::run_starts).differentiable = false;
  add_op(m, "bincount(x, minlength=0)", &ops::bincount).differentiable = false;
  add_op(m, "distinct_integers(x)", &ops::distinct_integers).differentiable = false;
  add_op(m, "histogram_counts(x, edges, uniform=False)", &ops::histogram_counts).differentiable = false;
}

}  // namespace ts::python
