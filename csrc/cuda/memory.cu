// The device's memory, and page-locked memory of the host.
//
// Memory comes from the driver in segments and is handed out by best fit: blocks of 512 bytes and up, cut
// from a segment and joined with their free neighbours again. Up to 1 MiB they lie in segments of 2 MiB, up
// to 10 MiB in segments of 20 MiB, larger ones in their own, rounded to 2 MiB.
//
// TENSORSMITH_CUDA_EXPANDABLE=1: instead of segments, ranges of addresses as large as the device's memory,
// one for a pool's small blocks and one for the others, to which granules of 2 MiB of memory are mapped as
// blocks need them. Neighbours of any age join, and every free granule can go back to the driver. Where the
// device has no such memory, or no addresses are left, there are segments.
//
// A block belongs to the pool of the stream that it was allocated on, whose order makes it safe to hand it
// out again at once. Where other streams got work while it lived, any of them may have used it: then it comes
// back when events that are recorded on them when it is freed have passed. While a graph is captured, memory
// comes from a pool of the graph's own.
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "cuda/runtime.h"
#include "cuda/virtual_memory.h"

namespace ts::cuda {

namespace {

constexpr std::int64_t kUnit = 512, kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kSmall = kMiB, kSmallSegment = 2 * kMiB, kMedium = 10 * kMiB,
                       kMediumSegment = 20 * kMiB;

enum class Use : std::uint8_t { live, free, unmapped };
// A piece of a segment or of a range, where it begins on a granule if it is not mapped.
struct Block {
  char* data;
  std::int64_t size;
  bool small, in_range;
  Use use;
  Block *before, *after;  // neighbours
  Pool* pool;
  std::uint64_t since;  // when it was handed out
};
struct BySize {
  bool operator()(const Block* a, const Block* b) const {
    return a->size != b->size ? a->size < b->size : a->data < b->data;
  }
};
struct ByPlace {
  bool operator()(const Block* a, const Block* b) const { return a->data < b->data; }
};
// Freed, but other streams may still use it.
struct Waiting {
  void* block;
  std::vector<cudaEvent_t> events;

  bool over() {
    while (!events.empty()) {
      if (cudaEventQuery(events.back()) != cudaSuccess) {
        cudaGetLastError();  // that it is not ready is not the next launch's error
        return false;
      }
      return_event(events.back());
      events.pop_back();
    }
    return true;
  }
};
struct Pinned {
  std::int64_t size;
  std::uint64_t since;
};

}  // namespace

struct Pool {
  bool of_graph = false;
  std::set<Block*, BySize> free[2];  // large, small
  std::set<Block*, ByPlace> unmapped[2];
};

namespace {

// Everything about memory, under one mutex. Never destroyed: blocks are freed during exit.
struct Memory {
  std::mutex mutex;
  std::set<Pool*> pools;
  std::unordered_map<void*, Block*> live;
  std::vector<Waiting> waiting;
  DeviceMemory stats{};
  std::map<const void*, Pinned> pinned;  // by address
  std::multimap<std::int64_t, void*> pinned_free;
  std::vector<Waiting> pinned_waiting;
};
Memory& memory_state() {
  static auto* state = new Memory;
  return *state;
}

std::int64_t rounded(std::int64_t bytes) { return bytes <= 0 ? kUnit : ceil_div(bytes, kUnit) * kUnit; }
std::int64_t segment_size(std::int64_t size) {
  return size <= kSmall    ? kSmallSegment
         : size <= kMedium ? kMediumSegment
                           : ceil_div(size, kSmallSegment) * kSmallSegment;
}

// `right` disappears.
void join(Block* left, Block* right) {
  left->size += right->size;
  left->after = right->after;
  if (right->after) right->after->before = left;
  delete right;
}
// b, of a use of its own from now on, with its neighbours of the same use; `there` holds those.
template <class Blocks>
Block* join_neighbours(Block* b, Use use, Blocks& there) {
  if (Block* next = b->after; next && next->use == use) {
    there.erase(next);
    join(b, next);
  }
  if (Block* previous = b->before; previous && previous->use == use) {
    there.erase(previous);
    join(previous, b);
    b = previous;
  }
  b->use = use;
  there.insert(b);
  return b;
}
Block* join_free(Block* b) { return join_neighbours(b, Use::free, b->pool->free[b->small]); }

// What b has beyond `size`, behind it and of the same use, in no set.
Block* cut(Block* b, std::int64_t size) {
  auto* rest = new Block(*b);
  rest->data += size, rest->size -= size;
  rest->before = b;
  if (b->after) b->after->before = rest;
  b->after = rest;
  b->size = size;
  return rest;
}

// Blocks that no stream uses any more come back.
void collect(Memory& m) {
  std::erase_if(m.waiting, [&](Waiting& w) {
    if (!w.over()) return false;
    join_free(static_cast<Block*>(w.block));
    return true;
  });
}

// The granules within a free block of a range, which is in no set.
void unmap_granules(Memory& m, Block* b) {
  constexpr std::int64_t kGranule = VirtualMemory::kGranule;
  const auto place = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(b->data));
  const std::int64_t head = ceil_div(place, kGranule) * kGranule - place;
  const std::int64_t size = (b->size - head) / kGranule * kGranule;
  auto& free = b->pool->free[b->small];
  if (size <= 0) return static_cast<void>(free.insert(b));
  if (head > 0) {
    Block* const rest = cut(b, head);
    free.insert(b);
    b = rest;
  }
  if (b->size > size) free.insert(cut(b, size));
  VirtualMemory::get()->unmap(b->data, size);
  m.stats.system_bytes -= size;
  m.stats.cached_bytes -= size;
  b = join_neighbours(b, Use::unmapped, b->pool->unmapped[b->small]);
  if (b->before || b->after) return;
  b->pool->unmapped[b->small].erase(b);
  VirtualMemory::get()->release(b->data, b->size);
  delete b;
}

// Segments without a live block and granules go back to the driver, after waiting for the device. Those of a
// graph stay: its replays use what is free in its pool.
void release_free(Memory& m) {
  if (capturing()) return;  // nothing may wait
  cudaDeviceSynchronize();
  collect(m);
  for (Pool* pool : m.pools) {
    if (pool->of_graph) continue;
    for (auto& free : pool->free)
      for (Block* b : std::vector<Block*>(free.begin(), free.end())) {
        if (b->in_range) {
          free.erase(b);
          unmap_granules(m, b);
        } else if (!b->before && !b->after) {
          free.erase(b);
          cudaFree(b->data);
          m.stats.system_bytes -= b->size;
          m.stats.cached_bytes -= b->size;
          delete b;
        }
      }
  }
}

bool expandable_wanted() {
  const char* text = std::getenv("TENSORSMITH_CUDA_EXPANDABLE");
  if (!text || !*text || std::strcmp(text, "0") == 0) return false;
  if (std::strcmp(text, "1") == 0) return true;
  runtime_error("TENSORSMITH_CUDA_EXPANDABLE is '%s'; 0 and 1 are known", text);
}

// A free block of `size` and more, in no set, made by mapping memory beside free blocks; null where there are
// no addresses. `lacking`: there was no memory.
Block* expand(Memory& m, Pool* pool, std::int64_t size, bool& lacking) {
  const bool small = size <= kSmall;
  auto& unmapped = pool->unmapped[small];
  const auto free_bytes = [](const Block* b) { return b && b->use == Use::free ? b->size : 0; };
  Block* place = nullptr;
  for (Block* b : unmapped)
    if (free_bytes(b->before) + b->size + free_bytes(b->after) >= size) {
      place = b;
      break;
    }
  if (!place) {
    const std::int64_t rounded = ceil_div(size, VirtualMemory::kGranule) * VirtualMemory::kGranule;
    const std::int64_t device = VirtualMemory::get()->device_bytes(),
                       bytes = rounded < device ? device : rounded;
    char* const range = VirtualMemory::get()->reserve(bytes);
    if (!range) return nullptr;
    place = new Block{range, bytes, small, true, Use::unmapped, nullptr, nullptr, pool, 0};
    unmapped.insert(place);
  }
  const std::int64_t missing = size - free_bytes(place->before);
  std::int64_t wanted = ceil_div(missing, VirtualMemory::kGranule) * VirtualMemory::kGranule;
  if (wanted > place->size) wanted = place->size;
  const std::int64_t got = VirtualMemory::get()->map(place->data, wanted);
  lacking = got < wanted;
  if (got == 0) return nullptr;
  m.stats.system_bytes += got;
  m.stats.cached_bytes += got;
  unmapped.erase(place);
  if (got < place->size) unmapped.insert(cut(place, got));
  Block* const b = join_free(place);
  if (lacking) return nullptr;
  pool->free[small].erase(b);
  return b;
}

Block* new_segment(Memory& m, Pool* pool, std::int64_t size) {
  void* data = nullptr;
  const std::int64_t bytes = segment_size(size);
  if (cudaMalloc(&data, static_cast<std::size_t>(bytes)) != cudaSuccess) {
    cudaGetLastError();  // the error is ours, not the next launch's
    return nullptr;
  }
  m.stats.system_bytes += bytes;
  m.stats.cached_bytes += bytes;
  return new Block{
      static_cast<char*>(data), bytes, size <= kSmall, false, Use::free, nullptr, nullptr, pool, 0};
}

// A free block of `size` and more, in no set, in memory from the driver, for which cached memory is given
// back.
Block* more_memory(Memory& m, Pool* pool, std::int64_t size) {
  const VirtualMemory* const ranges = expandable_wanted() ? VirtualMemory::get() : nullptr;
  for (const bool again : {false, true}) {
    if (again) release_free(m);
    bool lacking = false;
    if (ranges && !ranges->failed())
      if (Block* b = expand(m, pool, size, lacking)) return b;
    if (!lacking || ranges->failed())
      if (Block* b = new_segment(m, pool, size)) return b;
  }
  release_free(m);  // what was mapped in vain
  return nullptr;
}

[[noreturn]] void no_memory(Memory& m, std::int64_t bytes) {
  std::int64_t largest[3] = {}, largest_free = 0;
  long long pieces = 0;
  for (const auto& [data, block] : m.live) {
    std::int64_t size = block->size;
    for (std::int64_t& one : largest)
      if (size > one) std::swap(size, one);
  }
  for (const Pool* pool : m.pools)
    for (const auto& free : pool->free) {
      pieces += static_cast<long long>(free.size());
      if (!free.empty() && (*free.rbegin())->size > largest_free) largest_free = (*free.rbegin())->size;
    }
  std::size_t left = 0, total = 0;
  cudaMemGetInfo(&left, &total);
  const auto mib = [](auto n) { return static_cast<double>(n) / kMiB; };
  memory_error(
      "cuda: no memory for %.1f MiB: %.1f MiB are live in %lld blocks (the largest %.1f, %.1f and %.1f), "
      "%.1f MiB cached (%lld free pieces of at most %.1f MiB); the driver gave %.1f MiB and has %.1f of %.1f "
      "MiB left",
      mib(bytes), mib(m.stats.live_bytes), static_cast<long long>(m.stats.live_blocks), mib(largest[0]),
      mib(largest[1]), mib(largest[2]), mib(m.stats.cached_bytes), pieces, mib(largest_free),
      mib(m.stats.system_bytes), mib(left), mib(total));
}

Waiting waiting_for(void* block, std::uint64_t since, const Stream* except) {
  cudaEvent_t events[kMostStreams];
  const int count = record_uses(since, except, events);
  return {block, std::vector<cudaEvent_t>(events, events + count)};
}

}  // namespace

Pool* make_pool(bool of_graph) {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  return *m.pools.insert(new Pool{of_graph, {}, {}}).first;
}

void join_pools(Pool* pool, Pool* into) {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  const auto move = [&](auto& from, auto& to) {
    for (Block* b : from) b->pool = into;
    to.merge(from);
  };
  for (int small = 0; small < 2; ++small)
    move(pool->free[small], into->free[small]), move(pool->unmapped[small], into->unmapped[small]);
  for (const auto& [data, block] : m.live)
    if (block->pool == pool) block->pool = into;
  for (const Waiting& w : m.waiting)
    if (Block* b = static_cast<Block*>(w.block); b->pool == pool) b->pool = into;
  m.pools.erase(pool);
  delete pool;
}

Pool* capture_pool();  // streams.cu: null unless this thread captures

void* allocate(std::int64_t bytes) {
  const std::int64_t size = rounded(bytes);
  const bool small = size <= kSmall;
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  if (!m.waiting.empty() && !capturing()) collect(m);
  Pool* const of_graph = capture_pool();
  Pool* const pool = of_graph ? of_graph : current_stream().pool;
  Block key{nullptr, size, small, false, Use::free, nullptr, nullptr, nullptr, 0};
  auto& free = pool->free[small];
  auto it = free.lower_bound(&key);
  Block* b;
  // A large block is not cut from a segment of more than twice its size, which would not come together again.
  if (it != free.end() && (small || size <= kMedium || (*it)->in_range || (*it)->size <= 2 * size)) {
    b = *it;
    free.erase(it);
  } else {
    b = more_memory(m, pool, size);
    if (!b) no_memory(m, bytes);
  }
  if (b->size - size >= (small ? kUnit : kSmall)) free.insert(cut(b, size));
  b->use = Use::live;
  b->since = now();
  m.live[b->data] = b;
  m.stats.live_bytes += b->size;
  m.stats.cached_bytes -= b->size;
  if (m.stats.live_bytes > m.stats.peak_bytes) m.stats.peak_bytes = m.stats.live_bytes;
  ++m.stats.live_blocks;
  ++m.stats.allocations;
  return b->data;
}

void deallocate(void* data, std::int64_t) noexcept {
  if (!data) return;
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  const auto it = m.live.find(data);
  if (it == m.live.end()) return;
  Block* b = it->second;
  m.live.erase(it);
  m.stats.live_bytes -= b->size;
  m.stats.cached_bytes += b->size;
  --m.stats.live_blocks;
  const Stream* own = nullptr;
  if (Stream& s = current_stream(); s.pool == b->pool) own = &s;
  if (!own) own = &stream_of(nullptr);
  if (own->pool != b->pool) own = nullptr;  // of a third stream, or of a graph
  if (b->pool != capture_pool())
    if (Waiting w = waiting_for(b, b->since, own); !w.events.empty())
      return static_cast<void>(m.waiting.push_back(std::move(w)));
  join_free(b);
}

void memory_stats(DeviceMemory* out) {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  *out = m.stats;
}
void reset_peak() {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  m.stats.peak_bytes = m.stats.live_bytes;
}
void empty_cache() {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  release_free(m);
  for (const auto& [size, block] : m.pinned_free) {
    cudaFreeHost(block);
    m.pinned.erase(block);
    m.stats.pinned_bytes -= size;
  }
  m.pinned_free.clear();
}

// --- the host's --------------------------------------------------------------------------------------------

void* allocate_pinned(std::int64_t bytes) {
  std::int64_t size = 4096;
  while (size < bytes && size <= INT64_MAX / 2) size *= 2;
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  std::erase_if(m.pinned_waiting, [&](Waiting& w) {
    if (!w.over()) return false;
    m.pinned_free.emplace(m.pinned[w.block].size, w.block);
    return true;
  });
  void* block = nullptr;
  if (const auto it = m.pinned_free.find(size); it != m.pinned_free.end()) {
    block = it->second;
    m.pinned_free.erase(it);
  } else {
    if (cudaMallocHost(&block, static_cast<std::size_t>(size)) != cudaSuccess) {
      cudaGetLastError();
      memory_error("cuda: no page-locked memory for %.1f MiB: %.1f MiB are in use or cached",
                   static_cast<double>(bytes) / kMiB, static_cast<double>(m.stats.pinned_bytes) / kMiB);
    }
    m.stats.pinned_bytes += size;
  }
  m.pinned[block] = {size, now()};
  return block;
}

void deallocate_pinned(void* block) noexcept {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  const auto it = m.pinned.find(block);
  if (it == m.pinned.end()) return;
  Waiting w = waiting_for(block, it->second.since, nullptr);
  if (w.events.empty())
    m.pinned_free.emplace(it->second.size, block);
  else
    m.pinned_waiting.push_back(std::move(w));
}

bool pinned(const void* p) {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  auto it = m.pinned.upper_bound(p);
  if (it == m.pinned.begin()) return false;
  --it;
  return static_cast<const char*>(p) < static_cast<const char*>(it->first) + it->second.size;
}

}  // namespace ts::cuda
