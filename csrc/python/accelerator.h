// tensorsmith._core.cuda: what the accelerator's library offers beside kernels.
#pragma once

#include <pybind11/pybind11.h>

namespace ts::python {

void bind_accelerator(pybind11::module_& cuda);

}  // namespace ts::python
