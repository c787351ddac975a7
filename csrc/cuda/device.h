// What every kernel file stands on: launches with their errors, workspace, the core's exceptions.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/backend.h"
#include "cuda/intrinsics.h"

#if defined(__CUDACC__)
#define TS_INLINE __device__ __forceinline__
#define TS_OUTLINE static __device__ __noinline__
#else
#define TS_INLINE inline
#define TS_OUTLINE inline
#endif

namespace ts::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Errors in the core's words; each throws through us.
[[noreturn]] void runtime_error(const char* format, ...);
[[noreturn]] void memory_error(const char* format, ...);
[[noreturn]] void not_implemented(const char* kernel, const char* reason);
// RuntimeError naming the call unless the status is cudaSuccess.
void check(cudaError_t status, const char* call);

// What a kernel finds wrong with numbers that nobody else has read: it goes on without them and leaves a
// complaint, and whoever waits for the GPU next throws it (IndexError). The first one counts.
struct Complaint {
  std::int32_t taken;  // 0: there is none
  std::int64_t value, position, classes, ignored;
};
struct Complaints {
  Complaint* first;       // in the GPU's memory
  std::int32_t* waiting;  // of the host, page-locked: it is looked at after every wait
};
Complaints complaints();

cudaStream_t stream();  // this thread's, for something that is launched at once
int multiprocessors();
int capability();  // 10 major + minor

// Device memory for the kernels launched before the scope ends: work is ordered by the stream, so the memory
// may be given out again at once.
void* allocate(std::int64_t bytes);
void deallocate(void* block, std::int64_t bytes) noexcept;
class Workspace {
 public:
  explicit Workspace(std::int64_t bytes) : bytes_(bytes), data_(allocate(bytes)) {}
  ~Workspace() { deallocate(data_, bytes_); }
  Workspace(const Workspace&) = delete;
  void operator=(const Workspace&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  std::int64_t bytes_;
  void* data_;
};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// A grid of at most 2^31 - 1 blocks along x.
inline unsigned blocks_of(std::int64_t count) {
  if (count > INT32_MAX) runtime_error("a launch of %lld blocks", static_cast<long long>(count));
  return static_cast<unsigned>(count);
}

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared, const Args&... args) {
  if (shared > 48 << 10)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "cudaFuncSetAttribute");
  launch_on(stream(), kernel, grid, block, shared, args...);
  check(cudaGetLastError(), "a kernel launch");
}

// An operand on the host (a scalar, or where a result is wanted at once): no storage stands behind it.
inline bool on_host(const View& v) { return v.data && !v.storage; }
void download(void* to, const void* from, std::int64_t bytes);
void upload(void* to, const void* from, std::int64_t bytes);
void download_later(void* to, const void* from, std::int64_t bytes);
void upload_later(void* to, const void* from, std::int64_t bytes);
void copy(void* to, const void* from, std::int64_t bytes);

// --- warps and blocks ----------------------------------------------------------------------------------

// Any plain value of the lane `step` above, word by word.
template <class S>
TS_INLINE S shuffle_down(const S& x, int step) {
  constexpr int kWords = (sizeof(S) + 3) / 4;
  std::uint32_t words[kWords] = {};
  memcpy(words, &x, sizeof(S));
#pragma unroll
  for (int i = 0; i < kWords; ++i) words[i] = __shfl_down_sync(kAllLanes, words[i], step);
  S y;
  memcpy(&y, words, sizeof(S));
  return y;
}
template <class T, class Op>
TS_INLINE T warp_reduce(T x, Op op) {
  for (int step = kWarp / 2; step > 0; step /= 2) x = op(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}
// Every thread gets the total of the block's (up to 1024 threads, whole warps); `shared` has room for 32.
// The tree depends on the block's size alone.
template <class T, class Op>
TS_INLINE T block_reduce(T x, T identity, T* shared, Op op) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  x = warp_reduce(x, op);
  __syncthreads();  // the last one's readers are done
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < static_cast<int>(blockDim.x) / kWarp ? shared[lane] : identity;
  return warp_reduce(x, op);
}
struct Sum {
  template <class T>
  TS_INLINE T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace ts::cuda
