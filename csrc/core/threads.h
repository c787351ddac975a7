// The thread pool: parallel_for over pieces that are cut at fixed boundaries.
//
// Safe to include from every SIMD level: declarations only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ts {

// Calls body(context, piece) once for every piece in [0, pieces), on the caller and on idle workers.
// Each thread takes pieces of a range of its own one by one, then others', so a slow core takes fewer of
// them. What a piece computes must not depend on which thread runs it or on how many threads there are: cut
// the work by size alone. A piece should last 5 µs to 10 ms (shorter ones cost more in hand-out than they
// gain, longer ones delay Ctrl-C and a busy neighbour's core).
//
// One piece, a call from inside a piece, or a pool that another thread is using: runs inline.
// If a body throws, the pieces not yet started are dropped and the first exception is rethrown here.
void parallel_for(std::int64_t pieces, void (*body)(void* context, std::int64_t piece), void* context);

// Scratch memory of the calling thread: kScratchBytes, 64-byte aligned, never null, contents
// undefined. It belongs to the innermost kernel; a kernel that calls another shares it.
constexpr std::size_t kScratchBytes = std::size_t{64} << 20;
void* scratch();

int num_threads();
// ValueError unless 1 <= count <= 256; more than there are CPUs is allowed. Takes effect at the next region.
void set_num_threads(int count);

// Threads that this process may use: TENSORSMITH_NUM_THREADS if set (ValueError unless from 1 to 256),
// else the lesser of its affinity mask and its control group's CPU quota. `reason` (may be null)
// receives a sentence that lives as long as the program.
int default_num_threads(const char** reason);

// What the language binding installs, before the first parallel_for. All three are called on the
// thread that called parallel_for, outside of any piece. `release` gives up the interpreter's lock,
// when a region of several pieces has lasted 20 µs, and returns what `restore` needs to take it back
// (null: this thread does not hold it, and neither of the others is called). `poll` is called while
// the lock is released, every 50 ms of a thread's regions, and may throw to end the region.
struct ThreadHooks {
  void* (*release)();
  void (*restore)(void* state);
  void (*poll)();
};
void set_thread_hooks(const ThreadHooks& hooks);

}  // namespace ts
