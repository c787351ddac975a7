// The sizes of the processor's caches, as the system reports them.
#include "core/caches.h"

#include <unistd.h>

namespace ts {

std::int64_t l2_bytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const std::int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? bytes : 0;
#else
  return 0;
#endif
}

}  // namespace ts
