// The tape: its nodes, and how a call is recorded. The walk back over them is in backward.cpp.
#include "python/autograd.h"

namespace ts::python {

thread_local bool g_grad_enabled = true;

namespace {

PyTypeObject* g_node_type;
std::uint64_t g_sequence = 0;  // under the GIL

NodeObject* new_node() {
  NodeObject* n = PyObject_GC_New(NodeObject, g_node_type);
  if (!n) throw PythonError{};
  n->sequence = ++g_sequence;
  n->op = nullptr;
  n->freed = n->is_view = false;
  n->weakrefs = nullptr;
  new (&n->function) Ref;
  new (&n->name) Ref;
  new (&n->edges) std::vector<Edge>;
  new (&n->arguments) std::vector<Ref>;
  new (&n->inputs) std::vector<Saved>;
  new (&n->outputs) std::vector<Saved>;
  new (&n->shapes) std::vector<Shape>;
  new (&n->dtypes) std::vector<DType>;
  new (&n->hooks) std::vector<Ref>;
  return n;
}

int node_traverse(PyObject* self, visitproc visit, void* arg) {
  NodeObject* n = as_node(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(n->function.get());
  for (const Edge& e : n->edges) Py_VISIT(e.target.get());
  for (const Ref& a : n->arguments) Py_VISIT(a.get());
  for (const Saved& s : n->inputs) Py_VISIT(s.tensor.get());
  for (const Ref& h : n->hooks) Py_VISIT(h.get());
  return 0;
}

int node_clear(PyObject* self) {
  NodeObject* n = as_node(self);
  release(n);
  auto edges = std::move(n->edges);
  auto hooks = std::move(n->hooks);
  n->edges.clear();
  n->hooks.clear();
  return 0;
}

void node_dealloc(PyObject* self) {
  NodeObject* n = as_node(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (n->weakrefs) PyObject_ClearWeakRefs(self);
  Py_TRASHCAN_BEGIN(self, node_dealloc) n->function.~Ref();
  n->name.~Ref();
  n->edges.~vector();
  n->arguments.~vector();
  n->inputs.~vector();
  n->outputs.~vector();
  n->shapes.~vector();
  n->dtypes.~vector();
  n->hooks.~vector();
  type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

PyObject* node_name(PyObject* self, void*) { return PyUnicode_FromString(node_label(as_node(self))); }
PyObject* node_repr(PyObject* self) { return PyUnicode_FromFormat("<node %s>", node_label(as_node(self))); }
PyObject* node_next(PyObject* self, void*) {
  const auto& edges = as_node(self)->edges;
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(edges.size()));
  for (std::size_t i = 0; tuple && i < edges.size(); ++i)
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), Py_NewRef(edges[i].target.get()));
  return tuple;
}

PyGetSetDef node_getset[] = {
    {"name", node_name, nullptr, "The operation that was recorded.", nullptr},
    {"next_functions", node_next, nullptr, "The nodes and leaves that its gradients go to.", nullptr},
    {}};
PyMemberDef node_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(NodeObject, weakrefs), READONLY, nullptr}, {}};

// The edge of one tensor argument: to the node that made it, or to the leaf itself.
void add_edge(NodeObject* n, PyObject* tensor, int parameter, int position) {
  const TensorObject* t = as_tensor(tensor);
  const Autograd& a = *t->autograd;
  n->edges.push_back({parameter, position, a.node ? a.node : Ref::share(tensor), a.output, t->array.shape(),
                      t->array.dtype(), t->array.device()});
}

}  // namespace

// Moved out first: freeing may run arbitrary code.
void release(NodeObject* n) {
  auto function = std::move(n->function);
  auto arguments = std::move(n->arguments);
  auto inputs = std::move(n->inputs);
  auto outputs = std::move(n->outputs);
  n->function = Ref();
  n->arguments.clear();
  n->inputs.clear();
  n->outputs.clear();
}

const char* node_label(const NodeObject* n) {
  if (n->op) return n->op->name.c_str();
  return n->name ? PyUnicode_AsUTF8(n->name.get()) : "function";
}

void set_output(NodeObject* n, PyObject* tensor, int output, bool is_view) {
  Autograd& a = autograd_of(tensor);
  a.node = Ref::share(reinterpret_cast<PyObject*>(n));
  a.output = output;
  a.requires_grad = false;
  a.view_version = is_view ? array_of(tensor).storage()->version() : 0;
}

bool is_node(PyObject* object) { return Py_TYPE(object) == g_node_type; }

void check_view(const char* operation, PyObject* tensor) {
  const TensorObject* t = as_tensor(tensor);
  const Autograd* a = t->autograd;
  if (a && a->node && as_node(a->node.get())->is_view && a->view_version != t->array.storage()->version())
    runtime_error(
        operation, ": an argument is a view (", node_label(as_node(a->node.get())),
        ") of memory that was modified in place after the view was taken; its gradient would be wrong. "
        "Take the view after the modification");
}

void record(Op& op, PyObject* const* arguments, const std::uint32_t* versions, Results& arrays,
            PyObject* const* results, bool is_view) {
  NodeObject* n = new_node();
  const Ref owner(reinterpret_cast<PyObject*>(n));
  n->op = &op;
  n->is_view = is_view;
  const std::size_t parameters = op.roles.size();
  n->edges.reserve(2);
  for (std::size_t i = 0; i < parameters; ++i) {
    PyObject* a = arguments[i];
    if (op.roles[i] == Role::tensor) {
      if (is_tensor(a) && tracks_gradient(a)) add_edge(n, a, static_cast<int>(i), 0);
    } else if (op.roles[i] == Role::tensors) {
      for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(a); ++k) {
        PyObject* item = PySequence_Fast_GET_ITEM(a, k);
        if (is_tensor(item) && tracks_gradient(item))
          add_edge(n, item, static_cast<int>(i), static_cast<int>(k));
      }
    }
  }
  if (op.saved_parameters) {
    n->inputs.resize(parameters);
    n->arguments.resize(parameters);
    for (std::size_t i = 0; i < parameters; ++i) {
      if (!(op.saved_parameters >> i & 1)) continue;
      if (op.roles[i] == Role::tensor && is_tensor(arguments[i]))
        n->inputs[i] = {Ref::share(arguments[i]), {}, versions[i]};
      else
        n->arguments[i] = Ref::share(arguments[i]);
    }
  }
  const int outputs = arrays.size();
  n->shapes.reserve(static_cast<std::size_t>(outputs));
  for (int i = 0; i < outputs; ++i) {
    n->shapes.push_back(arrays[i].shape());
    n->dtypes.push_back(arrays[i].dtype());
  }
  if (op.saved_outputs) {
    n->outputs.resize(static_cast<std::size_t>(outputs));
    for (int i = 0; i < outputs; ++i)
      if (op.saved_outputs >> i & 1)
        n->outputs[static_cast<std::size_t>(i)] = {Ref(), arrays[i], arrays[i].storage()->version()};
  }
  const int returned = op.returns_list ? outputs : op.returned;
  for (int i = 0; i < returned; ++i)
    if (has_gradient(array_of(results[i]).dtype())) set_output(n, results[i], i, is_view);
  PyObject_GC_Track(owner.get());
}

// record(name, function, inputs, outputs): makes `outputs` the results of a node whose backward is the Python
// `function`: called with the outputs' gradients, it returns one for each input. The node, for hooks.
PyObject* record_python(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    if (count != 4 || !PyTuple_Check(args[2]) || !PyTuple_Check(args[3]))
      type_error("_record(name, function, inputs, outputs) takes tuples");
    NodeObject* n = new_node();
    Ref owner(reinterpret_cast<PyObject*>(n));
    n->name = Ref::share(args[0]);
    n->function = Ref::share(args[1]);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[2]); ++i) {
      PyObject* x = PyTuple_GET_ITEM(args[2], i);
      if (!is_tensor(x) || !tracks_gradient(x)) continue;
      check_view(node_label(n), x);
      add_edge(n, x, 0, static_cast<int>(i));
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[3]); ++i) {
      PyObject* y = PyTuple_GET_ITEM(args[3], i);
      if (!is_tensor(y)) type_error("_record: outputs must be tensors, got ", Py_TYPE(y)->tp_name);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[3]); ++i) {
      PyObject* y = PyTuple_GET_ITEM(args[3], i);
      n->shapes.push_back(array_of(y).shape());
      n->dtypes.push_back(array_of(y).dtype());
      if (has_gradient(array_of(y).dtype())) set_output(n, y, static_cast<int>(i), false);
    }
    PyObject_GC_Track(owner.get());
    return owner.release();
  });
}

bool init_autograd(PyObject* module) {
  static PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(node_dealloc)},
                                {Py_tp_traverse, reinterpret_cast<void*>(node_traverse)},
                                {Py_tp_clear, reinterpret_cast<void*>(node_clear)},
                                {Py_tp_repr, reinterpret_cast<void*>(node_repr)},
                                {Py_tp_getset, node_getset},
                                {Py_tp_members, node_members},
                                {0, nullptr}};
  static PyType_Spec spec = {"tensorsmith._core.Node", sizeof(NodeObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                             slots};
  g_node_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return g_node_type && PyModule_AddObjectRef(module, "Node", reinterpret_cast<PyObject*>(g_node_type)) == 0;
}

}  // namespace ts::python
