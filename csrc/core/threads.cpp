// The thread pool. A region is one word, `gate`, which the caller opens, workers join and leave, and
// the caller closes. Each thread takes the pieces of a range of its own, then what is left of the others':
// the thread that worked on a part of an array has it in its cache when the next kernel comes to it. A
// worker that arrives late finds the gate closed and touches nothing, so the caller never waits for a
// thread that holds no piece.
//
// Cost of a region on hot workers: one store, one joined worker and one leaving it, 0.1 to 0.3 µs.
#include "core/threads.h"

#include <cxxabi.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/error.h"
#include "core/rescue.h"
#include "core/unlocked.h"

namespace ts {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kMaxThreads = 256;
constexpr auto kWorkerSpin = microseconds(100);  // a loop of small operations keeps its workers awake
constexpr auto kCallerSpin = microseconds(20);   // then sleep: a preempted worker can have this core
constexpr auto kLook = microseconds(5);          // a running thread's CPU time moves in this time
constexpr auto kLookAgain = microseconds(500);   // how often one who sleeps looks again
constexpr auto kReleaseAfter = microseconds(20);
constexpr auto kPollEvery = milliseconds(50);

// The calling thread is running a piece, or the pieces of a region it called. Atomic because GCC 12
// at -O3 drops a plain store that only an unwinding exception leaves behind.
constinit thread_local std::atomic<bool> inside_region [[gnu::tls_model("initial-exec")]] = false;

// A number for each thread that has called parallel_for, never used again (a thread's id may be).
constinit thread_local std::uint64_t own_number [[gnu::tls_model("initial-exec")]] = 0;
constinit std::atomic<std::uint64_t> last_number{0};

// When this thread, as a caller, is to look for interrupts; in Clock's ticks.
constinit thread_local std::atomic<Clock::rep> next_poll [[gnu::tls_model("initial-exec")]] = 0;

// Whether this thread's last region took its pieces from the last to the first. Each goes the other way than
// the one before, and so begins with what that one left in the caches.
constinit thread_local bool backwards [[gnu::tls_model("initial-exec")]] = false;

// An Unlocked of this thread has given up the interpreter's lock.
constinit thread_local std::atomic<bool> unlocked [[gnu::tls_model("initial-exec")]] = false;

constinit ThreadHooks hooks{nullptr, nullptr, nullptr};

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Sleeps if `word` still holds `value`, at most for `limit` if one is given; may return early.
void sleep_on(std::atomic<std::uint32_t>& word, std::uint32_t value, microseconds limit = microseconds(0)) {
#if defined(__linux__)
  const timespec time{0, limit.count() * 1000};
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, limit.count() ? &time : nullptr, nullptr, 0);
#else
  static_cast<void>(limit);
  word.wait(value);
#endif
}
void wake(std::atomic<std::uint32_t>& word, int sleepers) {
#if defined(__linux__)
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, sleepers, nullptr, nullptr, 0);
#else
  static_cast<void>(sleepers);
  word.notify_all();
#endif
}

// What the caller does between pieces: gives up the interpreter's lock once the work turns out to be
// real, and answers interrupts. The lock comes back when the region ends, however it ends.
class Caller {
 public:
  Caller() { inside_region.store(true, std::memory_order_relaxed); }
  Caller(const Caller&) = delete;
  ~Caller() {
    inside_region.store(false, std::memory_order_relaxed);
    if (state_) outlive([&] { hooks.restore(state_); });
  }

  // An operation may be many regions, each too short to give way in: so the time of the last poll is
  // the thread's, not the region's.
  void between_pieces() {
    const auto now = Clock::now();
    const bool poll_now = now.time_since_epoch().count() > next_poll.load(std::memory_order_relaxed);
    if (!asked_ && (poll_now || now - start_ > kReleaseAfter)) release();
    if (!poll_now) return;
    next_poll.store((now + kPollEvery).time_since_epoch().count(), std::memory_order_relaxed);
    if (state_ || unlocked.load(std::memory_order_relaxed)) outlive([] { hooks.poll(); });
  }
  void release() {
    if (asked_) return;
    asked_ = true;
    if (hooks.release && !unlocked.load(std::memory_order_relaxed)) state_ = hooks.release();
  }

  // An interpreter that is shutting down ends its other threads (pthread_exit) where they ask for its
  // lock. That must not unwind our frames: such a thread sleeps until the process is gone.
  template <class Call>
  static void outlive(const Call& call) {
    try {
      call();
    } catch (abi::__forced_unwind&) {
      while (true) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  const Clock::time_point start_ = Clock::now();
  void* state_ = nullptr;
  bool asked_ = false;
};

struct Worker {
  std::thread thread;
  Rescue rescue;
};

// An order of the pieces [begin, end): ascending, or by sixteen runs from the last to the first. Within a run
// the pieces ascend, for the hardware reads ahead from one into the next.
struct Order {
  std::int64_t begin, end;
  bool backwards;

  std::int64_t operator[](std::int64_t i) const {  // the piece at place i, from begin to end - 1
    if (!backwards) return i;
    const std::int64_t run = 1 + (end - begin - 1) / 16, from = (i - begin) / run * run;
    return std::max(begin, end - run - from) + (i - begin - from);
  }
};

// The places [next, order.end) are those of pieces that nobody has taken.
struct alignas(64) Range {
  std::atomic<std::int64_t> next{0};
  Order order{};
};

class Pool {
 public:
  explicit Pool(int threads)
      : threads_(threads),
        workers_(new Worker[static_cast<std::size_t>(std::clamp(threads - 1, 0, kMaxThreads))]),
        ranges_(new Range[static_cast<std::size_t>(std::clamp(threads, 1, kMaxThreads))]) {
    // Signals are for the threads of the program: a handler run here would not interrupt its sleep.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; started_ < threads - 1; ++started_) {
        Worker& next = worker(started_);
        next.thread = std::thread([this, &next, own = started_ + 1] { work(next, own); });
      }
    } catch (const std::system_error&) {  // the system refuses more threads: run with those there are
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  Pool(const Pool&) = delete;
  ~Pool() {
    stop_.store(true);
    signal_.fetch_add(1);
    wake(signal_, kMaxThreads);
    for (int i = 0; i < started_; ++i) worker(i).thread.join();
  }

  int threads() const { return threads_; }

  // In a forked child, which has no workers: ends the region that the forking thread may be in.
  void abandon() {
    if (caller_number_ == own_number) caller_rescue_.abandon();  // the forking thread's own move
    drop_pieces();
    gate_.store(0);
    failed_.store(true);
    error_ =
        std::make_exception_ptr(Error(ErrorKind::runtime, "the process forked inside a parallel operation"));
  }

  void run(std::int64_t pieces, void (*body)(void*, std::int64_t), void* context, Caller& caller) {
    const auto wanted = static_cast<std::uint64_t>(std::min<std::int64_t>(pieces - 1, threads_ - 1));
    if (own_number == 0) own_number = ++last_number;
    if (caller_number_ != own_number) {
      caller_number_ = own_number;
      caller_rescue_.start();
    }
    caller_rescue_.enter();
    body_ = body;
    context_ = context;
    used_ = static_cast<int>(std::min<std::int64_t>(pieces, threads_));
    for (int i = 0; i < used_; ++i) {
      range(i).order = {begin_of_range(pieces, i), begin_of_range(pieces, i + 1), backwards};
      range(i).next.store(range(i).order.begin, std::memory_order_relaxed);
    }
    failed_.store(false, std::memory_order_relaxed);
    gate_.store(++epoch_ << kEpochShift | wanted << kWantedShift);
    if (sleepers_.load() > 0) {
      signal_.fetch_add(1);
      wake(signal_, static_cast<int>(wanted));
    }

    take_pieces(0, [&] {
      caller_rescue_.settle();
      caller.between_pieces();
    });
    caller_rescue_.leave();
    caller_rescue_.settle();
    gate_.fetch_and(~(kFieldMask << kWantedShift));  // nobody joins any more
    wait_for_workers(caller);
    if (failed_.load(std::memory_order_relaxed)) {
      std::exception_ptr error = std::move(error_);
      error_ = nullptr;
      std::rethrow_exception(error);
    }
  }

 private:
  // The gate: epoch of the region (32 bits), workers still wanted (16), workers inside (16).
  static constexpr int kEpochShift = 32, kWantedShift = 16;
  static constexpr std::uint64_t kFieldMask = 0xffff;
  static std::uint64_t wanted(std::uint64_t gate) { return gate >> kWantedShift & kFieldMask; }
  static std::uint64_t inside(std::uint64_t gate) { return gate & kFieldMask; }

  Worker& worker(int i) { return workers_[static_cast<std::size_t>(i)]; }

  Range& range(int i) { return ranges_[static_cast<std::size_t>(i)]; }
  std::int64_t begin_of_range(std::int64_t pieces, int i) const {  // no product that could overflow
    return pieces / used_ * i + std::min<std::int64_t>(pieces % used_, i);
  }
  void drop_pieces() {  // those not yet started
    for (int i = 0; i < used_; ++i) range(i).next.store(range(i).order.end, std::memory_order_relaxed);
  }

  template <class Between>
  void take_pieces(int own, const Between& between) {
    try {
      for (int i = 0; i < used_; ++i) {
        Range& r = range((own + i) % used_);
        for (std::int64_t at; (at = r.next.fetch_add(1, std::memory_order_relaxed)) < r.order.end; between())
          body_(context_, r.order[at]);
      }
    } catch (...) {
      drop_pieces();
      if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
    }
  }

  bool workers_inside(std::memory_order order = std::memory_order_acquire) const {
    return inside(gate_.load(order)) != 0;
  }

  // Spins until no worker is inside, or the time is over; true if none is.
  bool spin_until_alone(microseconds time) const {
    const auto start = Clock::now();
    for (int i = 1; workers_inside(); ++i) {
      if (i % 16 == 0 && Clock::now() - start > time) return false;
      pause();
    }
    return true;
  }

  // On the caller, before it sleeps: a worker that stands still gets its core.
  void rescue_a_worker() {
    if (!can_rescue_) return;
    std::int64_t looks[kMaxThreads];
    for (int i = 0; i < started_; ++i) looks[i] = worker(i).rescue.look();
    if (spin_until_alone(kLook)) return;
    for (int i = 0; i < started_; ++i)
      if (worker(i).rescue.stopped_since(looks[i]) && worker(i).rescue.move_here()) return;
  }

  // On a worker, before it sleeps: the caller gets its core if it stands still.
  void rescue_caller() {
    const std::int64_t look = caller_rescue_.look();
    const auto start = Clock::now();
    while (caller_rescue_.inside() && Clock::now() - start < kLook) pause();
    if (caller_rescue_.stopped_since(look) && caller_rescue_.move_here()) Rescue::step_aside();
  }

  void wait_for_workers(Caller& caller) {
    if (spin_until_alone(kCallerSpin)) return;
    caller.release();
    while (true) {
      rescue_a_worker();
      caller_asleep_.store(1);
      if (!workers_inside(std::memory_order_seq_cst)) break;
      sleep_on(caller_asleep_, 1, kLookAgain);
      if (!workers_inside()) break;
    }
    caller_asleep_.store(0, std::memory_order_relaxed);
  }

  void work(Worker& self, int own) {
    inside_region.store(true, std::memory_order_relaxed);
    self.rescue.start();
    std::uint64_t seen = 0;
    while (true) {
      std::uint64_t gate = await_region(seen);
      if (stop_.load(std::memory_order_relaxed)) return;
      const std::uint64_t joined = gate - (std::uint64_t{1} << kWantedShift) + 1;
      self.rescue.enter();
      const bool in = gate_.compare_exchange_strong(gate, joined);
      if (in) {
        seen = gate >> kEpochShift;
        take_pieces(own, [] {});
      }
      self.rescue.leave();
      if (in && inside(gate_.fetch_sub(1)) == 1 && caller_asleep_.load() == 1) {
        caller_asleep_.store(0);
        wake(caller_asleep_, 1);
      }
      if (self.rescue.settle()) Rescue::step_aside();
    }
  }

  // Returns the gate of a region that wants a worker and that this one has not been in.
  std::uint64_t await_region(std::uint64_t seen) {
    const auto open = [&](std::uint64_t gate) { return wanted(gate) > 0 && gate >> kEpochShift != seen; };
    while (true) {
      const auto start = Clock::now();
      for (int i = 1; i % 16 != 0 || Clock::now() - start < kWorkerSpin; ++i) {
        const std::uint64_t gate = gate_.load(std::memory_order_acquire);
        if (open(gate) || stop_.load(std::memory_order_relaxed)) return gate;
        pause();
      }
      const std::uint32_t signal = signal_.load();
      while (signal_.load() == signal) {
        const bool watching = can_rescue_ && caller_rescue_.inside();
        if (watching) rescue_caller();
        sleepers_.fetch_add(1);
        if (!open(gate_.load()) && !stop_.load())
          sleep_on(signal_, signal, watching ? kLookAgain : microseconds(0));
        sleepers_.fetch_sub(1);
        if (open(gate_.load()) || stop_.load()) break;
      }
    }
  }

  const int threads_;
  const bool can_rescue_ = threads_ <= Rescue::cpus();  // with more threads some are always waiting
  const std::unique_ptr<Worker[]> workers_;
  const std::unique_ptr<Range[]> ranges_;
  int started_ = 0;
  void (*body_)(void*, std::int64_t) = nullptr;
  void* context_ = nullptr;
  int used_ = 0;  // ranges
  std::uint64_t epoch_ = 0, caller_number_ = 0;
  std::exception_ptr error_;
  std::atomic<bool> failed_{false};

  alignas(64) Rescue caller_rescue_;
  alignas(64) std::atomic<std::uint64_t> gate_{0};
  alignas(64) std::atomic<std::uint32_t> signal_{0};  // changes when sleeping workers are called
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<std::uint32_t> caller_asleep_{0};
};

// Used by the thread that has set pool_taken. Never destroyed at exit: its workers sleep in memory that
// stays.
constinit Pool* pool = nullptr;
constinit std::atomic<bool> pool_taken{false};
constinit std::atomic<int> wanted_threads{0};  // 0: not asked for yet

// A child has the memory of its parent's pool but not its threads: leave it and build anew.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  if (pool) pool->abandon();
  pool = nullptr;
  pool_taken.store(false);
});

// The pool if it is free, now this thread's; of the size that was last asked for.
class Taken {
 public:
  Taken() {
    const int threads = num_threads();
    if (threads == 1 || pool_taken.exchange(true, std::memory_order_acquire)) return;
    taken_ = true;
    if (pool && pool->threads() == threads) return;
    delete pool;
    pool = nullptr;
    pool = new (std::nothrow) Pool(threads);
  }
  Taken(const Taken&) = delete;
  ~Taken() {
    if (taken_) pool_taken.store(false, std::memory_order_release);
  }
  explicit operator bool() const { return taken_ && pool; }

 private:
  bool taken_ = false;
};

}  // namespace

void parallel_for(std::int64_t pieces, void (*body)(void* context, std::int64_t piece), void* context) {
  if (pieces == 1 || inside_region.load(std::memory_order_relaxed)) {
    for (std::int64_t piece = 0; piece < pieces; ++piece) body(context, piece);
    return;
  }
  if (pieces <= 0) return;
  backwards = !backwards;
  Caller caller;
  const Taken taken;  // given back first: taking the interpreter's lock may last
  if (taken) return pool->run(pieces, body, context, caller);
  const Order order{0, pieces, backwards};
  for (std::int64_t i = 0; i < pieces; ++i) {
    body(context, order[i]);
    caller.between_pieces();
  }
}

int num_threads() {
  int threads = wanted_threads.load(std::memory_order_relaxed);
  if (threads == 0) wanted_threads.store(threads = default_num_threads(nullptr), std::memory_order_relaxed);
  return threads;
}

void set_num_threads(int count) {
  if (count < 1 || count > kMaxThreads)
    value_error("set_num_threads: count must be from 1 to ", kMaxThreads, ", got ", count);
  wanted_threads.store(count, std::memory_order_relaxed);
}

void set_thread_hooks(const ThreadHooks& h) { hooks = h; }

Unlocked::Unlocked() : state_(hooks.release && !unlocked.load() ? hooks.release() : nullptr) {
  if (state_) unlocked.store(true, std::memory_order_relaxed);
}

Unlocked::~Unlocked() {
  if (!state_) return;
  unlocked.store(false, std::memory_order_relaxed);
  Caller::outlive([&] { hooks.restore(state_); });
}

void Unlocked::poll() {
  if (!state_) return;
  const auto now = Clock::now();
  if (now.time_since_epoch().count() <= next_poll.load(std::memory_order_relaxed)) return;
  next_poll.store((now + kPollEvery).time_since_epoch().count(), std::memory_order_relaxed);
  Caller::outlive([] { hooks.poll(); });
}

}  // namespace ts
