// The device's run time: which one, its errors, copies and waiting.
#include "cuda/runtime.h"

#include <cstdarg>
#include <cstdio>

namespace ts::cuda {

namespace {

const Host* g_host;
int g_multiprocessors = 1, g_capability = 0;
Complaints g_complaints;
char g_reason[512];

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
                  "this CUDA kernel takes real dtypes of 32 and 64 bits, small integers and bool so far");
}
void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // told here, it is not the next launch's
  runtime_error("cuda: %s: %s", call, cudaGetErrorString(status));
}

int multiprocessors() { return g_multiprocessors; }
int capability() { return g_capability; }

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
  g_multiprocessors = device.multiProcessorCount;
  g_capability = device.major * 10 + device.minor;
  open_streams();
  check(cudaMalloc(reinterpret_cast<void**>(&g_complaints.first), sizeof(Complaint)), "cudaMalloc");
  check(cudaMallocHost(reinterpret_cast<void**>(&g_complaints.waiting), sizeof(std::int32_t)),
        "cudaMallocHost");
  *g_complaints.waiting = 0;
  check(cudaMemsetAsync(g_complaints.first, 0, sizeof(Complaint), stream()), "cudaMemsetAsync");
  return nullptr;
}

Complaints complaints() { return g_complaints; }
void tell_complaints() {
  if (capturing() || !std::atomic_ref(*g_complaints.waiting).exchange(0)) return;
  Complaint c;
  download_later(&c, g_complaints.first, sizeof c);
  check(cudaStreamSynchronize(current_stream().handle), "waiting for the GPU");
  check(cudaMemsetAsync(g_complaints.first, 0, sizeof c, stream()), "cudaMemsetAsync");
  char text[512];
  std::snprintf(
      text, sizeof text,
      "cross_entropy: target %lld at position %lld is out of range for %lld classes: valid are 0 to "
      "%lld and ignore_index %lld (found by the GPU after the call had returned: this loss and what "
      "was computed from it are not valid)",
      static_cast<long long>(c.value), static_cast<long long>(c.position), static_cast<long long>(c.classes),
      static_cast<long long>(c.classes - 1), static_cast<long long>(c.ignored));
  g_host->index_error(text);
}

void upload_later(void* to, const void* from, std::int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream()),
        "a copy to the GPU");
}
void download_later(void* to, const void* from, std::int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, stream()),
        "a copy from the GPU");
}
void copy(void* to, const void* from, std::int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, stream()),
        "a copy on the GPU");
}
namespace {
// Ours, or what another library has locked: then no copy has been made when an asynchronous one returns.
bool page_locked(const void* from) {
  if (pinned(from)) return true;
  cudaPointerAttributes found{};
  if (cudaPointerGetAttributes(&found, from) == cudaSuccess) return found.type != cudaMemoryTypeUnregistered;
  cudaGetLastError();
  return true;
}
}  // namespace
void upload(void* to, const void* from, std::int64_t bytes) {
  if (capturing()) return upload_later(to, keep_for_replays(from, bytes), bytes);
  upload_later(to, from, bytes);
  // From pageable memory the driver has its own copy by now.
  if (page_locked(from)) check(cudaStreamSynchronize(current_stream().handle), "waiting for the GPU");
}
void download(void* to, const void* from, std::int64_t bytes) {
  if (capturing())
    runtime_error(
        "cuda: a value is wanted on the host while work is captured, which a replay could not give");
  download_later(to, from, bytes);
  check(cudaStreamSynchronize(current_stream().handle), "waiting for the GPU");
  tell_complaints();
}
void synchronize() {
  if (capturing()) runtime_error("cuda: there is nothing to wait for while work is captured");
  check(cudaDeviceSynchronize(), "waiting for the GPU");
  tell_complaints();
}

void drain() noexcept {
  if (!capturing()) cudaDeviceSynchronize();
}

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

}  // namespace ts::cuda
