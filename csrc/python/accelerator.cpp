// Memory, streams, events and graphs of the accelerator, as thin classes around the library's handles.
#include "python/accelerator.h"

#include "core/dispatch.h"
#include "ops/device.h"
#include "python/convert.h"

namespace py = pybind11;

namespace ts::python {

namespace {

const Accelerator& device() { return accelerator(Device::cuda); }

struct Stream {
  void* handle;
  bool owned;
  Stream(void* h, bool own) : handle(h), owned(own) {}
  Stream(const Stream&) = delete;
  ~Stream() {
    if (owned) device().stream_destroy(handle);
  }
};
struct Event {
  void* handle;
  explicit Event(bool timing) : handle(device().event_create(timing)) {}
  Event(const Event&) = delete;
  ~Event() { device().event_destroy(handle); }
};
struct Graph {
  void* handle = nullptr;
  Graph() = default;
  Graph(const Graph&) = delete;
  ~Graph() {
    if (handle) device().graph_destroy(handle);
  }
};

// Waits without the interpreter's lock.
template <class F>
void waiting(F f) {
  const Accelerator& d = device();
  const py::gil_scoped_release unlocked;
  f(d);
}

}  // namespace

void bind_accelerator(py::module_& cuda) {
  cuda.def("state", [] {
    const AcceleratorState state = accelerator_state();
    return py::make_tuple(state.available, state.reason);
  });
  cuda.def("synchronize", [] { waiting([](const Accelerator& d) { d.synchronize(); }); });
  cuda.def("empty_cache", [] { device().empty_cache(); });
  cuda.def("reset_peak", [] { device().reset_peak(); });
  cuda.def("memory_stats", [] {
    DeviceMemory s;
    device().memory(&s);
    py::dict d;
    d["live_bytes"] = s.live_bytes;
    d["peak_bytes"] = s.peak_bytes;
    d["cached_bytes"] = s.cached_bytes;
    d["system_bytes"] = s.system_bytes;
    d["live_blocks"] = s.live_blocks;
    d["allocations"] = s.allocations;
    d["pinned_bytes"] = s.pinned_bytes;
    return d;
  });
  cuda.def("properties", [] {
    DeviceProperties p;
    device().properties(&p);
    py::dict d;
    d["name"] = p.name;
    d["capability"] = py::make_tuple(p.major, p.minor);
    d["multiprocessors"] = p.multiprocessors;
    d["memory"] = p.memory;
    d["l2_cache"] = p.l2_cache;
    d["shared_memory"] = p.shared_memory;
    d["driver"] = p.driver;
    d["runtime"] = p.runtime;
    return d;
  });

  py::class_<Stream>(cuda, "Stream")
      .def(py::init(
               [](bool urgent) { return std::make_unique<Stream>(device().stream_create(urgent), true); }),
           py::arg("urgent"))
      .def("synchronize",
           [](Stream& s) { waiting([&](const Accelerator& d) { d.stream_synchronize(s.handle); }); })
      .def("done", [](Stream& s) { return device().stream_done(s.handle); })
      .def("wait", [](Stream& s, Event& e) { device().event_wait(e.handle, s.handle); })
      .def("same", [](Stream& s, Stream& other) { return s.handle == other.handle; })
      .def("set", [](Stream& s) { device().stream_set(s.handle); })
      .def("handle",
           [](Stream& s) { return reinterpret_cast<std::uintptr_t>(device().stream_handle(s.handle)); });
  cuda.def("current_stream", [] { return std::make_unique<Stream>(device().stream_current(), false); });
  cuda.def("first_stream", [] { return std::make_unique<Stream>((device(), nullptr), false); });

  py::class_<Event>(cuda, "Event")
      .def(py::init<bool>(), py::arg("timing"))
      .def("record", [](Event& e, Stream& s) { device().event_record(e.handle, s.handle); })
      .def("synchronize",
           [](Event& e) { waiting([&](const Accelerator& d) { d.event_synchronize(e.handle); }); })
      .def("done", [](Event& e) { return device().event_done(e.handle); })
      .def("elapsed", [](Event& e, Event& end) { return device().event_elapsed(e.handle, end.handle); });

  py::class_<Graph>(cuda, "Graph")
      .def(py::init<>())
      .def("begin",
           [](Graph& g) {
             if (g.handle) runtime_error("cuda.Graph: it has been captured; make another one");
             device().capture_begin();
           })
      .def("end", [](Graph& g) { g.handle = device().capture_end(); })
      .def("abandon", [](Graph&) { device().capture_abandon(); })
      .def("launch", [](Graph& g) {
        if (!g.handle) runtime_error("cuda.Graph: nothing was captured yet; see ts.cuda.graph");
        device().graph_launch(g.handle);
      });

  cuda.def("is_pinned", [](py::object x) { return ops::is_pinned(array_from("is_pinned", x.ptr(), true)); });
  cuda.def("set_matmul_precision",
           [](int precision) { device().set_matmul_precision(static_cast<MatmulPrecision>(precision)); });
  cuda.def("matmul_precision", [] { return static_cast<int>(device().matmul_precision()); });
}

}  // namespace ts::python
