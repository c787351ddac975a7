// The device's run time: its memory, copies, and errors.
//
// Memory comes from the driver in segments and is handed out by best fit: blocks of 512 bytes and up, cut
// from a segment and joined with their free neighbours again. Up to 1 MiB they lie in segments of 2 MiB, up
// to 10 MiB in segments of 20 MiB, larger ones in their own, rounded to 2 MiB. All work is ordered by one
// stream, so a block that was freed may be reused by the next kernel without waiting.
#include "cuda/runtime.h"

#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <set>
#include <unordered_map>

namespace ts::cuda {

namespace {

const Host* g_host;
cudaStream_t g_stream;
int g_multiprocessors = 1;
char g_reason[512];

constexpr std::int64_t kUnit = 512, kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kSmall = kMiB, kSmallSegment = 2 * kMiB, kMedium = 10 * kMiB,
                       kMediumSegment = 20 * kMiB;

struct Block {
  char* data;
  std::int64_t size;
  bool small, free;
  Block *before, *after;  // neighbours in the segment
};
struct BySize {
  bool operator()(const Block* a, const Block* b) const {
    return a->size != b->size ? a->size < b->size : a->data < b->data;
  }
};

// Everything about memory, under one mutex. Never destroyed: blocks are freed during exit.
struct Memory {
  std::mutex mutex;
  std::set<Block*, BySize> free[2];  // large, small
  std::unordered_map<void*, Block*> live;
  DeviceMemory stats{};
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

// Segments without a live block go back to the driver, which first waits for the device.
void release_segments(Memory& m) {
  cudaStreamSynchronize(g_stream);
  for (auto& free : m.free)
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

Block* new_segment(Memory& m, std::int64_t size) {
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
  return new Block{static_cast<char*>(data), bytes, size <= kSmall, true, nullptr, nullptr};
}

void vformat(char* out, std::size_t size, const char* format, va_list arguments) {
  std::vsnprintf(out, size, format, arguments);
}

}  // namespace

void runtime_error(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vformat(text, sizeof text, format, arguments);
  va_end(arguments);
  g_host->runtime_error(text);
  __builtin_unreachable();
}
void memory_error(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vformat(text, sizeof text, format, arguments);
  va_end(arguments);
  g_host->memory_error(text);
  __builtin_unreachable();
}
void not_implemented(const char* kernel, const char* reason) {
  char text[512];
  std::snprintf(text, sizeof text, "%s on cuda: %s", kernel, reason);
  g_host->not_implemented_error(text);
  __builtin_unreachable();
}
void unsupported_dtype(DType dtype) {
  char text[64];
  std::snprintf(text, sizeof text, "a kernel for dtype number %d", static_cast<int>(dtype));
  not_implemented(text,
                  "the CUDA kernels take real dtypes of 32 and 64 bits, small integers and bool so far");
}
void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) runtime_error("cuda: %s: %s", call, cudaGetErrorString(status));
}

cudaStream_t stream() { return g_stream; }
int multiprocessors() { return g_multiprocessors; }

const char* open(const Host* host) {
  g_host = host;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    std::snprintf(g_reason, sizeof g_reason, "the CUDA driver offers no GPU: %s",
                  status == cudaSuccess ? "the list is empty" : cudaGetErrorString(status));
    return g_reason;
  }
  cudaDeviceProp device;
  if (const cudaError_t e = cudaGetDeviceProperties(&device, 0); e != cudaSuccess) {
    std::snprintf(g_reason, sizeof g_reason, "the GPU does not describe itself: %s", cudaGetErrorString(e));
    return g_reason;
  }
  if (device.major * 10 + device.minor < 75) {
    std::snprintf(g_reason, sizeof g_reason, "%s has compute capability %d.%d; 7.5 or newer is needed",
                  device.name, device.major, device.minor);
    return g_reason;
  }
  if (const cudaError_t e = cudaStreamCreateWithFlags(&g_stream, cudaStreamNonBlocking); e != cudaSuccess) {
    std::snprintf(g_reason, sizeof g_reason, "the GPU cannot be used: %s", cudaGetErrorString(e));
    return g_reason;
  }
  g_multiprocessors = device.multiProcessorCount;
  return nullptr;
}

void* allocate(std::int64_t bytes) {
  const std::int64_t size = rounded(bytes);
  const bool small = size <= kSmall;
  Memory& m = memory_state();
  const std::lock_guard lock(m.mutex);
  Block key{nullptr, size, small, true, nullptr, nullptr};
  auto& free = m.free[small];
  auto it = free.lower_bound(&key);
  Block* b;
  // A large block is not cut from one of more than twice its size and a segment: it would not come together
  // again.
  if (it != free.end() && (small || size <= kMedium || (*it)->size <= 2 * size)) {
    b = *it;
    free.erase(it);
  } else {
    b = new_segment(m, size);
    if (!b)
      memory_error("cuda: no memory for %.1f MiB: %.1f MiB are live in %lld blocks, %.1f MiB cached",
                   static_cast<double>(bytes) / kMiB, static_cast<double>(m.stats.live_bytes) / kMiB,
                   static_cast<long long>(m.stats.live_blocks),
                   static_cast<double>(m.stats.cached_bytes) / kMiB);
  }
  if (b->size - size >= (small ? kUnit : kSmall)) {
    auto* rest = new Block{b->data + size, b->size - size, b->small, true, b, b->after};
    if (b->after) b->after->before = rest;
    b->after = rest;
    b->size = size;
    free.insert(rest);
  }
  b->free = false;
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
  auto& free = m.free[b->small];
  const auto join = [&](Block* left, Block* right) {  // right disappears
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

void upload(void* to, const void* from, std::int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, g_stream),
        "a copy to the GPU");
}
void download(void* to, const void* from, std::int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, g_stream),
        "a copy from the GPU");
  synchronize();
}
void synchronize() { check(cudaStreamSynchronize(g_stream), "waiting for the GPU"); }

void properties(DeviceProperties* out) {
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  std::snprintf(out->name, sizeof out->name, "%s", device.name);
  out->major = device.major, out->minor = device.minor;
  out->multiprocessors = device.multiProcessorCount;
  out->memory = static_cast<std::int64_t>(device.totalGlobalMem);
  out->l2_cache = device.l2CacheSize;
  out->shared_memory = static_cast<std::int64_t>(device.sharedMemPerBlockOptin);
  cudaDriverGetVersion(&out->driver);
  cudaRuntimeGetVersion(&out->runtime);
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
}

}  // namespace ts::cuda
