// The buffer protocol: a tensor's memory as NumPy, memoryview and the rest of Python see it.
#include "core/watch.h"
#include "python/autograd.h"
#include "python/tensor_slots.h"

namespace ts::python {

namespace {

const char* format_of(DType d) {
  switch (d) {
    case DType::boolean:
      return "?";
    case DType::uint8:
      return "B";
    case DType::uint16:
      return "H";
    case DType::uint32:
      return "I";
    case DType::uint64:
      return "L";
    case DType::int8:
      return "b";
    case DType::int16:
      return "h";
    case DType::int32:
      return "i";
    case DType::int64:
      return "l";
    case DType::float16:
      return "e";
    case DType::float32:
      return "f";
    case DType::float64:
      return "d";
    case DType::complex64:
      return "Zf";
    case DType::complex128:
      return "Zd";
    default:
      return nullptr;
  }
}

// Shape and strides for the view's lifetime, and the storage: the tensor may get other memory meanwhile.
struct Export {
  StorageRef storage;
  Shape shape, strides;
};

}  // namespace

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  try {
    const Array& x = array_of(self);
    view->obj = nullptr;
    if (tracks_gradient(self) && g_grad_enabled)
      buffer_error("a tensor that requires a gradient would lose it in another library; use .detach() first");
    if (x.device() != Device::cpu)
      buffer_error("the tensor is on ", name(x.device()),
                   ", whose memory only its kernels reach; use .cpu()");
    if (!format_of(x.dtype())) buffer_error("dtype ", name(x.dtype()), " has no buffer format");
    if ((flags & PyBUF_WRITABLE) && x.read_only()) buffer_error("the tensor's memory is read-only");
    // PyBUF_STRIDES holds the bit of PyBUF_ND, which alone asks for a shape and row-major memory.
    if (((flags & PyBUF_STRIDES) != PyBUF_STRIDES || (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS) &&
        !x.is_contiguous())
      buffer_error("the tensor is not contiguous");
    host_read("NumPy or another library", x.storage());
    auto* keep = new Export{x.storage_ref(), x.shape(), x.strides()};
    for (int i = 0; i < x.ndim(); ++i) keep->strides[i] *= itemsize(x.dtype());
    view->buf = x.data();
    view->obj = Py_NewRef(self);
    view->len = x.nbytes();
    view->itemsize = itemsize(x.dtype());
    view->readonly = x.read_only();
    view->ndim = x.ndim();
    view->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(format_of(x.dtype())) : nullptr;
    view->shape = (flags & PyBUF_ND) ? reinterpret_cast<Py_ssize_t*>(keep->shape.data()) : nullptr;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES
                        ? reinterpret_cast<Py_ssize_t*>(keep->strides.data())
                        : nullptr;
    view->suboffsets = nullptr;
    view->internal = keep;
    // Whoever holds the buffer can write at any time.
    as_tensor(self)->shares_storage = true;
    return 0;
  } catch (...) {
    translate_exception();
    return -1;
  }
}

void release_buffer(PyObject*, Py_buffer* view) { delete static_cast<Export*>(view->internal); }

}  // namespace ts::python
