// What the runtime costs: allocation, the hand-off of parallel work, and the company of a busy process.
//
// clang-format off
//   g++ -std=c++20 -O3 -pthread -Icsrc bench/runtime.cpp csrc/core/{allocator,scratch,threads,default_threads}.cpp -o runtime
// clang-format on

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "core/allocator.h"
#include "core/threads.h"

namespace {

double seconds(clockid_t clock = CLOCK_MONOTONIC) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class Body>
void parallel_for(std::int64_t pieces, const Body& body) {
  ts::parallel_for(
      pieces, [](void* context, std::int64_t piece) { (*static_cast<const Body*>(context))(piece); },
      const_cast<Body*>(&body));
}

// The least of 20 medians of 500 runs, in µs.
template <class Body>
double typical(const Body& body) {
  double least = 1e9;
  for (int k = 0; k < 20; ++k) {
    std::vector<double> times(500);
    for (double& time : times) {
      const double start = seconds();
      body();
      time = seconds() - start;
    }
    std::nth_element(times.begin(), times.begin() + 250, times.end());
    least = std::min(least, times[250]);
  }
  return least * 1e6;
}

// A chain of dependent multiplications: `steps` of them take the same time on every core.
[[gnu::noinline]] void compute(long steps) {
  double a = 1;
  for (long i = 0; i < steps; ++i) {
    a = a * 1.0000001 + 1e-9;
    asm volatile("" : "+x"(a));
  }
}
double microseconds_per_step() {
  return typical([] { compute(2000); }) / 2000;
}

void allocation() {
  for (std::size_t bytes : {64ul, 1000ul, 65536ul, 1ul << 20, 8ul << 20, 256ul << 20}) {
    const auto pair = [&](auto&& take, auto&& give, int count) {
      give(take(bytes));
      const double start = seconds(CLOCK_THREAD_CPUTIME_ID);
      for (int i = 0; i < count; ++i) {
        void* block = take(bytes);
        asm volatile("" ::"r"(block) : "memory");
        give(block);
      }
      return (seconds(CLOCK_THREAD_CPUTIME_ID) - start) / count * 1e9;
    };
    const double ours = pair([](std::size_t n) { return ts::allocate(n); },
                             [&](void* block) { ts::deallocate(block, bytes); }, 200000);
    const double libc = pair([](std::size_t n) { return std::malloc(n); },
                             [](void* block) { std::free(block); }, bytes > 1 << 20 ? 2000 : 200000);
    std::printf("allocate and free %9zu bytes: %5.1f ns (malloc %.1f)\n", bytes, ours, libc);
  }
  constexpr std::size_t kBytes = 16 << 20;
  const auto fill = [](void* block) {
    const double start = seconds();
    std::memset(block, 1, kBytes);
    return (seconds() - start) * 1e6;
  };
  void* block = ts::allocate(kBytes);
  const double first = fill(block);
  ts::deallocate(block, kBytes);
  block = ts::allocate(kBytes);
  const double again = fill(block);
  ts::deallocate(block, kBytes);
  block = std::malloc(kBytes);
  std::printf("fill 16 MiB: %.0f us new, %.0f us reused (malloc %.0f)\n", first, again, fill(block));
  std::free(block);
}

void hand_off(double per_step) {
  for (int threads : {1, 2}) {
    ts::set_num_threads(threads);
    std::printf("%d threads, 2 pieces of", threads);
    for (double work : {0., 1., 5., 50.}) {
      const long steps = static_cast<long>(work / per_step);
      std::printf("  %g us: %.2f us", work,
                  typical([&] { parallel_for(2, [&](std::int64_t) { compute(steps); }); }));
    }
    std::puts("");
  }
}

// Regions of `pieces` pieces with `gap` µs of serial work between them, for one second; mean in µs.
double mean_region(std::int64_t pieces, double work, double gap, double per_step) {
  const long steps = static_cast<long>(work / per_step), between = static_cast<long>(gap / per_step);
  const double start = seconds();
  int count = 0;
  for (; seconds() - start < 1; ++count) {
    parallel_for(pieces, [&](std::int64_t) { compute(steps); });
    compute(between);
  }
  return (seconds() - start) / count * 1e6;
}

// The slowdown when a spinning process takes one core of two.
void neighbour(double per_step) {
  ts::set_num_threads(2);
  struct Load {
    std::int64_t pieces;
    double work, gap;
  };
  for (const Load& load : {Load{16, 20, 0}, Load{16, 100, 0}, Load{2, 100, 20}, Load{8, 1000, 0}}) {
    const double alone = mean_region(load.pieces, load.work, load.gap, per_step);
    const pid_t spinner = fork();
    if (spinner == 0)
      while (true) compute(1000);
    const double together = mean_region(load.pieces, load.work, load.gap, per_step);
    kill(spinner, SIGKILL);
    waitpid(spinner, nullptr, 0);
    std::printf("%2ld pieces of %4g us, %2g us between: %.0f us alone, %.0f beside a busy process: x%.2f\n",
                static_cast<long>(load.pieces), load.work, load.gap, alone, together, together / alone);
  }
}

}  // namespace

int main() {
  allocation();
  const double per_step = microseconds_per_step();
  hand_off(per_step);
  neighbour(per_step);
}
