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
  // After leave(), or between two pieces: undoes a move, if there was one; the thread stays here for now, but
  // may go anywhere again. A move under way is waited for, so the mask is whole when this returns after
  // leave(); and none begins meanwhile, or it might end after what undoes it.
  bool settle() {
    if (!moving_.load() && !moved_.load(std::memory_order_relaxed)) return false;
    while (moving_.exchange(true)) sched_yield();
    const bool moved = moved_.load(std::memory_order_relaxed);
    if (moved) {
      moved_.store(false, std::memory_order_relaxed);
      sched_setaffinity(0, sizeof home_, &home_);
    }
    moving_.store(false);
    return moved;
  }
  // In a forked child, where no other thread finishes a move.
  void abandon() {
    moving_.store(false);
    settle();
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
    const bool moved = !moved_.load(std::memory_order_relaxed) && inside() && move(thread_.load());
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
    moved_.store(true, std::memory_order_relaxed);
    if (sched_setaffinity(thread, sizeof here, &here) == 0) return true;
    moved_.store(false, std::memory_order_relaxed);
    return false;
  }

  std::atomic<pid_t> thread_{0};  // changes only between regions, where another thread is the caller
  std::atomic<clockid_t> clock_{};
  std::atomic<bool> inside_{false};
  // Held by who moves it or undoes a move. A mover takes it before it asks inside(), and settle() looks at it
  // after leave(): either the mover sees that there is nothing to move, or settle() waits for it.
  std::atomic<bool> moving_{false};
  std::atomic<bool> moved_{false};
  cpu_set_t home_;  // its mask before it was moved
};

#else

class Rescue {
 public:
  void start() {}
  void enter() {}
  void leave() {}
  bool settle() { return false; }
  void abandon() {}
  static void step_aside() {}
  bool inside() const { return false; }
  std::int64_t look() const { return -1; }
  bool stopped_since(std::int64_t) const { return false; }
  bool move_here() { return false; }
  static int cpus() { return 1; }
};

#endif

}  // namespace ts
