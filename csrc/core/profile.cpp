#include "core/profile.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <sstream>

#include "core/cost.h"
#include "core/error.h"
#include "core/shape.h"

namespace ts {

namespace {

constinit std::atomic<bool> g_profiling{false};
std::mutex g_mutex;
std::vector<Event> g_events;

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
  // What a function of the host launches is a part of it.
  static thread_local bool within = false;
  if (within) return thunk(function, views, attributes);
  struct Within {
    Within() { within = true; }
    ~Within() { within = false; }
  } inside;
  using Clock = std::chrono::steady_clock;
  const auto ns = [](Clock::duration d) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
  };
  const auto start = Clock::now();
  thunk(function, views, attributes);
  const auto end = Clock::now();
  double bytes = 0;
  for (int i = 0; i < count; ++i)
    if (views[i].data) bytes += bytes_of(views[i]);
  Event event{name, ns(start.time_since_epoch()), ns(end - start), flops_of(kernel, views, attributes), bytes,
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
