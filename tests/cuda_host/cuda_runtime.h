// A CUDA device made of the host: enough of the language and of the runtime to run csrc/cuda on a CPU.
//
// Simple and slow, for tests. Blocks run one after another; the threads of a block are fibers on one stack
// each that take turns at __syncthreads and at the warp's exchanges, so every schedule is the same. Device
// memory is host memory that only kernels and copies can touch (others fault), filled with NaNs where it is
// fresh; a launch that is given another address is refused, as a GPU would fault. Streams do their work at
// once, except that a stream that is captured makes a list of it, which a graph's launch goes through.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using uint3 = dim3;
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};

// --- fibers ------------------------------------------------------------------------------------------
namespace cuda_host {

constexpr std::size_t kStack = 256 << 10;
constexpr int kWarp = 32, kMaxThreads = 1024;

struct Copy {
  void* to;
  const void* from;
  int bytes;
};
struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  bool done = false;
  bool spinning = false;                      // found nothing to do, and will look again
  int block_barriers = 0, warp_barriers = 0;  // how often it has arrived at each
  std::vector<Copy> copies;         // asynchronous ones of this block, in order; the first `copied` are done
  std::vector<std::size_t> groups;  // where each group of them ends
  std::size_t copied = 0;
};

struct Block {
  Fiber fibers[kMaxThreads];
  int threads = 0, current = 0;
  int block_passed = 0;                       // barriers that all have reached
  int warp_passed[kMaxThreads / kWarp] = {};  // likewise, for each warp
  std::uint64_t slot[kMaxThreads][4];         // what a lane offers in an exchange
  std::uint64_t events = 0;                   // what spinning threads wait for
  void* scheduler = nullptr;
  void (*body)(void*) = nullptr;
  void* arguments = nullptr;
};
inline Block block;
alignas(1024) inline unsigned char dynamic_memory[232448];

// Saves the callee's registers on this stack, leaves its pointer in *from, and goes on with `to`.
extern "C" void cuda_host_switch(void** from, void* to);

inline void yield() { cuda_host_switch(&block.fibers[block.current].stack_pointer, block.scheduler); }

// For a thread that waits for something other than the block's or its warp's barrier.
inline void spin() {
  block.fibers[block.current].spinning = true;
  yield();
}

inline void set_index(int thread) {
  threadIdx.x = static_cast<unsigned>(thread) % blockDim.x;
  threadIdx.y = static_cast<unsigned>(thread) / blockDim.x % blockDim.y;
  threadIdx.z = static_cast<unsigned>(thread) / blockDim.x / blockDim.y;
}

inline void fiber_main() {
  block.body(block.arguments);
  block.fibers[block.current].done = true;
  yield();
}

inline void synchronize_block() {
  Fiber& self = block.fibers[block.current];
  ++self.block_barriers;
  while (self.block_barriers > block.block_passed) yield();
}
inline void synchronize_warp() {
  Fiber& self = block.fibers[block.current];
  const int warp = block.current / kWarp;
  ++self.warp_barriers;
  while (self.warp_barriers > block.warp_passed[warp]) yield();
}

// Runs the block's threads until all are done.
void run_block();

template <class Kernel, class... Args>
void run(Kernel kernel, dim3 grid, dim3 threads, const Args&... args) {
  gridDim = grid;
  blockDim = threads;
  block.threads = static_cast<int>(threads.x * threads.y * threads.z);
  if (block.threads < 1 || block.threads > kMaxThreads) {
    std::fprintf(stderr, "cuda_host: a block of %d threads\n", block.threads);
    std::abort();
  }
  const auto body = [&] { kernel(args...); };
  block.body = [](void* p) { (*static_cast<decltype(body)*>(p))(); };
  block.arguments = const_cast<void*>(static_cast<const void*>(&body));
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        run_block();
      }
}

// Every lane of a warp offers a value and takes that of lane `from`.
template <class T>
T exchange(T value, int from) {
  static_assert(sizeof(T) <= sizeof block.slot[0]);
  std::memcpy(block.slot[block.current], &value, sizeof(T));
  synchronize_warp();
  T result;
  std::memcpy(&result, block.slot[block.current / kWarp * kWarp + from], sizeof(T));
  synchronize_warp();
  return result;
}
inline int lane() { return block.current % kWarp; }
inline Fiber& self() { return block.fibers[block.current]; }
// The values that the warp's lanes offer, of all 32; whoever has read them calls synchronize_warp.
template <class T>
struct Offers {
  const std::uint64_t (*slots)[4];
  T operator[](int i) const {
    T x;
    std::memcpy(&x, slots[i], sizeof(T));
    return x;
  }
};
template <class T>
Offers<T> offer(const T& value) {
  static_assert(sizeof(T) <= sizeof block.slot[0]);
  std::memcpy(block.slot[block.current], &value, sizeof(T));
  synchronize_warp();
  return {block.slot + block.current / kWarp * kWarp};
}

}  // namespace cuda_host

inline void __syncthreads() { cuda_host::synchronize_block(); }
inline void __syncwarp(unsigned = ~0u) { cuda_host::synchronize_warp(); }
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return cuda_host::exchange(value, from & 31);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return cuda_host::exchange(value, cuda_host::lane() ^ mask);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int delta) {
  const int from = cuda_host::lane() + delta;
  return cuda_host::exchange(value, from < 32 ? from : cuda_host::lane());
}
template <class T>
T __shfl_up_sync(unsigned, T value, int delta) {
  const int from = cuda_host::lane() - delta;
  return cuda_host::exchange(value, from >= 0 ? from : cuda_host::lane());
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i)
    if (__shfl_sync(~0u, predicate, i)) bits |= 1u << i;
  return bits;
}
inline int __any_sync(unsigned m, int predicate) { return __ballot_sync(m, predicate) != 0; }

template <class T>
T atomicAdd(T* p, T x) {
  const T before = *p;
  *p = before + x;
  return before;
}
template <class T>
T atomicCAS(T* p, T expected, T wanted) {
  const T before = *p;
  if (before == expected) *p = wanted;
  return before;
}
inline void __threadfence_system() {}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<std::uint64_t>(a) * b >> 32);
}
inline std::uint64_t __umul64hi(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
template <class T>
T __ldg(const T* p) {
  return *p;
}

// --- the runtime -------------------------------------------------------------------------------------
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost = 1 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeRelaxed = 2 };

namespace cuda_host {
struct Graph {
  std::vector<std::function<void()>> calls;
};
struct Stream {
  Graph* captured = nullptr;
};
struct Event {
  bool timing = true, recorded = false, asked = false;
  std::chrono::steady_clock::time_point time;
};
// A piece of memory in a range of addresses (cuda.h).
struct Granule {
  std::size_t bytes;
  unsigned long long handle;
  bool access;  // kernels may
};
// The device's memory, CUDA_HOST_MEMORY bytes of it, somewhere in twice as many addresses and in granules.
struct Memory {
  std::mutex mutex;
  std::map<std::uintptr_t, std::size_t> blocks;
  std::map<std::uintptr_t, Granule> granules;
  std::size_t used = 0, size = 0;
  void* arena = nullptr;
  int users = 0;  // that may touch it now

  void* take(std::size_t bytes) {
    std::uintptr_t at = reinterpret_cast<std::uintptr_t>(arena);
    for (const auto& [start, extent] : blocks) {
      if (start - at >= bytes) break;
      at = start + extent;
    }
    if (at + bytes > reinterpret_cast<std::uintptr_t>(arena) + 2 * size) return nullptr;
    blocks[at] = bytes;
    used += bytes;
    return reinterpret_cast<void*>(at);
  }
};
inline int captures = 0;          // of streams, that are under way
inline bool invalidated = false;  // by a call that they do not allow
inline thread_local cudaError_t last_error = cudaSuccess;
inline cudaError_t failed(cudaError_t e) { return last_error = e; }
inline Memory& memory() {
  static auto* m = [] {
    auto* fresh = new Memory;
    const char* wanted = std::getenv("CUDA_HOST_MEMORY");
    fresh->size = wanted ? std::strtoull(wanted, nullptr, 10) : std::size_t{1} << 30;
    fresh->arena =
        mmap(nullptr, 2 * fresh->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh->arena == MAP_FAILED) std::abort();
    return fresh;
  }();
  return *m;
}
// While one lives the device's memory can be touched.
class Access {
 public:
  Access() { change(1); }
  ~Access() { change(-1); }
  Access(const Access&) = delete;

 private:
  static void change(int by) {
    Memory& m = memory();
    const std::lock_guard lock(m.mutex);
    const bool before = m.users > 0;
    m.users += by;
    if (before == (m.users > 0)) return;
    const int access = m.users > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
    mprotect(m.arena, 2 * m.size, access);
    for (auto it = m.granules.begin(); it != m.granules.end();) {  // neighbours at once
      const std::uintptr_t start = it->first;
      std::uintptr_t end = start;
      for (; it != m.granules.end() && it->first == end && it->second.access; ++it) end += it->second.bytes;
      if (end > start)
        mprotect(reinterpret_cast<void*>(start), end - start, access);
      else
        ++it;
    }
  }
};
// Whether a kernel's argument is the address of memory that is not the device's. (What structs hold is not
// known.)
template <class T>
bool points_to_host(const T& argument) {
  if constexpr (std::is_pointer_v<T>) {
    if (!argument) return false;
    Memory& m = memory();
    const std::lock_guard lock(m.mutex);
    const auto address = reinterpret_cast<std::uintptr_t>(argument);
    const auto granule = m.granules.upper_bound(address);
    if (granule != m.granules.begin() &&
        address <= std::prev(granule)->first + std::prev(granule)->second.bytes)
      return false;
    const auto next = m.blocks.upper_bound(address);
    return next == m.blocks.begin() || address > std::prev(next)->first + std::prev(next)->second;
  } else {
    return false;
  }
}
// Does it now, or when the graph that the stream is captured into is launched.
template <class F>
void submit(Stream* stream, F f) {
  if (stream && stream->captured) {
    stream->captured->calls.emplace_back(std::move(f));
  } else {
    const Access access;
    f();
  }
}
}  // namespace cuda_host

using cudaStream_t = cuda_host::Stream*;
using cudaEvent_t = cuda_host::Event*;
using cudaGraph_t = cuda_host::Graph*;
using cudaGraphExec_t = cuda_host::Graph*;
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount, l2CacheSize;
  std::size_t totalGlobalMem, sharedMemPerBlockOptin;
};

inline const char* cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return "invalid argument";
  }
}
inline cudaError_t cudaGetLastError() { return std::exchange(cuda_host::last_error, cudaSuccess); }
inline cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* v) {
  *v = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  const char* wanted = std::getenv("CUDA_HOST_CAPABILITY");  // 90
  const int capability = wanted ? std::atoi(wanted) : 90;
  *p = {"the host, as a CUDA device", capability / 10, capability % 10, 4, 1 << 20,
        cuda_host::memory().size,     232448};
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  cuda_host::Memory& m = cuda_host::memory();
  {
    const std::lock_guard lock(m.mutex);
    bytes = (bytes + 4095) / 4096 * 4096;
    if (bytes > m.size || m.used + bytes > m.size || !(*p = m.take(bytes)))
      return cuda_host::failed(cudaErrorMemoryAllocation);
  }
  const cuda_host::Access access;
  std::memset(*p, 0xff, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  cuda_host::Memory& m = cuda_host::memory();
  const std::lock_guard lock(m.mutex);
  const auto it = m.blocks.find(reinterpret_cast<std::uintptr_t>(p));
  if (it == m.blocks.end()) return cudaErrorInvalidValue;
  madvise(p, it->second, MADV_DONTNEED);
  m.used -= it->second;
  m.blocks.erase(it);
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  cuda_host::Memory& m = cuda_host::memory();
  const std::lock_guard lock(m.mutex);
  *free = m.size - m.used;
  *total = m.size;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t stream) {
  cuda_host::submit(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  cuda_host::submit(stream, [=] { std::memset(p, value, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  *p = std::aligned_alloc(512, (bytes + 511) / 512 * 512);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
struct cudaPointerAttributes {
  cudaMemoryType type;
};
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void*) {
  a->type = cudaMemoryTypeUnregistered;  // what the library has locked, it knows itself
  return cudaSuccess;
}
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  *s = new cuda_host::Stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int) {
  return cudaStreamCreateWithFlags(s, flags);
}
inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
  delete s;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  return s && s->captured ? cuda_host::failed(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
inline cudaError_t cudaStreamQuery(cudaStream_t s) { return cudaStreamSynchronize(s); }
inline cudaError_t cudaDeviceSynchronize() {
  if (cuda_host::captures == 0) return cudaSuccess;
  cuda_host::invalidated = true;
  return cuda_host::failed(cudaErrorStreamCaptureUnsupported);
}
inline constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags) {
  *e = new cuda_host::Event{flags == cudaEventDefault, false, false, {}};
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t e) {
  delete e;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t) {
  e->recorded = true, e->asked = false;
  e->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
// CUDA_HOST_EVENTS=late: nobody has passed it when it is asked for first.
inline cudaError_t cudaEventQuery(cudaEvent_t e) {
  const char* wanted = std::getenv("CUDA_HOST_EVENTS");
  if (!wanted || std::string_view(wanted) != "late" || std::exchange(e->asked, true)) return cudaSuccess;
  return cuda_host::failed(cudaErrorNotReady);
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  if (!a->recorded || !b->recorded || !a->timing || !b->timing)
    return cuda_host::failed(cudaErrorInvalidResourceHandle);
  *ms = std::chrono::duration<float, std::milli>(b->time - a->time).count();
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  s->captured = new cuda_host::Graph;
  if (++cuda_host::captures == 1) cuda_host::invalidated = false;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  *graph = std::exchange(s->captured, nullptr);
  if (!*graph) return cuda_host::failed(cudaErrorInvalidValue);
  --cuda_host::captures;
  if (!cuda_host::invalidated) return cudaSuccess;
  delete std::exchange(*graph, nullptr);
  return cuda_host::failed(cudaErrorStreamCaptureInvalidated);
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new cuda_host::Graph(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  cuda_host::submit(stream, [graph] {
    for (const auto& call : graph->calls) call();
  });
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
// A block's shared memory, as the capability has it.
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int bytes) {
  cudaDeviceProp device;
  cudaGetDeviceProperties(&device, 0);
  const int capability = 10 * device.major + device.minor;
  const int most = capability < 80 ? 65536 : capability == 80 ? 166912 : capability < 90 ? 101376 : 232448;
  return bytes <= most ? cudaSuccess : cuda_host::failed(cudaErrorInvalidValue);
}
