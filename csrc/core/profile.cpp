#include "core/profile.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <sstream>

#include "core/error.h"
#include "core/shape.h"

namespace ts {

namespace {

constinit std::atomic<bool> g_profiling{false};
std::mutex g_mutex;
std::vector<Event> g_events;

// Multiplications and additions, of the kernels that are made of them; 0 says that bytes are what counts.
double flops_of(Kernel kernel, const View* v) {
  const auto size = [](const View& x) { return static_cast<double>(x.size()); };
  switch (kernel) {
    case Kernel::gemm:  // a (B, M, K), c (B, M, N)
      return 2.0 * size(v[3]) * static_cast<double>(v[0].shape[2]);
    case Kernel::conv2d:  // every result is a sum over a weight's C KH KW
      return 2.0 * size(v[3]) * size(v[1]) / static_cast<double>(v[1].shape[0]);
    case Kernel::conv2d_input_backward:
      return 2.0 * size(v[0]) * size(v[1]) / static_cast<double>(v[1].shape[0]);
    case Kernel::conv2d_weight_backward:
      return 2.0 * size(v[0]) * size(v[2]) / static_cast<double>(v[2].shape[0]);
    default:
      return 0;
  }
}

// Each operand once; a broadcast axis is read once.
double bytes_of(const View* v, int count) {
  double bytes = 0;
  for (int i = 0; i < count; ++i) {
    if (!v[i].data) continue;
    double elements = 1;
    for (int k = 0; k < v[i].ndim; ++k)
      if (v[i].strides[k] != 0 || v[i].shape[k] == 0) elements *= static_cast<double>(v[i].shape[k]);
    bytes += elements * static_cast<double>(itemsize(v[i].dtype));
  }
  return bytes;
}

std::string shapes_of(const View* v, int count) {
  std::ostringstream text;
  for (int i = 0, shown = 0; i < count && shown < 4; ++i) {
    if (!v[i].data) continue;
    text << (shown++ ? " " : "") << Shape(v[i].shape, v[i].ndim);
  }
  return text.str();
}

}  // namespace

namespace detail {

bool profiling() { return g_profiling.load(std::memory_order_relaxed); }

void profile(const char* name, Kernel kernel, Function function, Thunk thunk, const View* views, int count,
             const std::byte* attributes, const std::string& line) {
  using Clock = std::chrono::steady_clock;
  const auto ns = [](Clock::duration d) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
  };
  const auto start = Clock::now();
  thunk(function, views, attributes);
  const auto end = Clock::now();
  Event event{
      name, ns(start.time_since_epoch()), ns(end - start), flops_of(kernel, views), bytes_of(views, count),
      line, shapes_of(views, count)};
  const std::lock_guard lock(g_mutex);
  g_events.push_back(std::move(event));
}

}  // namespace detail

void start_profile() {
  if (g_profiling.exchange(true)) runtime_error("profiler: already running");
  const std::lock_guard lock(g_mutex);
  g_events.clear();
  detail::g_watchers.fetch_add(1);
}

std::vector<Event> stop_profile() {
  if (!g_profiling.exchange(false)) runtime_error("profiler: not running");
  detail::g_watchers.fetch_sub(1);
  const std::lock_guard lock(g_mutex);
  return std::move(g_events);
}

}  // namespace ts
