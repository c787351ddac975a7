// The profiler: every call at the door with its time, and what it cost in operations and bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/watch.h"

namespace ts {

struct Event {
  const char* name;
  std::int64_t start, duration;  // ns, of the steady clock
  double flops, bytes;
  std::string line, shapes;
};

// Every call of the process from here on, until `stop_profile`.
void start_profile();
std::vector<Event> stop_profile();

namespace detail {
bool profiling();
void profile(const char* name, Kernel kernel, Function function, Thunk thunk, const View* views, int count,
             const std::byte* attributes, const std::string& line);
inline void profile(const Call& call, const std::string& line) {
  profile(call.name, call.kernel, call.function, call.thunk, call.views.data(),
          static_cast<int>(call.views.size()), call.attributes.data(), line);
}
}  // namespace detail

}  // namespace ts
