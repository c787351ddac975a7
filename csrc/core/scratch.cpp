// Scratch memory: one mapping per thread that needs it, of huge pages that are touched once and stay.
#include <sys/mman.h>

#include <cstdint>

#include "core/error.h"
#include "core/threads.h"

namespace ts {
namespace {

constinit thread_local void* own_scratch [[gnu::tls_model("initial-exec")]] = nullptr;

// Unmaps a thread's scratch memory at its end.
struct ScratchEnd {
  ~ScratchEnd() {
    munmap(own_scratch, kScratchBytes);
    own_scratch = nullptr;
  }
};

[[gnu::noinline, gnu::cold]] void* map_scratch() {
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  void* raw = mmap(nullptr, kScratchBytes + kHuge, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) memory_error("cannot map ", kScratchBytes, " bytes of scratch memory for a thread");
  char* begin = static_cast<char*>(raw);
  const std::size_t lead = -reinterpret_cast<std::uintptr_t>(begin) % kHuge;
  if (lead) munmap(begin, lead);
  begin += lead;
  munmap(begin + kScratchBytes, kHuge - lead);
#ifdef MADV_HUGEPAGE
  madvise(begin, kScratchBytes, MADV_HUGEPAGE);
#endif
  own_scratch = begin;
  thread_local ScratchEnd end;
  static_cast<void>(end);
  return own_scratch;
}

}  // namespace

void* scratch() { return own_scratch ? own_scratch : map_scratch(); }

}  // namespace ts
