// A count of 1 does not say that an object is an intermediate value: C code may hold the one reference and
// look at the object later. Of the interpreter's own operators it is true, for its stack owns what they are
// given (from 3.14 on stacks borrow too, and Python says which). So the callers are looked at: the slot has
// been reached by PyNumber_Add and its kin, and that by the interpreter's loop. C code that ends in
// PyNumber_Add leaves no frame of its own, so the instruction that the loop is at must be an operator
// besides.
#include "python/temporary.h"

#include "core/watch.h"
#include "python/autograd.h"
#include "python/op.h"

#if !defined(Py_GIL_DISABLED) && __has_include(<execinfo.h>)
#define TS_LOOKS_AT_CALLERS 1
#include <dlfcn.h>
#include <execinfo.h>
#include <frameobject.h>
#include <opcode.h>  // last: its macros are plain words
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

// Whether the function that runs is at an operator, rather than at the call of a function.
bool is_at_operator() {
  PyFrameObject* const frame = PyEval_GetFrame();
  if (!frame) return false;
  const Ref code = Ref(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
#if PY_VERSION_HEX >= 0x030B0000
  const Ref bytes = Ref(PyCode_GetCode(reinterpret_cast<PyCodeObject*>(code.get())));
  const Py_ssize_t at = PyFrame_GetLasti(frame);
#else
  const Ref bytes = Ref::share(reinterpret_cast<PyCodeObject*>(code.get())->co_code);
  const Py_ssize_t at = 2 * frame->f_lasti;  // it counts instructions
#endif
  if (!bytes) PyErr_Clear();
  if (!bytes || at < 0 || at >= PyBytes_GET_SIZE(bytes.get())) return false;
  const int operation = static_cast<unsigned char>(PyBytes_AS_STRING(bytes.get())[at]);
#if PY_VERSION_HEX >= 0x030B0000
  return operation == BINARY_OP;
#else
  return operation == BINARY_ADD || operation == BINARY_SUBTRACT || operation == BINARY_MULTIPLY ||
         operation == BINARY_TRUE_DIVIDE;
#endif
}

// Ours, then at most one function of Python's between, PyNumber_Add, the interpreter.
bool is_called_by_interpreter() {
  void* frames[12];
  const int n = backtrace(frames, 12);
  int i = 0;
  while (i < n && caller_at(frames[i]) == Caller::ours) ++i;
  if (i < n && caller_at(frames[i]) == Caller::python) ++i;
  return i + 1 < n && caller_at(frames[i]) == Caller::number &&
         caller_at(frames[i + 1]) == Caller::interpreter;
}

bool interpreter_drops_it([[maybe_unused]] PyObject* o) {
#if PY_VERSION_HEX >= 0x030E0000
  if (!PyUnstable_Object_IsUniqueReferencedTemporary(o)) return false;
#endif
  return is_called_by_interpreter() && is_at_operator();
}

#else

bool interpreter_drops_it(PyObject*) { return false; }

#endif

}  // namespace

PyObject* spent_operand(PyObject* a, PyObject* b) {
  PyObject* const spent = is_spent(a) && agrees(b, a) ? a : is_spent(b) && agrees(a, b) ? b : nullptr;
  return spent && !ts::detail::watching() && !g_autocast && interpreter_drops_it(spent) ? spent : nullptr;
}

}  // namespace ts::python
