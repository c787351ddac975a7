// Brings a preempted worker to the CPU of the thread that waits for it.
//
// When another program takes a core, the kernel preempts the worker there in the middle of a piece
// and may leave it in that core's queue for a whole time slice (4 ms at 250 Hz), while the caller,
// which has nothing left to do but to wait, leaves its own core idle. So the caller moves the worker
// to its own core, sleeps until the piece is done, and the worker then goes back among the others.
#pragma once

#include <atomic>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace ts {

#if defined(__linux__)

class Rescue {
 public:
  // On the worker: at its start, before its pieces, after them, and when the caller knows of that.
  void start() {
    thread_ = gettid();
    ready_ = pthread_getcpuclockid(pthread_self(), &clock_) == 0;
  }
  void enter() { inside_.store(true, std::memory_order_relaxed); }
  void leave() { inside_.store(false); }
  void go_home() {
    if (moved_.load() && moved_.exchange(false)) restore(0);
  }

  // On the thread that waits: look, and some µs later ask whether the worker, with a piece in hand,
  // has had no CPU time since.
  void look() { seen_ = cpu_time(); }
  bool stopped() const { return seen_ >= 0 && cpu_time() - seen_ < 1000 && inside_.load(); }
  void move_here() {
    const int cpu = sched_getcpu();
    if (moved_.load() || cpu < 0 || sched_getaffinity(thread_, sizeof home_, &home_) != 0) return;
    if (CPU_COUNT(&home_) < 2 || !CPU_ISSET(cpu, &home_)) return;
    from_ = cpu;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    if (sched_setaffinity(thread_, sizeof here, &here) != 0) return;
    moved_.store(true);
    // If it has left meanwhile it may not have seen that it was moved: one of the two undoes it.
    if (!inside_.load() && moved_.exchange(false)) restore(thread_);
  }

  static int cpus() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  }

 private:
  std::int64_t cpu_time() const {
    timespec t;
    if (!ready_ || !inside_.load() || clock_gettime(clock_, &t) != 0) return -1;
    return t.tv_sec * std::int64_t{1'000'000'000} + t.tv_nsec;
  }
  // Away from the caller's CPU, then free again to be anywhere in its mask.
  void restore(pid_t thread) const {
    cpu_set_t others = home_;
    CPU_CLR(from_, &others);
    sched_setaffinity(thread, sizeof others, &others);
    sched_setaffinity(thread, sizeof home_, &home_);
  }

  pid_t thread_ = 0;
  clockid_t clock_{};
  bool ready_ = false;
  cpu_set_t home_;
  int from_ = 0;
  std::int64_t seen_ = -1;  // the waiting thread's
  std::atomic<bool> inside_{false}, moved_{false};
};

#else

class Rescue {
 public:
  void start() {}
  void enter() {}
  void leave() {}
  void go_home() {}
  void look() {}
  bool stopped() const { return false; }
  void move_here() {}
  static int cpus() { return 1; }
};

#endif

}  // namespace ts
