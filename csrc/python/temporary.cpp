// A count of 1 does not say that an object is an intermediate value: C code may hold the one reference and
// look at the object later. Of the interpreter's own operators it is true, for its stack owns what they are
// given (until 3.14, where stacks borrow, and Python answers the question itself). So the callers are looked
// at: the slot has been reached by PyNumber_Add and its kin, and that by the interpreter's loop.
#include "python/temporary.h"

#include "core/watch.h"
#include "python/autograd.h"
#include "python/op.h"

#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED) && __has_include(<execinfo.h>)
#define TS_LOOKS_AT_CALLERS 1
#include <dlfcn.h>
#include <execinfo.h>
#endif

namespace ts::python {
namespace {

constexpr std::int64_t kLeastBytes = 256 << 10;  // looking takes about a microsecond

bool is_plain(PyObject* o) { return Py_TYPE(o) == g_tensor_type && !as_tensor(o)->autograd; }

// Its memory is its own, and written in order.
bool is_spent(PyObject* o) {
  if (!is_plain(o) || Py_REFCNT(o) != 1) return false;
  const TensorObject* t = as_tensor(o);
  const Array& x = t->array;
  return x.size() * itemsize(x.dtype()) >= kLeastBytes && (is_floating(x.dtype()) && !is_half(x.dtype())) &&
         x.device() == Device::cpu && !t->shares_storage && !t->weakrefs && x.storage()->owners() == 1 &&
         !x.storage()->adopted() && !x.read_only() && x.is_contiguous();
}

// The result has the dtype, shape and layout of `spent`.
bool agrees(PyObject* other, PyObject* spent) {
  if (PyFloat_CheckExact(other) || PyLong_CheckExact(other)) return true;
  if (!is_plain(other)) return false;
  const Array &x = array_of(other), &y = array_of(spent);
  return x.dtype() == y.dtype() && x.shape() == y.shape() && x.is_contiguous() && x.device() == Device::cpu;
}

#ifdef TS_LOOKS_AT_CALLERS

enum class Caller : std::uint8_t { ours, interpreter, number, python, other };

Caller find_caller(void* address) {
  static const void* const kLoop = dlsym(RTLD_DEFAULT, "_PyEval_EvalFrameDefault");
  static const auto module_of = [](const void* p) {
    Dl_info at;
    return dladdr(p, &at) ? at.dli_fbase : nullptr;
  };
  static const void *const kOurs = module_of(reinterpret_cast<const void*>(&spent_operand)),
                           *const kPython = module_of(reinterpret_cast<const void*>(&PyNumber_Add));
  Dl_info at;  // of the call, not of what follows it
  if (!kLoop || !dladdr(static_cast<char*>(address) - 1, &at)) return Caller::other;
  if (at.dli_fbase == kOurs) return Caller::ours;
  if (at.dli_fbase != kPython) return Caller::other;
  if (at.dli_saddr == kLoop) return Caller::interpreter;
  for (auto* operation : {&PyNumber_Add, &PyNumber_Subtract, &PyNumber_Multiply, &PyNumber_TrueDivide})
    if (at.dli_saddr == reinterpret_cast<void*>(operation)) return Caller::number;
  return Caller::python;
}

// dladdr walks through all symbols: few addresses ever come here, and they are remembered. The interpreter's
// lock guards them.
Caller caller_at(void* address) {
  struct Known {
    void* address;
    Caller caller;
  };
  static Known known[64];
  Known& entry = known[(reinterpret_cast<std::uintptr_t>(address) >> 1) % 64];
  if (entry.address != address) entry = {address, find_caller(address)};
  return entry.caller;
}

// Ours, then at most one function of Python's between, PyNumber_Add, the interpreter.
bool interpreter_drops_it(PyObject*) {
  void* frames[12];
  const int n = backtrace(frames, 12);
  int i = 0;
  while (i < n && caller_at(frames[i]) == Caller::ours) ++i;
  if (i < n && caller_at(frames[i]) == Caller::python) ++i;
  return i + 1 < n && caller_at(frames[i]) == Caller::number &&
         caller_at(frames[i + 1]) == Caller::interpreter;
}

#elif PY_VERSION_HEX >= 0x030E0000

bool interpreter_drops_it(PyObject* o) { return PyUnstable_Object_IsUniqueReferencedTemporary(o) != 0; }

#else

bool interpreter_drops_it(PyObject*) { return false; }

#endif

}  // namespace

PyObject* spent_operand(PyObject* a, PyObject* b) {
  PyObject* const spent = is_spent(a) && agrees(b, a) ? a : is_spent(b) && agrees(a, b) ? b : nullptr;
  return spent && !ts::detail::watching() && !g_autocast && interpreter_drops_it(spent) ? spent : nullptr;
}

}  // namespace ts::python
