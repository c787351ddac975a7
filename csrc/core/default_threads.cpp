// How many threads to use: the lesser of the CPUs that this process may run on and the CPU time
// that its control groups grant it.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/threads.h"

namespace ts {
namespace {

constexpr int kMaxThreads = 256;

struct Choice {
  int threads;
  std::string reason;
};

int cpus_in_affinity_mask() {
#if defined(__linux__)
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (!set) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(cpus);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The least quota, in CPUs, of the group at `path` and of the groups above it; infinite when none has one.
template <class ReadQuota>
double least_quota(const std::string& mount, std::string path, const ReadQuota& read_quota) {
  double least = INFINITY;
  while (true) {
    least = std::min(least, read_quota(mount + path + "/"));
    if (path.empty()) return least;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

double quota(double microseconds, double period) {
  return microseconds > 0 && period > 0 ? microseconds / period : INFINITY;
}

double quota_v2(const std::string& group) {
  double limit = 0, period = 0;
  std::ifstream(group + "cpu.max") >> limit >> period;  // "max 100000" leaves 0
  return quota(limit, period);
}

double quota_v1(const std::string& group) {
  double limit = 0, period = 0;
  std::ifstream(group + "cpu.cfs_quota_us") >> limit;
  std::ifstream(group + "cpu.cfs_period_us") >> period;
  return quota(limit, period);
}

// Is "cpu" one of the names in ":cpu,cpuacct:"?
bool has_cpu(const std::string& controllers) {
  for (std::size_t at = 0; (at = controllers.find("cpu", at + 1)) != std::string::npos;)
    if (!std::isalpha(controllers[at - 1]) && !std::isalpha(controllers[at + 3])) return true;
  return false;
}

// Lines of /proc/self/cgroup: "0::/path" (v2) and "4:cpu,cpuacct:/path" (v1).
double cgroup_quota() {
  double least = INFINITY;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first, second - first + 1);  // ":cpu,cpuacct:"
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers == "::") {
      least = std::min(least, least_quota("/sys/fs/cgroup", path, quota_v2));
      least = std::min(least, least_quota("/sys/fs/cgroup/unified", path, quota_v2));
    } else if (has_cpu(controllers)) {
      for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"})
        least = std::min(least, least_quota(mount, path, quota_v1));
    }
  }
  return least;
}

std::string plural(int count) { return std::to_string(count) + (count == 1 ? " CPU" : " CPUs"); }

Choice choose() {
  if (const char* text = std::getenv("TENSORSMITH_NUM_THREADS"); text && *text) {
    const std::string value = text;
    int threads = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), threads);
    if (error != std::errc() || end != value.data() + value.size() || threads < 1 || threads > kMaxThreads)
      value_error("TENSORSMITH_NUM_THREADS must be an integer from 1 to ", kMaxThreads, ", got '", value,
                  "'");
    return {threads, "TENSORSMITH_NUM_THREADS=" + value};
  }
  const int cpus = std::min(cpus_in_affinity_mask(), kMaxThreads);
  const double limit = cgroup_quota();
  if (limit < cpus) {
    const int threads = std::max(1, static_cast<int>(std::ceil(limit)));
    std::ostringstream reason;
    reason << "the control group's quota of " << limit << " CPUs, of " << plural(cpus)
           << " in the affinity mask";
    return {threads, reason.str()};
  }
  return {cpus, plural(cpus) + " in this process's affinity mask, no lower control group quota"};
}

}  // namespace

int default_num_threads(const char** reason) {
  static const Choice choice = choose();
  if (reason) *reason = choice.reason.c_str();
  return choice.threads;
}

}  // namespace ts
