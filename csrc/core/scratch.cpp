// Scratch memory: one mapping per thread that needs it, of huge pages that are touched once and stay.
#include <atomic>

#include "core/error.h"
#include "core/huge_pages.h"
#include "core/kept_scratch.h"
#include "core/threads.h"

namespace ts {
namespace {

constinit thread_local void* own_scratch [[gnu::tls_model("initial-exec")]] = nullptr;
constinit thread_local std::uint64_t kept [[gnu::tls_model("initial-exec")]] = 0;
constinit std::atomic<std::uint64_t> next_key{1};

// Unmaps a thread's scratch memory at its end.
struct ScratchEnd {
  ~ScratchEnd() {
    munmap(own_scratch, kScratchBytes);
    own_scratch = nullptr;
  }
};

[[gnu::noinline, gnu::cold]] void* map_scratch() {
  own_scratch = map_huge_pages(kScratchBytes, MAP_NORESERVE);
  if (!own_scratch) memory_error("cannot map ", kScratchBytes, " bytes of scratch memory for a thread");
  thread_local ScratchEnd end;
  static_cast<void>(end);
  return own_scratch;
}

}  // namespace

void* scratch() {
  kept = 0;
  return own_scratch ? own_scratch : map_scratch();
}

std::uint64_t new_scratch_keys(std::int64_t count) {
  return next_key.fetch_add(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
}
void keep_scratch(std::uint64_t key) { kept = key; }
bool scratch_keeps(std::uint64_t key) { return kept == key; }

}  // namespace ts
