#include "ops/resample.h"

#include "python/bindings.h"

namespace ts::python {

void bind_resample(PyObject* m) {
  add_op(m, "resample2d(x, row_starts, rows, column_starts, columns, row_values=None, column_values=None)",
         &ops::resample2d);
  add_op(m, "grid_sample(x, grid, nearest=False, padding=0, align=False)", &ops::grid_sample);
  add_op(m, "grid_sample_backward(gradient, x, grid, nearest=False, padding=0, align=False) -> dx, dgrid",
         &ops::grid_sample_backward);
}

}  // namespace ts::python
