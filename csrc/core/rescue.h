// Brings a preempted thread to the CPU of one that has nothing to do but to wait for it.
//
// When another program takes a core, the kernel preempts the thread there in the middle of a piece and
// may leave it in that core's queue for a whole time slice (4 ms at 250 Hz), while the threads that
// wait for the piece leave their own cores idle. So one of them moves it to its own core and makes room.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#endif

namespace ts {

#if defined(__linux__)

// A thread that may be moved: it says when it has a piece, others look whether it gets on with it.
class Rescue {
 public:
  // --- on the thread itself: once, before its pieces, and after them ---
  void start() {
    clockid_t clock;
    const bool known = pthread_getcpuclockid(pthread_self(), &clock) == 0;
    if (known) clock_.store(clock, std::memory_order_relaxed);
    thread_.store(known ? gettid() : 0);
  }
  void enter() { inside_.store(true, std::memory_order_relaxed); }
  void leave() { inside_.store(false); }
  // Undoes a move, if there was one: the thread stays here for now, but may go anywhere again.
  bool settle() {
    pid_t self = thread_.load(std::memory_order_relaxed);
    if (moved_.load() != self || self == 0) return false;
    const cpu_set_t home = home_;
    if (!moved_.compare_exchange_strong(self, 0)) return false;
    sched_setaffinity(0, sizeof home, &home);
    return true;
  }
  // Makes room here for another, then may run anywhere again.
  static void step_aside() {
    cpu_set_t home;
    const int cpu = sched_getcpu();
    if (cpu < 0 || sched_getaffinity(0, sizeof home, &home) != 0) return;
    cpu_set_t others = home;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
      sched_setaffinity(0, sizeof home, &home);
  }

  // --- on a thread that waits: look, and ask some µs later whether it stands still with a piece ---
  bool inside() const { return inside_.load(); }
  std::int64_t look() const {
    timespec t;
    if (thread_.load() == 0 || !inside()) return -1;
    if (clock_gettime(clock_.load(std::memory_order_relaxed), &t) != 0) return -1;
    return t.tv_sec * std::int64_t{1'000'000'000} + t.tv_nsec;
  }
  bool stopped_since(std::int64_t earlier) const {
    return earlier >= 0 && look() - earlier < 1000 && inside();
  }

  // True if the thread is now at this CPU and at no other, until it settles.
  bool move_here() {
    if (moving_.exchange(true)) return false;
    const bool moved = moved_.load() == 0 && move(thread_.load());
    moving_.store(false);
    return moved;
  }

  // CPUs that the calling thread may use.
  static int cpus() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  }

 private:
  bool move(pid_t thread) {
    const int cpu = sched_getcpu();
    cpu_set_t home, here;
    if (thread == 0 || cpu < 0 || sched_getaffinity(thread, sizeof home, &home) != 0) return false;
    if (CPU_COUNT(&home) < 2 || !CPU_ISSET(cpu, &home)) return false;
    home_ = home;
    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    if (sched_setaffinity(thread, sizeof here, &here) != 0) return false;
    moved_.store(thread);
    // If its pieces ended meanwhile it may not see that it was moved: one of the two undoes it.
    if (inside() && thread_.load() == thread) return true;
    if (moved_.compare_exchange_strong(thread, 0)) sched_setaffinity(thread, sizeof home, &home);
    return false;
  }

  std::atomic<pid_t> thread_{0};  // changes only between regions, where another thread is the caller
  std::atomic<clockid_t> clock_{};
  cpu_set_t home_;  // its mask before it was moved
  std::atomic<pid_t> moved_{0};
  std::atomic<bool> inside_{false}, moving_{false};
};

#else

class Rescue {
 public:
  void start() {}
  void enter() {}
  void leave() {}
  bool settle() { return false; }
  static void step_aside() {}
  bool inside() const { return false; }
  std::int64_t look() const { return -1; }
  bool stopped_since(std::int64_t) const { return false; }
  bool move_here() { return false; }
  static int cpus() { return 1; }
};

#endif

}  // namespace ts
