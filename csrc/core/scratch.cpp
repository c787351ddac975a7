// Scratch memory: one mapping per thread that needs it, of huge pages that are touched once and stay.
#include "core/error.h"
#include "core/huge_pages.h"
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
  own_scratch = map_huge_pages(kScratchBytes, MAP_NORESERVE);
  if (!own_scratch) memory_error("cannot map ", kScratchBytes, " bytes of scratch memory for a thread");
  thread_local ScratchEnd end;
  static_cast<void>(end);
  return own_scratch;
}

}  // namespace

void* scratch() { return own_scratch ? own_scratch : map_scratch(); }

}  // namespace ts
