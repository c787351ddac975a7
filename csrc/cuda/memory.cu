// The device's memory, and page-locked memory of the host.
//
// Memory comes from the driver in segments and is handed out by best fit: blocks of 512 bytes and up, cut
// from a segment and joined with their free neighbours again. Up to 1 MiB they lie in segments of 2 MiB, up
// to 10 MiB in segments of 20 MiB, larger ones in their own, rounded to 2 MiB.
//
// A block belongs to the pool of the stream that it was allocated on, whose order makes it safe to hand it
// out again at once. Where other streams got work while it lived, any of them may have used it: then it comes
// back when events that are recorded on them when it is freed have passed. While a graph is captured, memory
// comes from a pool of the graph's own.
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "cuda/runtime.h"

namespace ts::cuda {

namespace {

constexpr std::int64_t kUnit = 512, kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kSmall = kMiB, kSmallSegment = 2 * kMiB, kMedium = 10 * kMiB,
                       kMediumSegment = 20 * kMiB;

struct Block {
  char* data;
  std::int64_t size;
  bool small, free;
  Block *before, *after;  // neighbours in the segment
  Pool* pool;
  std::uint64_t since;  // when it was handed out
};
struct BySize {
  bool operator()(const Block* a, const Block* b) const {
    return a->size != b->size ? a->size < b->size : a->data < b->data;
  }
};
// Freed, but other streams may still use it.
struct Waiting {
  void* block;
  std::vector<cudaEvent_t> events;

  bool over() {
    while (!events.empty() && cudaEventQuery(events.back()) == cudaSuccess) {
      return_event(events.back());
      events.pop_back();
    }
    return events.empty();
  }
};
struct Pinned {
  std::int64_t size;
  std::uint64_t since;
};

}  // namespace

struct Pool {
  std::set<Block*, BySize> free[2];  // large, small
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

void join_free(Block* b) {
  auto& free = b->pool->free[b->small];
  const auto join = [](Block* left, Block* right) {  // right disappears
    left->size += right->size;
    left->after = right->after;
    if (right->after) right->after->before = left;
    delete right;
  };
  if (Block* next = b->after; next && next->free) {
    free.erase(next);
    join(b, next);
  }
  if (Block* previous = b->before; previous && previous->free) {
    free.erase(previous);
    join(previous, b);
    b = previous;
  }
  b->free = true;
  free.insert(b);
}

// Blocks that no stream uses any more come back.
void collect(Memory& m) {
  std::erase_if(m.waiting, [&](Waiting& w) {
    if (!w.over()) return false;
    join_free(static_cast<Block*>(w.block));
    return true;
  });
}

// Segments without a live block go back to the driver, which first waits for the device.
void release_segments(Memory& m) {
  if (capturing()) return;  // nothing may wait
  cudaDeviceSynchronize();
  collect(m);
  for (Pool* pool : m.pools)
    for (auto& free : pool->free)
      for (auto it = free.begin(); it != free.end();) {
        Block* b = *it;
        if (b->before || b->after) {
          ++it;
          continue;
        }
        it = free.erase(it);
        cudaFree(b->data);
        m.stats.system_bytes -= b->size;
        m.stats.cached_bytes -= b->size;
        delete b;
      }
}

Block* new_segment(Memory& m, Pool* pool, std::int64_t size) {
  void* data = nullptr;
  const std::int64_t bytes = segment_size(size);
  if (cudaMalloc(&data, static_cast<std::size_t>(bytes)) != cudaSuccess) {
    cudaGetLastError();  // the error is ours, not the next launch's
    release_segments(m);
    if (cudaMalloc(&data, static_cast<std::size_t>(bytes)) != cudaSuccess) {
      cudaGetLastError();
      return nullptr;
    }
  }
  m.stats.system_bytes += bytes;
  m.stats.cached_bytes += bytes;
  return new Block{static_cast<char*>(data), bytes, size <= kSmall, true, nullptr, nullptr, pool, 0};
}

[[noreturn]] void no_memory(Memory& m, std::int64_t bytes) {
  std::int64_t largest[3] = {};
  for (const auto& [data, block] : m.live) {
    std::int64_t size = block->size;
    for (std::int64_t& one : largest)
      if (size > one) std::swap(size, one);
  }
  const auto mib = [](std::int64_t n) { return static_cast<double>(n) / kMiB; };
  memory_error(
      "cuda: no memory for %.1f MiB: %.1f MiB are live in %lld blocks (the largest %.1f, %.1f and %.1f), "
      "%.1f MiB "
      "cached in pieces that are too small or in use; the driver gave %.1f MiB and has no more",
      mib(bytes), mib(m.stats.live_bytes), static_cast<long long>(m.stats.live_blocks), mib(largest[0]),
      mib(largest[1]), mib(largest[2]), mib(m.stats.cached_bytes), mib(m.stats.system_bytes));
}

Waiting waiting_for(void* block, std::uint64_t since, const Stream* except) {
  cudaEvent_t events[kMostStreams];
  const int count = record_uses(since, except, events);
  return {block, std::vector<cudaEvent_t>(events, events + count)};
}

}  // namespace

Pool* make_pool() {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  return *m.pools.insert(new Pool).first;
}

void join_pools(Pool* pool, Pool* into) {
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  for (int small = 0; small < 2; ++small)
    for (Block* b : pool->free[small]) {
      b->pool = into;
      into->free[small].insert(b);
    }
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
  Block key{nullptr, size, small, true, nullptr, nullptr, nullptr, 0};
  auto& free = pool->free[small];
  auto it = free.lower_bound(&key);
  Block* b;
  // A large block is not cut from one of more than twice its size and a segment: it would not come together
  // again.
  if (it != free.end() && (small || size <= kMedium || (*it)->size <= 2 * size)) {
    b = *it;
    free.erase(it);
  } else {
    b = new_segment(m, pool, size);
    if (!b) no_memory(m, bytes);
  }
  if (b->size - size >= (small ? kUnit : kSmall)) {
    auto* rest = new Block{b->data + size, b->size - size, b->small, true, b, b->after, pool, 0};
    if (b->after) b->after->before = rest;
    b->after = rest;
    b->size = size;
    free.insert(rest);
  }
  b->free = false;
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
  release_segments(m);
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
  while (size < bytes) size *= 2;
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
