// Streams, events, and graphs of captured work.
//
// Each thread has a current stream, at first the one that `open` made; kernels, copies and allocations go to
// it. Capture puts a stream of its own in that one's place, so that what other threads give theirs goes on,
// records what it is given (the driver's stream capture), and makes one launch of it.
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#include "cuda/runtime.h"

namespace ts::cuda {

struct Graph {
  Stream stream;             // that is captured
  Stream* before = nullptr;  // this thread's
  Pool* pool = nullptr;
  cudaGraphExec_t executable = nullptr;
  std::vector<void*> kept;     // host memory
  std::vector<void*> dropped;  // graphs that were given up while this one was captured
};

namespace {

struct Streams {
  std::mutex mutex;
  Stream first;
  std::vector<Stream*> others;
  std::vector<cudaEvent_t> spare;  // without timing
};
Streams& streams() {
  static auto* all = new Streams;
  return *all;
}
std::atomic<std::uint64_t> g_clock{0};
thread_local Stream* t_stream = nullptr;
thread_local Graph* t_graph = nullptr;

void release(Graph* g) {
  join_pools(g->pool, streams().first.pool);
  for (void* p : g->kept) std::free(p);
  delete g;
}
// After the capture.
void destroy_dropped(Graph* g) noexcept {
  for (void* graph : g->dropped) graph_destroy(graph);
  g->dropped.clear();
}

}  // namespace

void open_streams() {
  Streams& s = streams();
  check(cudaStreamCreateWithFlags(&s.first.handle, cudaStreamNonBlocking), "making a stream");
  s.first.pool = make_pool(false);
}

Stream& current_stream() { return t_stream ? *t_stream : streams().first; }
Stream& stream_of(void* handle) { return handle ? *static_cast<Stream*>(handle) : streams().first; }
std::uint64_t now() { return g_clock.load(std::memory_order_relaxed); }
Graph* capturing() { return t_graph; }
Pool* capture_pool() { return t_graph ? t_graph->pool : nullptr; }

cudaStream_t stream() {
  Stream& s = current_stream();
  s.work.store(g_clock.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return s.handle;
}

void* keep_for_replays(const void* from, std::int64_t bytes) {
  void* copy = std::malloc(static_cast<std::size_t>(bytes > 0 ? bytes : 1));
  if (!copy) memory_error("cuda: no memory of the host for %lld bytes", static_cast<long long>(bytes));
  std::memcpy(copy, from, static_cast<std::size_t>(bytes));
  t_graph->kept.push_back(copy);
  return copy;
}

int record_uses(std::uint64_t since, const Stream* except, cudaEvent_t (&events)[kMostStreams]) {
  Streams& all = streams();
  const std::lock_guard lock(all.mutex);
  int count = 0;
  const auto look = [&](Stream& s) {
    if (&s == except || s.work.load(std::memory_order_relaxed) <= since) return;
    cudaEvent_t event;
    if (!all.spare.empty()) {
      event = all.spare.back();
      all.spare.pop_back();
    } else if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming) != cudaSuccess) {
      cudaGetLastError();
      cudaStreamSynchronize(s.handle);  // no event to be had: wait instead
      return;
    }
    cudaEventRecord(event, s.handle);
    events[count++] = event;
  };
  if (all.others.empty() && except) return 0;  // the usual case: one stream, which orders its own memory
  look(all.first);
  for (Stream* s : all.others) look(*s);
  return count;
}
void return_event(cudaEvent_t event) {
  Streams& all = streams();
  const std::lock_guard lock(all.mutex);
  all.spare.push_back(event);
}

void* stream_create(bool urgent) {
  Streams& all = streams();
  {
    const std::lock_guard lock(all.mutex);
    if (all.others.size() + 1 >= kMostStreams)
      runtime_error("cuda: %d streams are in use, and no more can be had", kMostStreams);
  }
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities");
  auto* s = new Stream;
  if (const cudaError_t e =
          cudaStreamCreateWithPriority(&s->handle, cudaStreamNonBlocking, urgent ? greatest : least);
      e != cudaSuccess) {
    delete s;
    check(e, "making a stream");
  }
  s->pool = make_pool(false);
  const std::lock_guard lock(all.mutex);
  all.others.push_back(s);
  return s;
}
void stream_destroy(void* handle) noexcept {
  if (!handle) return;
  Streams& all = streams();
  auto* s = static_cast<Stream*>(handle);
  cudaStreamSynchronize(s->handle);
  {
    const std::lock_guard lock(all.mutex);
    std::erase(all.others, s);
  }
  join_pools(s->pool, all.first.pool);
  cudaStreamDestroy(s->handle);
  if (t_stream == s) t_stream = nullptr;
  delete s;
}
void* stream_current() { return t_graph ? t_graph->before : t_stream; }
void stream_set(void* handle) {
  if (t_graph) runtime_error("cuda: the stream cannot be changed while its work is captured");
  t_stream = static_cast<Stream*>(handle);
}
void stream_synchronize(void* handle) {
  check(cudaStreamSynchronize(stream_of(handle).handle), "waiting for a stream");
  tell_complaints();
}
namespace {
bool done(cudaError_t status, const char* call) {
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(status, call);
  return true;
}
}  // namespace
bool stream_done(void* handle) { return done(cudaStreamQuery(stream_of(handle).handle), "asking a stream"); }
void* stream_handle(void* handle) { return stream_of(handle).handle; }

void* event_create(bool timing) {
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, timing ? cudaEventDefault : cudaEventDisableTiming),
        "making an event");
  return event;
}
void event_destroy(void* event) noexcept { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }
void event_record(void* event, void* handle) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), stream_of(handle).handle), "recording an event");
}
void event_wait(void* event, void* handle) {
  check(cudaStreamWaitEvent(stream_of(handle).handle, static_cast<cudaEvent_t>(event), 0),
        "letting a stream wait");
}
void event_synchronize(void* event) {
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "waiting for an event");
  tell_complaints();
}
bool event_done(void* event) {
  return done(cudaEventQuery(static_cast<cudaEvent_t>(event)), "asking an event");
}
double event_elapsed(void* begin, void* end) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(begin), static_cast<cudaEvent_t>(end)),
        "the time between two events (record both with timing, and wait for the later)");
  return static_cast<double>(milliseconds);
}

// --- graphs ------------------------------------------------------------------------------------------------

void capture_begin() {
  if (t_graph) runtime_error("cuda: this thread captures already");
  auto* g = new Graph;
  cudaError_t status = cudaStreamCreateWithFlags(&g->stream.handle, cudaStreamNonBlocking);
  if (status == cudaSuccess) status = cudaStreamBeginCapture(g->stream.handle, cudaStreamCaptureModeRelaxed);
  if (status != cudaSuccess) {
    if (g->stream.handle) cudaStreamDestroy(g->stream.handle);
    delete g;
    check(status, "beginning a capture");
  }
  g->stream.pool = g->pool = make_pool(true);
  g->before = std::exchange(t_stream, &g->stream);
  t_graph = g;
}
namespace {
// What was captured; the thread's stream is its own again.
Graph* stop_capture(cudaGraph_t& graph, cudaError_t& status) noexcept {
  Graph* g = std::exchange(t_graph, nullptr);
  t_stream = g->before;
  status = cudaStreamEndCapture(g->stream.handle, &graph);
  cudaStreamDestroy(g->stream.handle);
  return g;
}
}  // namespace
void* capture_end() {
  if (!t_graph) runtime_error("cuda: this thread captures nothing");
  cudaGraph_t graph = nullptr;
  cudaError_t status;
  Graph* const g = stop_capture(graph, status);
  if (status == cudaSuccess) status = cudaGraphInstantiate(&g->executable, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  destroy_dropped(g);
  if (status != cudaSuccess) {
    cudaGetLastError();
    release(g);
    check(status, "ending a capture");
  }
  return g;
}
void capture_abandon() noexcept {
  if (!t_graph) return;
  cudaGraph_t graph = nullptr;
  cudaError_t status;
  Graph* const g = stop_capture(graph, status);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
  destroy_dropped(g);
  release(g);
}
void graph_launch(void* graph) {
  check(cudaGraphLaunch(static_cast<Graph*>(graph)->executable, stream()), "launching a graph");
}
void graph_destroy(void* graph) noexcept {
  if (t_graph) return t_graph->dropped.push_back(graph);  // nothing may wait
  auto* g = static_cast<Graph*>(graph);
  cudaDeviceSynchronize();  // replays may be on their way
  cudaGraphExecDestroy(g->executable);
  release(g);
}

}  // namespace ts::cuda
