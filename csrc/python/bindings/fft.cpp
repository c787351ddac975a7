#include "ops/fft.h"

#include "python/bindings.h"

namespace ts::python {

void bind_fft(PyObject* m) {
  add_op(m, "fft(x, axis=-1, inverse=False, scale=1.0)", &ops::fft);
  add_op(m, "rfft(x, axis=-1, scale=1.0)", &ops::rfft);
  add_op(m, "irfft(x, n, axis=-1, scale=1.0)", &ops::irfft);
}

}  // namespace ts::python
