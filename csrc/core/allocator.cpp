// The caching allocator: blocks in quarter-octave size classes, handed out from three places.
//
//   <= 1 MiB    the calling thread's own lists (no lock, no atomic read-modify-write), refilled in
//               batches from the shared lists
//   <= 16 MiB   the shared lists, which carve new blocks from 2 MiB-aligned chunks of huge pages
//   larger      mappings of their own, kept after use and reused by best fit
//
// Free blocks past a high-water mark go back to the system (see trim). Equal-sized blocks start at
// different offsets within a page, so that streaming through several of them does not alias in L1.
#include "core/allocator.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>

#include "core/error.h"
#include "core/huge_pages.h"

// Under AddressSanitizer a block is readable for the bytes that were asked for, and not at all once it is
// free (but for its link), and 64 bytes lie between blocks that belong to nobody.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define TS_RED_ZONE 64
#else
#define TS_RED_ZONE 0
#define ASAN_POISON_MEMORY_REGION(address, size) (static_cast<void>(0))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (static_cast<void>(0))
#endif

namespace ts {
namespace {

constexpr std::size_t kAlign = 64, kPage = 4096;
constexpr std::size_t kKiB = 1024, kMiB = 1024 * kKiB;
constexpr std::size_t kHeader = 64;                      // of a Storage: arrays of 2^n bytes fill their class
constexpr std::size_t kThreadMax = 1 * kMiB + kHeader;   // largest block in a thread's own lists
constexpr std::size_t kSharedMax = 16 * kMiB + kHeader;  // largest block carved from a chunk
constexpr std::size_t kPurgeMin = 64 * kKiB;             // smallest free block worth returning to the system
constexpr std::int64_t kSlack = 64 * kMiB;               // cache allowed on top of the high-water mark
constexpr int kWindow = 16384;  // frees of large blocks after which a peak is forgotten

// Behind the header, classes of 64-byte units: 1 2 3 4 5 6 7 8, then four to the octave: 10 12 14 16 20 ...
constexpr int class_of(std::size_t bytes) {
  const std::size_t last = bytes <= kHeader ? 0 : (bytes - kHeader - 1) / kAlign;
  if (last < 4) return static_cast<int>(last);
  const int shift = static_cast<int>(std::bit_width(last)) - 3;
  return shift * 4 + static_cast<int>(last >> shift);
}
constexpr std::size_t class_size(int c) {
  const std::size_t units = c < 8 ? static_cast<std::size_t>(c + 1) : std::size_t(c % 4 + 5) << (c / 4 - 1);
  return units * kAlign + kHeader;
}
constexpr int kThreadClasses = class_of(kThreadMax) + 1, kClasses = class_of(kSharedMax) + 1;
constexpr int kFirstPurged = class_of(kPurgeMin);
static_assert(class_size(class_of(704)) == 704 && class_size(class_of(705)) == 832);
static_assert(class_size(class_of(kSharedMax)) == kSharedMax && class_of(kSharedMax + 1) == kClasses);

// How many free blocks of a class a thread keeps.
constexpr auto kKept = [] {
  std::array<int, kThreadClasses> kept{};
  for (int c = 0; c < kThreadClasses; ++c)
    kept[c] = static_cast<int>(std::clamp<std::size_t>(2 * kMiB / class_size(c), 4, 128));
  return kept;
}();

struct Link {
  Link* next;
};

// A counter that one thread writes and any thread may read: plain moves, no locked instructions.
class Counter {
 public:
  std::int64_t get() const { return value_.load(std::memory_order_relaxed); }
  void set(std::int64_t v) { value_.store(v, std::memory_order_relaxed); }
  void add(std::int64_t v) { set(get() + v); }

 private:
  std::atomic<std::int64_t> value_{0};
};

struct ThreadCache {
  Link* free[kThreadClasses] = {};
  Counter kept[kThreadClasses];
  Counter live, top;  // bytes handed out minus bytes taken back since the last settle(), and their maximum
  Counter allocations, frees;
  ThreadCache *previous = nullptr, *next = nullptr;
};

// Header of a mapping of its own; the block begins up to a page behind it.
struct Mapping {
  Mapping* next;  // while cached: from the most recently freed to the oldest
  std::size_t bytes;
  bool fresh;  // never handed out before
};

// Everything that threads share, under one mutex. Never destroyed: blocks are freed during exit.
struct Shared {
  std::mutex mutex;
  Link* free[kClasses];
  Link* purged[kClasses];  // free, their pages given back
  char *chunk, *chunk_end;
  std::size_t chunk_bytes;
  Mapping* cached;
  unsigned stagger;
  ThreadCache* caches;

  std::int64_t live, peak, free_bytes, system, allocations, frees;
  std::int64_t window_peak, previous_peak;  // high-water marks of the current and the last window
  int window;
};
constinit Shared shared{};

constinit thread_local ThreadCache* thread_cache [[gnu::tls_model("initial-exec")]] = nullptr;
constinit thread_local bool thread_ended [[gnu::tls_model("initial-exec")]] = false;

std::int64_t failure_from_environment() {
  const char* text = std::getenv("TENSORSMITH_FAIL_ALLOC");
  return text ? std::max(0LL, std::atoll(text)) : 0;
}
std::atomic<std::int64_t> allocations_until_failure{failure_from_environment()};

std::int64_t signed_size(std::size_t bytes) { return static_cast<std::int64_t>(bytes); }

std::size_t physical_memory() {
  static const std::size_t bytes =
      static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// ---- under shared.mutex ----

// Brings the counters that a thread keeps for itself into the shared ones.
void settle(ThreadCache& cache) {
  const std::int64_t top = shared.live + cache.top.get();
  shared.peak = std::max(shared.peak, top);
  shared.window_peak = std::max(shared.window_peak, top);
  shared.live += cache.live.get();
  cache.live.set(0);
  cache.top.set(0);
}

void unmap_cached(Mapping** link) {
  Mapping* mapping = *link;
  *link = mapping->next;
  shared.free_bytes -= signed_size(mapping->bytes);
  shared.system -= signed_size(mapping->bytes);
  munmap(mapping, mapping->bytes);
}

// Gives back the pages of the first free block of a class, all but the one that holds its link.
void purge_one(int c) {
  Link* block = shared.free[c];
  shared.free[c] = block->next;
  block->next = shared.purged[c];
  shared.purged[c] = block;
  const std::size_t size = class_size(c);
  const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t begin = (start + sizeof(Link) + kPage - 1) / kPage * kPage;
  const std::uintptr_t end = (start + size) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  shared.free_bytes -= signed_size(size);
  shared.system -= signed_size(size);
}

// Keeps live + free <= 1.25 x the recent peak of live + 64 MiB, and free <= a quarter of the
// machine. A loop whose steps repeat stays under the mark and never pays for a first touch again;
// after a spike the mark follows the program down within two windows.
void trim() {
  shared.window_peak = std::max(shared.window_peak, shared.live);
  if (++shared.window == kWindow) {
    shared.window = 0;
    shared.previous_peak = shared.window_peak;
    shared.window_peak = shared.live;
  }
  const std::int64_t peak = std::max(shared.window_peak, shared.previous_peak);
  const std::int64_t allowed =
      std::min(peak + peak / 4 + kSlack - shared.live, signed_size(physical_memory() / 4) + kSlack);
  while (shared.free_bytes > allowed && shared.cached) {
    Mapping** oldest = &shared.cached;
    while ((*oldest)->next) oldest = &(*oldest)->next;
    unmap_cached(oldest);
  }
  for (int c = kClasses - 1; c >= kFirstPurged && shared.free_bytes > allowed; --c)
    while (shared.free[c] && shared.free_bytes > allowed) purge_one(c);
}

void release_all() {
  while (shared.cached) unmap_cached(&shared.cached);
  for (int c = kFirstPurged; c < kClasses; ++c)
    while (shared.free[c]) purge_one(c);
}

// A block of a shared class; null when the system refuses more memory.
void* take_shared(int c) {
  const std::size_t size = class_size(c);
  if (Link* block = shared.free[c]) {
    shared.free[c] = block->next;
    shared.free_bytes -= signed_size(size);
    return block;
  }
  if (Link* block = shared.purged[c]) {
    shared.purged[c] = block->next;
    shared.system += signed_size(size);
    return block;
  }
  const std::size_t stride = size + (size >= 4 * kPage ? 4 * kAlign : 0) + TS_RED_ZONE;
  if (static_cast<std::size_t>(shared.chunk_end - shared.chunk) < stride) {
    const std::size_t least = (stride + kHugePage - 1) / kHugePage * kHugePage;
    std::size_t bytes = std::max(least, std::clamp(2 * shared.chunk_bytes, 8 * kMiB, 64 * kMiB));
    char* chunk = map_huge_pages(bytes);
    if (!chunk) chunk = map_huge_pages(bytes = least);
    if (!chunk) return nullptr;
    ASAN_POISON_MEMORY_REGION(chunk, bytes);
    shared.chunk = chunk;
    shared.chunk_end = chunk + bytes;
    shared.chunk_bytes = bytes;
  }
  void* block = shared.chunk;
  shared.chunk += stride;
  shared.system += signed_size(size);
  return block;
}

void give_shared(void* block, int c) {
  Link* link = static_cast<Link*>(block);
  link->next = shared.free[c];
  shared.free[c] = link;
  shared.free_bytes += signed_size(class_size(c));
}

char* block_of(Mapping* mapping, unsigned stagger) {
  return reinterpret_cast<char*>(mapping) + kAlign * (1 + stagger * 5 % 61);
}
Mapping* mapping_of(const void* block) {
  return reinterpret_cast<Mapping*>(reinterpret_cast<std::uintptr_t>(block) / kHugePage * kHugePage);
}

// A block with a mapping of its own: the smallest cached one that wastes at most a quarter, or new.
void* take_mapping(std::size_t bytes) {
  const std::size_t need = (bytes + 2 * kPage - 1) / kPage * kPage;
  Mapping** best = nullptr;
  for (Mapping** link = &shared.cached; *link; link = &(*link)->next) {
    const std::size_t have = (*link)->bytes;
    if (have >= need && have <= need + need / 4 && (!best || have < (*best)->bytes)) best = link;
  }
  Mapping* mapping;
  if (best) {
    mapping = *best;
    *best = mapping->next;
    shared.free_bytes -= signed_size(mapping->bytes);
  } else {
    if (need > physical_memory())
      return nullptr;  // an overcommitting kernel would grant it, and kill us later
    char* base = map_huge_pages(need);
    if (!base) return nullptr;
    mapping = new (base) Mapping{nullptr, need, true};
    shared.system += signed_size(need);
  }
  shared.live += signed_size(mapping->bytes);
  return block_of(mapping, shared.stagger++);
}

// ---- threads ----

void return_to_shared(ThreadCache& cache, int c, int keep) {
  while (cache.kept[c].get() > keep) {
    Link* block = cache.free[c];
    cache.free[c] = block->next;
    cache.kept[c].add(-1);
    give_shared(block, c);
  }
}

// At the end of a thread, its blocks and its counts go to the shared ones.
struct ThreadEnd {
  ~ThreadEnd() {
    ThreadCache* cache = thread_cache;
    thread_cache = nullptr;
    thread_ended = true;
    const std::lock_guard lock(shared.mutex);
    settle(*cache);
    for (int c = 0; c < kThreadClasses; ++c) return_to_shared(*cache, c, 0);
    shared.allocations += cache->allocations.get();
    shared.frees += cache->frees.get();
    (cache->previous ? cache->previous->next : shared.caches) = cache->next;
    if (cache->next) cache->next->previous = cache->previous;
    delete cache;
  }
};

// The calling thread's cache, made at first use; null once the thread is ending.
ThreadCache* own_cache() {
  if (thread_cache || thread_ended) return thread_cache;
  auto* cache = new (std::nothrow) ThreadCache;
  if (!cache) return nullptr;
  {
    const std::lock_guard lock(shared.mutex);
    cache->next = shared.caches;
    if (cache->next) cache->next->previous = cache;
    shared.caches = cache;
  }
  thread_cache = cache;
  thread_local ThreadEnd end;
  static_cast<void>(end);
  return cache;
}

// A fork while another thread holds the mutex would leave it locked in the child for ever.
const int fork_handlers =
    pthread_atfork([] { shared.mutex.lock(); }, [] { shared.mutex.unlock(); }, [] { shared.mutex.unlock(); });

const char* readable(std::int64_t bytes, char (&text)[32]) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 6) value /= 1024, ++unit;
  std::snprintf(text, sizeof text, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
  return text;
}

[[noreturn, gnu::cold]] void refuse(std::size_t bytes) {
  char a[32], b[32], c[32];
  const AllocatorStats stats = allocator_stats();
  memory_error("cannot allocate ", bytes, " bytes (",
               readable(signed_size(std::min<std::size_t>(bytes, INT64_MAX)), a),
               "): ", readable(stats.live_bytes, b), " are live in ", stats.live_blocks, " blocks, ",
               readable(stats.cached_bytes, c), " are cached");
}

void* take_locked(std::size_t bytes, ThreadCache* cache) {
  if (bytes > kSharedMax) return take_mapping(bytes);
  const int c = class_of(bytes);
  void* block = take_shared(c);
  if (!block) return nullptr;
  if (cache && c < kThreadClasses)  // take a few more while the lock is held
    for (int more = kKept[c] / 8; more > 0 && cache->kept[c].get() < more;) {
      void* extra = take_shared(c);
      if (!extra) break;
      ASAN_UNPOISON_MEMORY_REGION(extra, sizeof(Link));
      cache->free[c] = new (extra) Link{cache->free[c]};
      cache->kept[c].add(1);
    }
  shared.live += signed_size(class_size(c));
  return block;
}

[[gnu::noinline]] void* allocate_slow(std::size_t bytes) {
  if (allocations_until_failure.load(std::memory_order_relaxed) != 0) {
    const std::int64_t left = allocations_until_failure.fetch_sub(1, std::memory_order_relaxed) - 1;
    if (left < 0) allocations_until_failure.store(0, std::memory_order_relaxed);  // another thread met it
    if (left == 0) refuse(bytes);
  }
  ThreadCache* cache = own_cache();
  void* block = nullptr;
  if (bytes <= PTRDIFF_MAX / 2) {
    const std::lock_guard lock(shared.mutex);
    if (cache) settle(*cache);
    block = take_locked(bytes, cache);
    if (!block) {
      release_all();
      block = take_locked(bytes, cache);
    }
    if (block) {
      ++shared.allocations;
      shared.peak = std::max(shared.peak, shared.live);
      shared.window_peak = std::max(shared.window_peak, shared.live);
    }
  }
  if (!block) refuse(bytes);
  ASAN_UNPOISON_MEMORY_REGION(block, bytes);
  return block;
}

[[gnu::noinline]] void deallocate_slow(void* block, std::size_t bytes) noexcept {
  ThreadCache* cache = own_cache();
  const std::lock_guard lock(shared.mutex);
  if (cache) settle(*cache);
  ++shared.frees;
  if (bytes > kSharedMax) {
    Mapping* mapping = mapping_of(block);
    shared.live -= signed_size(mapping->bytes);
    shared.free_bytes += signed_size(mapping->bytes);
    mapping->next = shared.cached;
    mapping->fresh = false;
    shared.cached = mapping;
  } else {
    const int c = class_of(bytes);
    shared.live -= signed_size(class_size(c));
    give_shared(block, c);
    if (cache && c < kThreadClasses) return_to_shared(*cache, c, kKept[c] / 2);
    if (c < kThreadClasses) return;
  }
  trim();
}

}  // namespace

void* allocate(std::size_t bytes) {
  ThreadCache* cache = thread_cache;
  if (bytes <= kThreadMax && cache && allocations_until_failure.load(std::memory_order_relaxed) == 0)
      [[likely]] {
    const int c = class_of(bytes);
    if (Link* block = cache->free[c]) [[likely]] {
      cache->free[c] = block->next;
      cache->kept[c].add(-1);
      const std::int64_t live = cache->live.get() + signed_size(class_size(c));
      cache->live.set(live);
      if (live > cache->top.get()) cache->top.set(live);
      cache->allocations.add(1);
      ASAN_UNPOISON_MEMORY_REGION(block, bytes);
      return block;
    }
  }
  return allocate_slow(bytes);
}

void deallocate(void* block, std::size_t bytes) noexcept {
  if (!block) return;
  if (bytes <= kSharedMax)
    ASAN_POISON_MEMORY_REGION(static_cast<Link*>(block) + 1, class_size(class_of(bytes)) - sizeof(Link));
  ThreadCache* cache = thread_cache;
  if (bytes <= kThreadMax && cache) [[likely]] {
    const int c = class_of(bytes);
    const std::int64_t kept = cache->kept[c].get();
    if (kept < kKept[c]) [[likely]] {
      cache->free[c] = new (block) Link{cache->free[c]};
      cache->kept[c].set(kept + 1);
      cache->live.add(-signed_size(class_size(c)));
      cache->frees.add(1);
      return;
    }
  }
  deallocate_slow(block, bytes);
}

bool untouched(const void* block, std::size_t bytes) {
  return bytes > kSharedMax && mapping_of(block)->fresh;
}

AllocatorStats allocator_stats() {
  const std::lock_guard lock(shared.mutex);
  AllocatorStats stats{
      shared.live,       shared.peak, shared.free_bytes, shared.system, shared.allocations - shared.frees,
      shared.allocations};
  for (ThreadCache* cache = shared.caches; cache; cache = cache->next) {
    stats.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes + cache->top.get());
    stats.live_bytes += cache->live.get();
    stats.allocations += cache->allocations.get();
    stats.live_blocks += cache->allocations.get() - cache->frees.get();
    for (int c = 0; c < kThreadClasses; ++c)
      stats.cached_bytes += cache->kept[c].get() * signed_size(class_size(c));
  }
  stats.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
  return stats;
}

void reset_peak() {
  const std::lock_guard lock(shared.mutex);
  shared.peak = shared.live;
  for (ThreadCache* cache = shared.caches; cache; cache = cache->next) cache->top.set(cache->live.get());
}

void empty_cache() {
  const std::lock_guard lock(shared.mutex);
  if (ThreadCache* cache = thread_cache)
    for (int c = 0; c < kThreadClasses; ++c) return_to_shared(*cache, c, 0);
  release_all();
}

void fail_allocation(std::int64_t n) { allocations_until_failure.store(n, std::memory_order_relaxed); }

}  // namespace ts
