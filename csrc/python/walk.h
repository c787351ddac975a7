// What a recording takes for granted: everything that a function's code can reach by name.
#pragma once

#include <string>

#include "python/guard.h"

namespace ts::python {

// Adds guards over closures, the globals and attributes that the code names, modules, optimizers, containers
// and classes, from the function and the arguments on. Returns why a recording could not stand for the call,
// or "".
std::string take_for_granted(PyObject* function, PyObject* args, PyObject* kwargs, Guards& guards);

}  // namespace ts::python
