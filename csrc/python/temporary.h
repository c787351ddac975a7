// a + b + c: the memory of a + b, which nobody sees again, takes the result.
#pragma once

#include "python/tensor.h"

namespace ts::python {

// Of the operands of an arithmetic operator, which the slot that calls this was given: one whose memory may
// take the result, for it is a large intermediate value that the interpreter drops as soon as the operator
// returns. Null where there is none, or where it cannot be told.
PyObject* spent_operand(PyObject* a, PyObject* b);

}  // namespace ts::python
