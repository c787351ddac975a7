// The walk back over the tape.
//
// A node is newer than everything it depends on, so taking nodes by descending sequence number visits each
// after all that use it: no recursion, no counting of uses. Gradients reach the leaves' `.grad` only when the
// whole walk has succeeded.
#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "ops/elementwise.h"
#include "python/autograd.h"
#include "python/jit.h"
#include "python/lines.h"

namespace ts::python {

namespace {

PyObject* g_row_sparse;  // the class of row-sparse gradients (ops/sparse.py)

// A gradient of a leaf may be row-sparse: an object that adds up with its like and with tensors. Elsewhere it
// is made dense first.
bool is_row_sparse(PyObject* o) {
  return g_row_sparse && reinterpret_cast<PyObject*>(Py_TYPE(o)) == g_row_sparse;
}

class GradMode {
 public:
  explicit GradMode(bool enabled) : before_(g_grad_enabled) { g_grad_enabled = enabled; }
  ~GradMode() { g_grad_enabled = before_; }

 private:
  bool before_;
};

Ref call_op(const char* op_name, std::initializer_list<PyObject*> arguments) {
  return checked(apply(find_op(op_name), arguments.begin()));
}

Ref shape_tuple(const Shape& shape) {
  Ref tuple = checked(PyTuple_New(shape.rank()));
  for (int i = 0; i < shape.rank(); ++i) PyTuple_SET_ITEM(tuple.get(), i, PyLong_FromLongLong(shape[i]));
  return tuple;
}

bool complex_tensor(PyObject* tensor) { return is_complex(array_of(tensor).dtype()); }

// A gradient in the shape, dtype and place of what it belongs to: broadcast axes are summed away. What is
// real moves only along the real axis.
Ref fit(Ref g, const Shape& shape, DType dtype, Device device) {
  if (complex_tensor(g.get()) && !is_complex(dtype)) g = call_op("real", {g.get()});
  if (array_of(g.get()).shape() != shape) {
    const Ref target = shape_tuple(shape);
    g = call_op("sum_to", {g.get(), target.get()});
  }
  if (array_of(g.get()).dtype() != dtype) {
    const Ref target = dtype_object(dtype);
    g = call_op("astype", {g.get(), target.get(), Py_False});
  }
  if (array_of(g.get()).device() != device) {
    const Ref target = checked(PyUnicode_FromString(name(device)));
    g = call_op("to_device", {g.get(), target.get()});
  }
  return g;
}

// Row-major, or dense with the strides of the leaf that it belongs to.
bool laid_out_as(const Array& g, const Array& leaf) {
  return g.is_contiguous() || (g.strides() == leaf.strides() && g.is_dense());
}

// Nobody else can see the tensor's memory.
bool exclusive(const Ref& g) {
  return Py_REFCNT(g.get()) == 1 && array_of(g.get()).storage()->owners() == 1 &&
         !array_of(g.get()).storage()->adopted();
}

void accumulate(Ref& sum, Ref g) {
  if (!sum) {
    sum = std::move(g);
  } else if (is_row_sparse(sum.get()) || is_row_sparse(g.get())) {
    PyObject* const sparse = is_row_sparse(sum.get()) ? sum.get() : g.get();
    PyObject* const other = sparse == sum.get() ? g.get() : sum.get();
    sum = checked(into_python([&] { return PyObject_CallMethod(sparse, "__add__", "O", other); }));
  } else if (!g_grad_enabled && exclusive(sum) && !array_of(sum.get()).self_overlaps()) {
    call_op("add_", {sum.get(), g.get()});
  } else {
    sum = call_op("add", {sum.get(), g.get()});
  }
}

Ref run_hooks(const Ref& hooks, Ref g, const char* where) {
  if (!hooks) return g;
  const Ref list = checked(PySequence_Tuple(hooks.get()));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list.get()); ++i) {
    Ref y =
        checked(into_python([&] { return PyObject_CallOneArg(PyTuple_GET_ITEM(list.get(), i), g.get()); }));
    if (y.get() == Py_None) continue;
    if (is_row_sparse(g.get()))
      type_error("a gradient hook on ", where, " must return None for a row-sparse gradient, got ",
                 Py_TYPE(y.get())->tp_name);
    if (!is_tensor(y.get()) || array_of(y.get()).shape() != array_of(g.get()).shape())
      value_error("a gradient hook on ", where, " must return None or a tensor of shape ",
                  array_of(g.get()).shape());
    const Array& before = array_of(g.get());
    const Shape shape = before.shape();
    const DType dtype = before.dtype();
    const Device device = before.device();
    g = fit(std::move(y), shape, dtype, device);
  }
  return g;
}

class Walk {
 public:
  Walk(bool retain, bool create) : retain_(retain), mode_(create) {}

  void seed(PyObject* root, Ref g) {
    const Autograd& a = *as_tensor(root)->autograd;
    deliver(a.node ? a.node.get() : root, a.output, std::move(g));
  }

  // Restricts the walk to what the given tensors' gradients need, and keeps those gradients.
  void want(PyObject* tensor) {
    const Autograd& a = *as_tensor(tensor)->autograd;
    wanted_.push_back({a.node ? a.node.get() : tensor, a.output});
    restricted_ = true;
  }

  void run(const std::vector<PyObject*>& roots) {
    if (restricted_) find_relevant(roots);
    while (!queue_.empty()) {
      const Ref node = queue_.top().second;
      queue_.pop();
      auto entry = pending_.extract(node.get());
      visit(as_node(node.get()), entry.mapped());
    }
  }

  Ref result(PyObject* tensor) const {
    const Autograd& a = *as_tensor(tensor)->autograd;
    if (!a.node) {
      const auto found = leaves_.find(tensor);
      return found == leaves_.end() ? Ref() : found->second;
    }
    for (const auto& [key, g] : captured_)
      if (key.first == a.node.get() && key.second == a.output) return g;
    return Ref();
  }

  void finish_leaves() {
    for (PyObject* leaf : order_) {
      Ref& g = leaves_[leaf];
      g = run_hooks(as_tensor(leaf)->autograd->hooks, std::move(g), "a leaf");
    }
  }

  void store_leaves() {
    // All values first, so that a failure leaves every .grad as it was.
    std::vector<std::pair<PyObject*, Ref>> values;
    for (PyObject* leaf : order_) {
      Ref g = std::move(leaves_[leaf]);
      touch_gradient(leaf, true);
      Autograd& a = autograd_of(leaf);
      if (a.grad && (is_row_sparse(a.grad.get()) || is_row_sparse(g.get()))) {
        Ref sum = a.grad;
        accumulate(sum, std::move(g));
        g = std::move(sum);
      } else if (a.grad) {
        g = call_op("add", {a.grad.get(), g.get()});
      } else if (is_row_sparse(g.get())) {
        // As it is.
      } else if (!g_grad_enabled && !(exclusive(g) && laid_out_as(array_of(g.get()), array_of(leaf)))) {
        const DeviceScope scope(array_of(g.get()).device());
        g = make_tensor(ops::contiguous(ops::copy(array_of(g.get()))));
      }
      values.emplace_back(leaf, std::move(g));
    }
    for (auto& [leaf, g] : values) autograd_of(leaf).grad = std::move(g);
  }

 private:
  using Key = std::pair<PyObject*, int>;
  struct Later {
    bool operator()(const std::pair<std::uint64_t, Ref>& a, const std::pair<std::uint64_t, Ref>& b) const {
      return a.first < b.first;
    }
  };

  void deliver(PyObject* target, int output, Ref g) {
    if (!is_node(target)) {
      const auto [place, fresh] = leaves_.try_emplace(target);
      if (fresh) {
        order_.push_back(target);
        keep_.push_back(Ref::share(target));
      }
      accumulate(place->second, std::move(g));
      return;
    }
    const auto [place, fresh] = pending_.try_emplace(target);
    if (fresh) {
      place->second.resize(std::max<std::size_t>(as_node(target)->shapes.size(), 1));
      queue_.push({as_node(target)->sequence, Ref::share(target)});
    }
    accumulate(place->second[static_cast<std::size_t>(output)], std::move(g));
  }

  bool relevant(PyObject* target) const { return !restricted_ || relevant_.count(target) != 0; }

  // Which nodes lead to a wanted tensor: a depth-first walk with a stack of its own.
  void find_relevant(const std::vector<PyObject*>& roots) {
    for (const Key& k : wanted_) relevant_.insert(k.first);
    std::unordered_set<PyObject*> seen;
    std::vector<std::pair<PyObject*, std::size_t>> stack;
    for (PyObject* root : roots) {
      const Autograd& a = *as_tensor(root)->autograd;
      if (a.node && seen.insert(a.node.get()).second) stack.push_back({a.node.get(), 0});
      while (!stack.empty()) {
        auto& [node, next] = stack.back();
        const auto& edges = as_node(node)->edges;
        if (next == edges.size()) {
          for (const Edge& e : edges)
            if (relevant_.count(e.target.get())) relevant_.insert(node);
          stack.pop_back();
        } else {
          PyObject* target = edges[next++].target.get();
          if (is_node(target) && seen.insert(target).second) stack.push_back({target, 0});
        }
      }
    }
  }

  void visit(NodeObject* n, std::vector<Ref>& dys) {
    for (std::size_t i = 0; i < dys.size(); ++i)
      if (dys[i] && i < n->hooks.size()) dys[i] = run_hooks(n->hooks[i], std::move(dys[i]), node_label(n));
    for (const Key& k : wanted_)
      if (k.first == reinterpret_cast<PyObject*>(n) && dys[static_cast<std::size_t>(k.second)])
        captured_.push_back({k, dys[static_cast<std::size_t>(k.second)]});
    const bool needed = std::any_of(n->edges.begin(), n->edges.end(),
                                    [&](const Edge& e) { return relevant(e.target.get()); });
    if (!needed) return;
    check_alive(n);
    // What a rule makes of nothing (zeros, an arange) belongs beside its gradients.
    Device device = g_device;
    for (const Ref& dy : dys)
      if (dy) device = array_of(dy.get()).device();
    const DeviceScope scope(device);
    if (n->op)
      visit_op(n, dys);
    else
      visit_function(n, dys);
    if (!retain_) {
      n->freed = true;
      release(n);
    }
  }

  // Asked again after every call: a rule, or another thread while a kernel runs, may walk the same graph.
  void check_alive(NodeObject* n) const {
    if (n->freed)
      runtime_error("backward: the graph through ", node_label(n),
                    " was freed by an earlier backward; pass retain_graph=True to the first one");
  }

  Ref output_gradient(NodeObject* n, std::vector<Ref>& dys, std::size_t i) {
    if (!dys[i]) {
      const Ref shape = shape_tuple(n->shapes[i]), dtype = dtype_object(n->dtypes[i]);
      dys[i] = call_op("zeros", {shape.get(), dtype.get(), Py_None});
    }
    return dys[i];
  }

  void send(NodeObject* n, const Edge& e, PyObject* g, bool conjugate = false) {
    if (g == Py_None || !relevant(e.target.get())) return;
    if (is_row_sparse(g)) {
      if (!is_node(e.target.get())) return deliver(e.target.get(), e.output, Ref::share(g));
      const Ref dense = checked(into_python([&] { return PyObject_CallMethod(g, "to_dense", nullptr); }));
      return send(n, e, dense.get());
    }
    if (!is_tensor(g))
      type_error("backward: the gradient rule of ", node_label(n), " returned ", Py_TYPE(g)->tp_name,
                 " where a tensor or None is needed");
    // A rule may have recorded what it did (a rule made of transforms); without create_graph nobody wants
    // that graph.
    Ref plain = !g_grad_enabled && tracks_gradient(g) ? make_tensor(Array(array_of(g))) : Ref::share(g);
    if (conjugate && complex_tensor(g)) plain = call_op("conj", {plain.get()});
    deliver(e.target.get(), e.output, fit(std::move(plain), e.shape, e.dtype, e.device));
  }

  bool wants(NodeObject* n, int parameter) const {
    for (const Edge& e : n->edges)
      if (e.parameter == parameter && relevant(e.target.get())) return true;
    return false;
  }

  // None for an argument that no gradient goes to.
  Ref parameter_shape(NodeObject* n, int parameter) const {
    for (const Edge& e : n->edges)
      if (e.parameter == parameter) return shape_tuple(e.shape);
    return Ref::share(Py_None);
  }

  // Sends what a rule returned for one parameter: a tensor, or a sequence for a list of tensors.
  void send_parameter(NodeObject* n, int parameter, PyObject* g, bool conjugate) {
    if (g == Py_None) return;
    const bool list = n->op->roles[static_cast<std::size_t>(parameter)] == Role::tensors;
    for (const Edge& e : n->edges) {
      if (e.parameter != parameter) continue;
      if (!list) {
        send(n, e, g, conjugate);
        return;
      }
      const Ref item = checked(PySequence_GetItem(g, e.position));
      send(n, e, item.get(), conjugate);
    }
  }

  Ref unpack(NodeObject* n, const Saved& s, const char* what, const std::string& which, int output) {
    const Storage* storage = s.tensor ? array_of(s.tensor.get()).storage() : s.output.storage();
    if (storage->version() != s.version)
      runtime_error("backward: ", what, which, " of ", node_label(n),
                    " was modified in place after it was recorded: its memory is at version ",
                    storage->version(), ", expected ", s.version,
                    "; use an operation that returns a new tensor");
    if (s.tensor) return s.tensor;
    Ref y = make_tensor(Array(s.output));
    as_tensor(y.get())->shares_storage = true;
    if (g_grad_enabled) set_output(n, y.get(), output, false);
    return y;
  }

  void visit_op(NodeObject* n, std::vector<Ref>& dys) {
    Op& op = *n->op;
    if (op.rules.empty())
      not_implemented_error("backward: ", op.name,
                            " has no gradient rule; detach its input if none is wanted");
    // A rule multiplies by the derivative f'. The gradient of complex numbers, the direction of steepest
    // ascent, is conj(f') dy = conj(f' conj(dy)).
    bool conjugate = false;
    if (op.conjugate)
      for (Ref& dy : dys)
        if (dy && complex_tensor(dy.get())) {
          dy = call_op("conj", {dy.get()});
          conjugate = true;
        }
    for (const Rule& rule : op.rules) {
      if (std::none_of(rule.wrt.begin(), rule.wrt.end(), [&](int p) { return wants(n, p); })) continue;
      Ref held[kMaxParameters + kMaxOutputs];
      PyObject* arguments[kMaxParameters + kMaxOutputs];
      std::size_t count = 0;
      for (const Source s : rule.sources) {
        const std::size_t i = s.index;
        check_alive(n);
        switch (s.kind) {
          case Source::dy:
            held[count] = output_gradient(n, dys, i);
            break;
          case Source::dys: {
            held[count] = checked(PyTuple_New(static_cast<Py_ssize_t>(dys.size())));
            for (std::size_t k = 0; k < dys.size(); ++k)
              PyTuple_SET_ITEM(held[count].get(), static_cast<Py_ssize_t>(k),
                               output_gradient(n, dys, k).release());
            break;
          }
          case Source::shape:
            held[count] = parameter_shape(n, static_cast<int>(i));
            break;
          case Source::parameter:
            held[count] = n->inputs.size() > i && n->inputs[i].tensor
                              ? unpack(n, n->inputs[i], "the argument ", op.parameters[i], 0)
                              : n->arguments[i];
            break;
          case Source::output:
            held[count] = unpack(n, n->outputs[i], "the output ", op.outputs[i], static_cast<int>(i));
            break;
          case Source::needs: {
            held[count] = checked(PyTuple_New(static_cast<Py_ssize_t>(rule.wrt.size())));
            for (std::size_t k = 0; k < rule.wrt.size(); ++k)
              PyTuple_SET_ITEM(held[count].get(), static_cast<Py_ssize_t>(k),
                               Py_NewRef(wants(n, rule.wrt[k]) ? Py_True : Py_False));
            break;
          }
        }
        arguments[count] = held[count].get();
        ++count;
      }
      const Ref g = checked(
          into_python([&] { return PyObject_Vectorcall(rule.function.get(), arguments, count, nullptr); }));
      for (Ref& h : held) h = Ref();
      if (!rule.joint) {
        send_parameter(n, rule.wrt[0], g.get(), conjugate);
        continue;
      }
      if (!PyTuple_Check(g.get()) || PyTuple_GET_SIZE(g.get()) != static_cast<Py_ssize_t>(rule.wrt.size()))
        type_error("backward: the gradient rule of ", op.name, " must return a tuple of ", rule.wrt.size());
      for (std::size_t k = 0; k < rule.wrt.size(); ++k)
        send_parameter(n, rule.wrt[k], PyTuple_GET_ITEM(g.get(), static_cast<Py_ssize_t>(k)), conjugate);
    }
  }

  void visit_function(NodeObject* n, std::vector<Ref>& dys) {
    const Ref arguments = checked(PyTuple_New(static_cast<Py_ssize_t>(n->shapes.size())));
    for (std::size_t i = 0; i < n->shapes.size(); ++i)
      PyTuple_SET_ITEM(arguments.get(), static_cast<Py_ssize_t>(i), output_gradient(n, dys, i).release());
    check_alive(n);
    const Ref function = n->function;
    const Ref gs = checked(into_python([&] { return PyObject_CallObject(function.get(), arguments.get()); }));
    if (!PyTuple_Check(gs.get()))
      type_error("backward: ", node_label(n), " must return a tuple of gradients, got ",
                 Py_TYPE(gs.get())->tp_name);
    for (const Edge& e : n->edges) {
      if (e.position >= PyTuple_GET_SIZE(gs.get()))
        value_error("backward: ", node_label(n), " returned ", PyTuple_GET_SIZE(gs.get()),
                    " gradients, fewer than its inputs");
      send(n, e, PyTuple_GET_ITEM(gs.get(), e.position));
    }
  }

  bool retain_;
  GradMode mode_;
  bool restricted_ = false;
  std::vector<Key> wanted_;
  std::unordered_set<PyObject*> relevant_;
  std::priority_queue<std::pair<std::uint64_t, Ref>, std::vector<std::pair<std::uint64_t, Ref>>, Later>
      queue_;
  std::unordered_map<PyObject*, std::vector<Ref>> pending_;
  std::unordered_map<PyObject*, Ref> leaves_;
  std::vector<PyObject*> order_;  // leaves as they were reached
  std::vector<Ref> keep_;
  std::vector<std::pair<Key, Ref>> captured_;
};

Ref root_gradient(PyObject* root, PyObject* given) {
  const Array& y = array_of(root);
  if (given == Py_None) {
    if (y.size() != 1)
      runtime_error(
          "backward: a gradient can be left out only for a tensor with one element; this one has shape ",
          y.shape(), ", so pass gradient=, of that shape");
    if (is_complex(y.dtype()))
      runtime_error("backward: a gradient can be left out only for a real tensor; this one is ",
                    name(y.dtype()), ", so pass gradient=, or take its .real or its absolute value");
    const Ref shape = shape_tuple(y.shape()), dtype = dtype_object(y.dtype());
    const Ref device = checked(PyUnicode_FromString(name(y.device())));
    return call_op("ones", {shape.get(), dtype.get(), device.get()});
  }
  if (!is_tensor(given)) type_error("backward: gradient must be a tensor, got ", Py_TYPE(given)->tp_name);
  if (array_of(given).shape() != y.shape())
    value_error("backward: gradient has shape ", array_of(given).shape(), ", the tensor has ", y.shape());
  return fit(Ref::share(given), y.shape(), y.dtype(), y.device());
}

}  // namespace

PyObject* set_row_sparse(PyObject*, PyObject* type) {
  g_row_sparse = Py_NewRef(type);
  Py_RETURN_NONE;
}
bool is_gradient(PyObject* object) { return is_tensor(object) || is_row_sparse(object); }

// backward(roots, gradients, inputs or None, retain_graph, create_graph): accumulates into the leaves' .grad,
// or returns the gradients of `inputs` (None for one that the roots do not depend on).
PyObject* run_backward(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    if (count != 5 || !PyTuple_Check(args[0]) || !PyTuple_Check(args[1]) ||
        (args[2] != Py_None && !PyTuple_Check(args[2])))
      type_error("_backward(roots, gradients, inputs, retain_graph, create_graph) takes tuples");
    PyObject *roots = args[0], *gradients = args[1], *inputs = args[2];
    const bool retain = PyObject_IsTrue(args[3]), create = PyObject_IsTrue(args[4]);
    const Py_ssize_t n = PyTuple_GET_SIZE(roots);
    if (PyTuple_GET_SIZE(gradients) != n)
      value_error("backward: ", n, " outputs but ", PyTuple_GET_SIZE(gradients), " gradients");
    Walk walk(retain, create);
    const OneLine line;
    // Gradients are computed in the precision of what they are gradients of, wherever backward is called.
    struct Plain {
      const bool before = std::exchange(g_autocast, false);
      ~Plain() { g_autocast = before; }
    } plain;
    std::vector<PyObject*> all;
    if (inputs != Py_None)
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(inputs); ++i) {
        PyObject* x = PyTuple_GET_ITEM(inputs, i);
        if (!is_tensor(x) || !tracks_gradient(x))
          runtime_error("grad: input ", i, " does not require a gradient");
        walk.want(x);
      }
    for (Py_ssize_t i = 0; i < n; ++i) {
      PyObject* root = PyTuple_GET_ITEM(roots, i);
      if (!is_tensor(root)) type_error("backward: expected a tensor, got ", Py_TYPE(root)->tp_name);
      if (!tracks_gradient(root))
        runtime_error(
            "backward: the tensor does not require a gradient: no input of it does, or it was computed "
            "under no_grad");
      walk.seed(root, root_gradient(root, PyTuple_GET_ITEM(gradients, i)));
      all.push_back(root);
    }
    walk.run(all);
    walk.finish_leaves();
    if (inputs == Py_None) {
      walk.store_leaves();
      Py_RETURN_NONE;
    }
    Ref result = checked(PyTuple_New(PyTuple_GET_SIZE(inputs)));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(inputs); ++i) {
      const Ref g = walk.result(PyTuple_GET_ITEM(inputs, i));
      PyTuple_SET_ITEM(result.get(), i, Py_NewRef(g ? g.get() : Py_None));
    }
    return result.release();
  });
}

}  // namespace ts::python
