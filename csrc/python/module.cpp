// The extension module: types, operations, exceptions, and the few functions that are not operations.
#include <pybind11/pybind11.h>

#include "core/allocator.h"
#include "core/dispatch.h"
#include "core/threads.h"
#include "ops/conv.h"
#include "python/accelerator.h"
#include "python/autograd.h"
#include "python/bindings.h"
#include "python/dlpack.h"
#include "python/jit.h"
#include "python/op.h"

namespace py = pybind11;

namespace ts::python {

namespace {

PyObject* g_axis_error;
PyObject* g_dtypes[kDTypes];
PyObject* g_as_dtype;  // Python: anything that names a dtype -> its DType

PyObject* exception_for(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::index:
      return PyExc_IndexError;
    case ErrorKind::value:
      return PyExc_ValueError;
    case ErrorKind::type:
      return PyExc_TypeError;
    case ErrorKind::memory:
      return PyExc_MemoryError;
    case ErrorKind::buffer:
      return PyExc_BufferError;
    case ErrorKind::runtime:
      return PyExc_RuntimeError;
    case ErrorKind::zero_division:
      return PyExc_ZeroDivisionError;
    case ErrorKind::overflow:
      return PyExc_OverflowError;
    case ErrorKind::axis:
      return g_axis_error;
    case ErrorKind::not_implemented:
      return PyExc_NotImplementedError;
  }
  return PyExc_RuntimeError;
}

// Called by parallel_for, see threads.h. The thread's state is kept so that `poll` can take the GIL for a
// moment.
thread_local PyThreadState* t_released = nullptr;

void* release_gil() {
  if (!Py_IsInitialized() || !PyGILState_Check()) return nullptr;
  t_released = PyEval_SaveThread();
  return t_released;
}

void restore_gil(void*) {
  PyEval_RestoreThread(t_released);
  t_released = nullptr;
}

void poll_signals() {
  PyEval_RestoreThread(t_released);
  const int status = PyErr_CheckSignals();
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  if (status < 0) PyErr_Fetch(&type, &value, &trace);
  t_released = PyEval_SaveThread();
  if (status == 0) return;
  // The exception waits with the interpreter; restore_gil runs before anyone looks at it.
  PyEval_RestoreThread(t_released);
  PyErr_Restore(type, value, trace);
  t_released = PyEval_SaveThread();
  throw PythonError{};
}

PyObject* set_grad_enabled(PyObject*, PyObject* enabled) {
  const int value = PyObject_IsTrue(enabled);
  if (value < 0) return nullptr;
  const bool before = g_grad_enabled;
  g_grad_enabled = value;
  return PyBool_FromLong(before);
}
PyObject* is_grad_enabled(PyObject*, PyObject*) { return PyBool_FromLong(g_grad_enabled); }

PyObject* set_autocast(PyObject*, PyObject* enabled) {
  const int value = PyObject_IsTrue(enabled);
  if (value < 0) return nullptr;
  const bool before = g_autocast;
  g_autocast = value;
  return PyBool_FromLong(before);
}
PyObject* is_autocast_enabled(PyObject*, PyObject*) { return PyBool_FromLong(g_autocast); }
PyObject* bf16_engine_name(PyObject*, PyObject*) {
  return guarded([] { return Py_BuildValue("(ss)", bf16_engine().name, bf16_engine().reason); });
}

PyMethodDef functions[] = {
    {"set_grad_enabled", set_grad_enabled, METH_O,
     "Records operations of this thread, or not; what it was before."},
    {"is_grad_enabled", is_grad_enabled, METH_NOARGS, "Whether this thread records operations."},
    {"set_autocast", set_autocast, METH_O,
     "Multiplies in bfloat16 on this thread, or not; what it was before."},
    {"is_autocast_enabled", is_autocast_enabled, METH_NOARGS, "Whether this thread multiplies in bfloat16."},
    {"bf16_engine", bf16_engine_name, METH_NOARGS, "(name, reason) of what multiplies bfloat16 numbers."},
    {"backward", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(run_backward)), METH_FASTCALL,
     "backward(roots, gradients, inputs, retain_graph, create_graph)"},
    {"set_row_sparse", set_row_sparse, METH_O, "Tell the tape the class of row-sparse gradients."},
    {"record", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(record_python)), METH_FASTCALL,
     "record(name, function, inputs, outputs)"},
    {"to_dlpack", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(to_dlpack)), METH_FASTCALL,
     "to_dlpack(tensor, versioned, copied): a DLPack capsule."},
    {"from_dlpack", from_dlpack, METH_O,
     "from_dlpack(capsule): (tensor over its memory, whether the producer copied)."},
    {}};

}  // namespace

void translate_exception() noexcept {
  try {
    throw;
  } catch (abi::__forced_unwind&) {
    into_python([]() -> PyObject* { throw; });  // the thread is being ended: see there
  } catch (const PythonError&) {
    // Already set.
  } catch (const Error& e) {
    PyErr_SetString(exception_for(e.kind), e.what());
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "out of memory");
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

Ref dtype_object(DType dtype) { return Ref::share(g_dtypes[static_cast<int>(dtype)]); }

DType dtype_from(const char* operation, PyObject* object) {
  for (int i = 0; i < kDTypes; ++i)
    if (g_dtypes[i] == object) return static_cast<DType>(i);
  if (PyUnicode_CheckExact(object)) {
    static PyObject* const by_name = [] {
      PyObject* names = PyDict_New();
      for (int i = 0; names && i < kDTypes; ++i)
        PyDict_SetItemString(names, name(static_cast<DType>(i)), g_dtypes[i]);
      return names;
    }();
    PyObject* const found = by_name ? PyDict_GetItemWithError(by_name, object) : nullptr;
    for (int i = 0; found && i < kDTypes; ++i)
      if (g_dtypes[i] == found) return static_cast<DType>(i);
  }
  const Ref dtype(PyObject_CallOneArg(g_as_dtype, object));
  if (dtype)
    for (int i = 0; i < kDTypes; ++i)
      if (g_dtypes[i] == dtype.get()) return static_cast<DType>(i);
  PyErr_Clear();
  const Ref text = checked(PyObject_Repr(object));
  type_error(operation, ": ", PyUnicode_AsUTF8(text.get()), " is not a dtype");
}

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native core of tensorsmith.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      std::rethrow_exception(p);
    } catch (const PythonError&) {
    } catch (const Error&) {
      translate_exception();
    }
  });
  PyObject* module = m.ptr();
  if (!init_tensor(module) || !init_op(module) || !init_autograd(module) || !init_jit(module))
    throw py::error_already_set();
  if (PyModule_AddFunctions(module, functions) < 0) throw py::error_already_set();

  const py::tuple bases = py::make_tuple(py::handle(PyExc_ValueError), py::handle(PyExc_IndexError));
  g_axis_error = PyErr_NewExceptionWithDoc("tensorsmith.AxisError",
                                           "An axis out of range; both a ValueError and an IndexError.",
                                           bases.ptr(), nullptr);
  m.attr("AxisError") = py::reinterpret_borrow<py::object>(g_axis_error);

  py::module_ operations = m.def_submodule("ops", "Every operation, as a callable Op.");
#define TS_BIND(noun) bind_##noun(operations.ptr());
  TS_BINDINGS(TS_BIND)
#undef TS_BIND
  add_creators(module);

  set_thread_hooks({release_gil, restore_gil, poll_signals});

  m.def(
      "install",
      [](py::type tensor, py::tuple dtypes, py::function as_dtype) {
        if (dtypes.size() != kDTypes)
          throw py::value_error("install: one DType for each of the core's dtypes");
        set_tensor_type(reinterpret_cast<PyTypeObject*>(tensor.inc_ref().ptr()));
        for (std::size_t i = 0; i < kDTypes; ++i) g_dtypes[i] = py::object(dtypes[i]).release().ptr();
        g_as_dtype = as_dtype.release().ptr();
      },
      "Tells the core the Python classes: Tensor, the DTypes in its order, and what reads a dtype.");
  m.def(
      "dtypes",
      [] {
        py::list all;
        constexpr const char* kinds[] = {"bool", "unsigned", "signed", "floating", "complex"};
        for (int i = 0; i < kDTypes; ++i) {
          const auto d = static_cast<DType>(i);
          all.append(py::make_tuple(name(d), itemsize(d), kinds[static_cast<int>(kind(d))]));
        }
        return all;
      },
      "(name, itemsize, kind) of every dtype, in the core's order.");
  m.def("promote_types", [](py::object a, py::object b) {
    return py::reinterpret_steal<py::object>(
        dtype_object(promote(dtype_from("result_type", a.ptr()), dtype_from("result_type", b.ptr())))
            .release());
  });
  m.def("default_dtype",
        [] { return py::reinterpret_steal<py::object>(dtype_object(default_float()).release()); });
  m.def("set_default_dtype",
        [](py::object d) { set_default_float(dtype_from("set_default_dtype", d.ptr())); });

  m.def("set_conv_algorithm", &ops::set_conv_algorithm,
        "For this thread: \"direct\" or \"winograd\"; the one before.");

  m.def(
      "simd_level", [] { return py::make_tuple(simd_level().name, simd_level().reason); },
      "(name, reason) of the SIMD level in use.");
  m.def("device", [] { return name(g_device); }, "Where this thread's fresh tensors lie.");
  m.def(
      "set_device",
      [](py::object device) {
        const Device wanted = device_from("set_default_device", device.ptr());
        if (wanted != Device::cpu) accelerator(wanted);  // RuntimeError with the reason where there is none
        g_device = wanted;
      },
      "For this thread; RuntimeError where the device is not available.");
  py::module_ cuda = m.def_submodule("cuda", "The accelerator; see tensorsmith.cuda.");
  bind_accelerator(cuda);

  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def(
      "default_num_threads",
      [] {
        const char* reason = nullptr;
        const int count = default_num_threads(&reason);
        return py::make_tuple(count, reason);
      },
      "(count, reason): what this process may use.");

  m.def("allocator_stats", [] {
    const AllocatorStats s = allocator_stats();
    py::dict d;
    d["live_bytes"] = s.live_bytes;
    d["peak_bytes"] = s.peak_bytes;
    d["cached_bytes"] = s.cached_bytes;
    d["system_bytes"] = s.system_bytes;
    d["live_blocks"] = s.live_blocks;
    d["allocations"] = s.allocations;
    return d;
  });
  m.def("reset_peak", &reset_peak);
  m.def("empty_cache", &empty_cache);
  m.def("fail_allocation", &fail_allocation, py::arg("n"),
        "For tests: the n-th allocation from now fails; 0 disarms.");
}

}  // namespace ts::python
