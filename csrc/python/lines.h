// Where the user's program is: the Python line of what is being captured or profiled.
#pragma once

#include "core/recording.h"
#include "python/tensor.h"

namespace ts::python {

// While it lives, what this thread's frame of Python launches itself has one line, which is looked up once:
// for work that launches many kernels. (The frame lives longer, so its address is nobody else's.)
class OneLine {
 public:
  OneLine();
  ~OneLine();
  OneLine(const OneLine&) = delete;
  LineKey key();

 private:
  OneLine* const outer_;
  const PyFrameObject* const frame_;
  LineKey key_{};
  bool known_ = false;
};

// set_package_folder(folder): frames of its files are not the user's, but for those that are programs.
PyObject* set_package_folder(PyObject*, PyObject* folder);
void init_lines();

}  // namespace ts::python
