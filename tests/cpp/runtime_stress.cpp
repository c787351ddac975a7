// Stress of the thread pool and the allocator, run by tests/test_threads.py under AddressSanitizer with
// UndefinedBehaviorSanitizer, under ThreadSanitizer, and plain (which adds fork).
//
//   runtime_stress ROUNDS [fork]
//   runtime_stress race | overrun | use-after-free     (which a sanitizer must catch)
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/allocator.h"
#include "core/error.h"
#include "core/rescue.h"
#include "core/threads.h"

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) {                                                     \
      std::printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::fflush(stdout);                                                  \
      std::_Exit(1);                                                        \
    }                                                                       \
  } while (false)

// In place of the C library's: moving another thread takes so long that whatever may cross it does.
extern "C" int sched_setaffinity(pid_t thread, std::size_t bytes, const cpu_set_t* cpus) noexcept {
  if (thread != 0) usleep(50);
  return static_cast<int>(syscall(SYS_sched_setaffinity, thread, bytes, cpus));
}

namespace {

struct Thrown : std::runtime_error {
  explicit Thrown(std::int64_t piece) : std::runtime_error("thrown"), piece(piece) {}
  std::int64_t piece;
};

template <class Body>
void parallel_for(std::int64_t pieces, const Body& body) {
  ts::parallel_for(
      pieces, [](void* context, std::int64_t piece) { (*static_cast<const Body*>(context))(piece); },
      const_cast<Body*>(&body));
}

// Every piece runs once.
void check_sum(std::int64_t n) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(n), 0);
  parallel_for(n, [&](std::int64_t i) { out[static_cast<std::size_t>(i)] += i + 1; });
  for (std::int64_t i = 0; i < n; ++i) CHECK(out[static_cast<std::size_t>(i)] == i + 1);
}

// One thread goes there and back, by runs that ascend.
void check_order() {
  ts::set_num_threads(1);
  const auto order = [](std::int64_t n) {
    std::vector<std::int64_t> taken;
    parallel_for(n, [&](std::int64_t i) { taken.push_back(i); });
    return taken;
  };
  if (order(2)[0] == 0) order(2);  // now the next one begins with the first
  for (std::int64_t n : {2, 16, 17, 100}) {
    const auto there = order(n), back = order(n);
    CHECK(std::is_sorted(there.begin(), there.end()));
    CHECK(back.front() == n - (n + 15) / 16 && back.back() < (n + 15) / 16);
  }
}

void check_throw(std::int64_t pieces, std::int64_t at) {
  bool caught = false;
  try {
    parallel_for(pieces, [&](std::int64_t i) {
      if (i == at) throw Thrown(i);
    });
  } catch (const Thrown& error) {
    caught = error.piece == at;
  }
  CHECK(caught);
}

void pool(int rounds) {
  for (int threads : {1, 2, 3, 4, 7}) {
    ts::set_num_threads(threads);
    CHECK(ts::num_threads() == threads);
    for (std::int64_t n : {0, 1, 2, 3, 17, 1000}) check_sum(n);
    for (std::int64_t n = 2; n < 150; ++n) check_sum(n), check_sum(n);  // there and back
    for (int k = 0; k < rounds; ++k) {
      check_throw(23, k % 23);
      if (k % 97 == 0) check_sum(50);
    }
    for (int k = 0; k < rounds / 20; ++k) {  // nested: inline, and an error comes through both
      std::atomic<int> count{0};
      parallel_for(11, [&](std::int64_t) { parallel_for(7, [&](std::int64_t) { ++count; }); });
      CHECK(count == 77);
      bool caught = false;
      try {
        parallel_for(11, [&](std::int64_t i) { check_throw(7, i % 7), throw Thrown(i); });
      } catch (const Thrown&) {
        caught = true;
      }
      CHECK(caught);
    }
    std::vector<std::thread> callers;  // concurrent, while the size of the pool changes
    for (int q = 0; q < 4; ++q)
      callers.emplace_back([&, q] {
        for (int k = 0; k < rounds / 20; ++k) {
          check_sum(40 + q);
          check_throw(6, k % 6);
          if (q == 0 && k % 50 == 0) ts::set_num_threads(1 + k / 50 % 4);
        }
      });
    for (auto& caller : callers) caller.join();
    ts::set_num_threads(threads);
    for (int k = 0; k < 30; ++k) {  // pieces and pauses long enough for everyone to fall asleep
      std::atomic<int> count{0};
      parallel_for(4, [&](std::int64_t i) {
        if (i == k % 4) usleep(400);
        ++count;
      });
      CHECK(count == 4);
      usleep(static_cast<useconds_t>(150 * (k % 3)));
    }
  }
}

int polls = 0, releases = 0, restores = 0;
bool interrupt = false;

void hooks() {
  ts::set_thread_hooks({[]() -> void* { return ++releases, &releases; },
                        [](void* state) { restores += state == &releases; },
                        [] {
                          ++polls;
                          if (interrupt) throw Thrown(-1);
                        }});
  for (int threads : {1, 2}) {
    ts::set_num_threads(threads);
    polls = releases = restores = 0;
    parallel_for(20, [](std::int64_t) { usleep(10000); });
    CHECK(polls >= 1 && releases == 1 && restores == 1);
    interrupt = true;
    bool caught = false;
    try {
      parallel_for(100000, [](std::int64_t) { usleep(1000); });
    } catch (const Thrown& error) {
      caught = error.piece == -1;
    }
    CHECK(caught);
    caught = false;
    try {  // many short regions instead of a long one
      for (int k = 0; k < 20000; ++k) parallel_for(2, [](std::int64_t) { usleep(10); });
    } catch (const Thrown& error) {
      caught = error.piece == -1;
    }
    interrupt = false;
    CHECK(caught && releases == restores);
    check_sum(100);
  }
  ts::set_thread_hooks({nullptr, nullptr, nullptr});
}

// A thread that another one moves whenever it can has its own CPUs again after its pieces.
void rescue() {
  if (ts::Rescue::cpus() < 2) return;
  ts::Rescue moved;
  std::atomic<int> moves{0};
  std::atomic<bool> stop{false};
  std::thread mover([&] {
    while (!stop) {
      usleep(50);
      moves += moved.move_here();
    }
  });
  cpu_set_t home, now;
  CHECK(sched_getaffinity(0, sizeof home, &home) == 0);
  moved.start();
  while (moves < 500) {
    moved.enter();
    for (int k = 0; k < 100; ++k) moved.settle();
    moved.leave();
    moved.settle();
    CHECK(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &home));
  }
  stop = true;
  mover.join();
}

void scratch() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([] {
      char* begin = static_cast<char*>(ts::scratch());
      std::memset(begin, 1, 1 << 20);
      begin[ts::kScratchBytes - 1] = 1;
      CHECK(reinterpret_cast<std::uintptr_t>(begin) % 64 == 0 && ts::scratch() == begin);
    });
  for (auto& thread : threads) thread.join();
}

// Blocks of all sizes, allocated by one thread and freed by another, keep what was written to them.
void allocator(int rounds) {
  struct Block {
    std::size_t bytes;
    unsigned char mark;
  };
  static std::atomic<char*> slots[64];
  const auto free_checked = [](char* block) {
    Block b;
    std::memcpy(&b, block, sizeof b);
    CHECK(static_cast<unsigned char>(block[b.bytes - 1]) == b.mark);
    ts::deallocate(block, b.bytes);
  };
  const ts::AllocatorStats before = ts::allocator_stats();
  std::vector<std::thread> threads;
  for (unsigned q = 0; q < 4; ++q)
    threads.emplace_back([&, q] {
      std::uint64_t random = 88172645463325252u + q;
      for (int k = 0; k < rounds; ++k) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        const unsigned magnitude = static_cast<unsigned>(random % (k % 100 == 0 ? 21 : 15));
        const Block b{(std::size_t{32} << magnitude) + random % 1000, static_cast<unsigned char>(k)};
        char* block = static_cast<char*>(ts::allocate(b.bytes));
        CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
        std::memcpy(block, &b, sizeof b);
        block[b.bytes - 1] = static_cast<char>(b.mark);
        if (char* old = slots[random >> 20 & 63].exchange(block)) free_checked(old);
      }
    });
  for (auto& thread : threads) thread.join();
  for (auto& slot : slots)
    if (char* block = slot.exchange(nullptr)) free_checked(block);
  const ts::AllocatorStats after = ts::allocator_stats();
  CHECK(after.live_bytes == before.live_bytes && after.live_blocks == before.live_blocks);
  CHECK(after.system_bytes == after.live_bytes + after.cached_bytes);
  ts::empty_cache();
  CHECK(ts::allocator_stats().system_bytes < after.system_bytes);

  const auto fails = [](std::size_t bytes) {
    try {
      ts::deallocate(ts::allocate(bytes), bytes);
      return false;
    } catch (const ts::Error& error) {
      return error.kind == ts::ErrorKind::memory;
    }
  };
  for (std::int64_t n : {1, 2, 5}) {
    ts::fail_allocation(n);
    for (std::int64_t i = 1; i < n; ++i) CHECK(!fails(i % 2 ? 100 : 3000000));
    CHECK(fails(100) && !fails(100));
  }
  for (int bit : {40, 47, 62, 63}) CHECK(fails(std::size_t{1} << bit) && !fails(1000));
  CHECK(fails(~std::size_t{0}) && !fails(1000));
}

// Children of a process whose threads are all busy use the pool and the allocator at once, and so do theirs.
void forks(int count) {
  std::atomic<bool> stop{false};
  ts::set_num_threads(2);
  std::vector<std::thread> busy;
  for (int i = 0; i < 2; ++i)
    busy.emplace_back([&] {
      while (!stop) {
        check_sum(100);
        for (std::size_t bytes : {77, 1 << 22}) ts::deallocate(ts::allocate(bytes), bytes);
      }
    });
  const auto in_child = [](auto&& work) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(10);
      work();
      std::_Exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  };
  for (int i = 0; i < count; ++i)
    in_child([&] {
      check_sum(500);
      ts::deallocate(ts::allocate(3 << 20), 3 << 20);
      in_child([] { check_sum(300); });
    });
  stop = true;
  for (auto& thread : busy) thread.join();
}

// Planted errors: a sanitizer that does not stop at them is not looking.
void plant(const std::string& error) {
  if (error == "race") {
    std::int64_t count = 0;
    std::atomic<int> arrived{0};
    ts::set_num_threads(2);
    parallel_for(2, [&](std::int64_t) {
      for (++arrived; arrived < 2;) std::this_thread::yield();
      count = count + 1;
    });
    std::printf("%d\n", static_cast<int>(count));
    return;
  }
  volatile char* block = static_cast<char*>(ts::allocate(128));
  if (error == "use-after-free") ts::deallocate(const_cast<char*>(block), 128);
  block[error == "overrun" ? 128 : 100] = 1;
}

}  // namespace

int main(int count, char** words) {
  const int rounds = count > 1 ? std::atoi(words[1]) : 10000;
  if (rounds == 0) return plant(words[1]), 0;
  check_order();
  pool(rounds);
  rescue();
  scratch();
  allocator(rounds);
  hooks();
  if (count > 2) forks(100);
  std::puts("ok");
}
