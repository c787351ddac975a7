// The caching allocator behind every array: 64-byte aligned blocks that are reused, because the
// first touch of a fresh page costs more than most kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ts {

// Throws MemoryError (naming the bytes asked for and what is live) and changes nothing when the
// memory is not there; the next call is unaffected. allocate(0) is a valid, distinct block.
void* allocate(std::size_t bytes);

// `bytes` is what allocate was given. Any thread may free what another one allocated. Null is fine.
void deallocate(void* block, std::size_t bytes) noexcept;

// Whether a block that allocate(bytes) has just given is all zeros, because the system has mapped it for this
// call.
bool untouched(const void* block, std::size_t bytes);

struct AllocatorStats {
  std::int64_t live_bytes;    // handed out, rounded to size classes
  std::int64_t peak_bytes;    // the most that live_bytes has been since reset_peak
  std::int64_t cached_bytes;  // free, kept for reuse
  std::int64_t system_bytes;  // mapped from the system
  std::int64_t live_blocks;
  std::int64_t allocations;  // calls of allocate that succeeded, since the process started
};
AllocatorStats allocator_stats();
void reset_peak();

// Returns to the system what no live block needs: the shared lists and the calling thread's own.
void empty_cache();

// The n-th allocation from now (1: the next) throws MemoryError as if the system had refused it;
// 0 disarms. TENSORSMITH_FAIL_ALLOC=n arms it at the first allocation of the process.
void fail_allocation(std::int64_t n);

}  // namespace ts
