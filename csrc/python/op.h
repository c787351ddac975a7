// An operation as Python sees it: a callable object made from a signature and a C++ function.
//
//   add_op(module, "softmax(x, axis=-1)", &ops::softmax);
//   add_op(module, "layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5) -> y; mean, rstd",
//   ...); add_op(module, "index_add_(x, dim, index, source)", ...);      // name ends in _: in place, the
//   first is the target
//
// Parameters are positional or by keyword; `/` and `*` separators work as in Python. After `->` come the
// names of the results, for gradient rules; those behind `;` are kept for backward and not returned. A result
// that shares its input's memory is found out by itself. Conversions follow the C++ parameter types
// (convert.h).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "python/convert.h"

namespace ts::python {

constexpr int kMaxParameters = 16;
constexpr int kMaxOutputs = 8;

// Where an argument of a gradient rule comes from.
struct Source {
  // `dys`: the gradients of all outputs, a tuple; `shape`: of a tensor parameter, without keeping its
  // elements.
  enum Kind : std::uint8_t { dy, dys, parameter, shape, output, needs } kind;
  std::uint8_t index;
};

// A gradient rule: a Python callable, and what its parameters are bound to. It yields the gradient of one
// parameter, or a tuple for the parameters in `wrt`.
struct Rule {
  Ref function;
  std::vector<Source> sources;
  std::vector<int> wrt;
  bool joint = false;
};

// What a call produced; the first few without a trip to the heap.
class Results {
 public:
  void push_back(Array&& y) {
    if (count_ < kInline)
      inline_[count_] = std::move(y);
    else
      more_.push_back(std::move(y));
    ++count_;
  }
  int size() const { return count_; }
  Array& operator[](int i) { return i < kInline ? inline_[i] : more_[static_cast<std::size_t>(i - kInline)]; }

 private:
  static constexpr int kInline = 3;
  Array inline_[kInline];
  std::vector<Array> more_;
  int count_ = 0;
};

inline void collect(Array&& y, Results& out) { out.push_back(std::move(y)); }
inline void collect(std::vector<Array>&& ys, Results& out) {
  for (Array& y : ys) out.push_back(std::move(y));
}
template <class... Arrays>
void collect(std::tuple<Arrays...>&& ys, Results& out) {
  std::apply([&](auto&... y) { (out.push_back(std::move(y)), ...); }, ys);
}

struct Op {
  std::string name, signature, doc;
  std::vector<std::string> parameters, outputs;
  std::vector<Ref> defaults;  // null where an argument is required
  std::vector<Role> roles;
  int positional = 0;       // parameters before `*`
  int positional_only = 0;  // parameters before `/`
  int returned = 1;         // outputs that the caller gets
  bool in_place = false;
  bool takes_list = false;    // its first argument: any number of tensors
  bool returns_list = false;  // any number of outputs: std::vector<Array>
  bool moves = false;         // arguments may lie on another device than the first (copy_)
  // Under autocast: what runs instead where all tensors that have gradients are float32 or bfloat16, or
  // whether bfloat16 tensors are made float32 first.
  Op* lowered = nullptr;
  bool raised = false;
  // Parameters, as bits, that float32 kernels serve where the first tensor is float16 or bfloat16: all its
  // tensors among them are made float32, and float32 results take that dtype.
  std::uint32_t widened = 0;
  // What needs no widening: nothing, bfloat16, or either half on the CPU.
  enum class Takes : std::uint8_t { nothing, bfloat16, on_cpu } takes = Takes::nothing;
  bool differentiable = true;    // false: results never carry a gradient (argmax, comparisons)
  std::uint32_t shape_only = 0;  // bits of the parameters of which nothing but shape, order and dtype is used
  // Converts the arguments, calls the C++ function and collects its results.
  void (*call)(const Op& op, PyObject* const* arguments, Results& results) = nullptr;
  // The same, written where the result goes; false where that takes a temporary (null: always).
  bool (*call_into)(const Op& op, PyObject* const* arguments, Array& out) = nullptr;
  void (*function)() = nullptr;
  const void* context = nullptr;  // for functions that share one implementation (pointwise)

  Argument argument(std::size_t i, PyObject* object) const {
    return {name.c_str(), parameters[i].c_str(), object, defaults[i].get() == Py_None};
  }

  std::vector<Rule> rules;
  bool conjugate = true;  // of complex numbers: the rules get conj(dy), and their results are conjugated
  std::uint32_t saved_parameters = 0, saved_outputs = 0;  // what the rules ask for, as bits
  std::uint32_t differentiated = 0;                       // parameters that they are of
};

struct OpObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  Op* op;
  PyObject* doc;
};

template <class R, class... P>
struct Caller {
  template <std::size_t... I>
  static void run(const Op& op, PyObject* const* a, Results& results, std::index_sequence<I...>) {
    const auto function = reinterpret_cast<R (*)(P...)>(op.function);
    std::tuple<Convert<Spelled<P>>...> converters;
    if constexpr (std::is_void_v<R>)
      function(std::get<I>(converters)(op.argument(I, a[I]))...);
    else
      collect(function(std::get<I>(converters)(op.argument(I, a[I]))...), results);
  }
  static void call(const Op& op, PyObject* const* a, Results& results) {
    run(op, a, results, std::index_sequence_for<P...>{});
  }
};

// Adds the operation to the module and returns it, for the few that need a word more.
Op& add_op(PyObject* module, const char* signature, Op op);

template <class R, class... P>
Op& add_op(PyObject* module, const char* signature, R (*function)(P...)) {
  Op op;
  op.call = &Caller<R, P...>::call;
  op.function = reinterpret_cast<void (*)()>(function);
  op.roles = {Convert<Spelled<P>>::role...};
  op.returns_list = std::is_same_v<R, std::vector<Array>>;
  return add_op(module, signature, std::move(op));
}

// Calls the operation on already ordered arguments, recording it where gradients flow. This is what Python's
// call, the operators (a + b) and methods end in.
PyObject* apply(Op& op, PyObject* const* arguments);

// Whether this thread multiplies in bfloat16 (ts.autocast).
extern thread_local bool g_autocast;

Op& find_op(const char* name);

}  // namespace ts::python
