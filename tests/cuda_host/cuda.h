// The driver's virtual memory management, for the host: addresses without access, granules of which become
// memory. What a driver refuses is refused: sizes off the granularity, granules mapped twice or taken apart,
// ranges freed with memory in them. CUDA_HOST_VIRTUAL_MEMORY=0: a device that has none.
#pragma once

#include <cuda_runtime.h>

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1, CUDA_ERROR_OUT_OF_MEMORY = 2 };
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUmemGenericAllocationHandle = unsigned long long;
enum CUdevice_attribute { CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102 };
enum CUmemAllocationType { CU_MEM_ALLOCATION_TYPE_INVALID, CU_MEM_ALLOCATION_TYPE_PINNED };
enum CUmemLocationType { CU_MEM_LOCATION_TYPE_INVALID, CU_MEM_LOCATION_TYPE_DEVICE };
enum CUmemAllocationGranularity_flags { CU_MEM_ALLOC_GRANULARITY_MINIMUM };
enum CUmemAccess_flags { CU_MEM_ACCESS_FLAGS_PROT_NONE = 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3 };
struct CUmemLocation {
  CUmemLocationType type;
  int id;
};
struct CUmemAllocationProp {
  CUmemAllocationType type;
  CUmemLocation location;
};
struct CUmemAccessDesc {
  CUmemLocation location;
  CUmemAccess_flags flags;
};

namespace cuda_host {
constexpr std::size_t kGranularity = std::size_t{2} << 20;
struct Virtual {
  std::map<std::uintptr_t, std::size_t> ranges;
  std::map<CUmemGenericAllocationHandle, std::size_t> handles;  // not forgotten
  CUmemGenericAllocationHandle last = 0;
};
inline Virtual& virtual_memory() {
  static auto* v = new Virtual;
  return *v;
}
inline bool of_device(const CUmemAllocationProp* p) {
  return p->type == CU_MEM_ALLOCATION_TYPE_PINNED && p->location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
         p->location.id == 0;
}
}  // namespace cuda_host

inline CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
inline CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute, CUdevice) {
  const char* wanted = std::getenv("CUDA_HOST_VIRTUAL_MEMORY");
  *value = !wanted || std::atoi(wanted) != 0;
  return CUDA_SUCCESS;
}
inline CUresult cuMemGetAllocationGranularity(std::size_t* granularity, const CUmemAllocationProp* p,
                                              CUmemAllocationGranularity_flags) {
  *granularity = cuda_host::kGranularity;
  return cuda_host::of_device(p) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
inline CUresult cuMemAddressReserve(CUdeviceptr* range, std::size_t bytes, std::size_t alignment, CUdeviceptr,
                                    unsigned long long) {
  using namespace cuda_host;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  if (bytes == 0 || bytes % kGranularity || alignment > kGranularity) return CUDA_ERROR_INVALID_VALUE;
  void* const room =
      mmap(nullptr, bytes + kGranularity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto start = reinterpret_cast<std::uintptr_t>(room);
  const std::uintptr_t aligned = (start + kGranularity - 1) / kGranularity * kGranularity;
  if (aligned > start) munmap(room, aligned - start);
  if (aligned < start + kGranularity)
    munmap(reinterpret_cast<void*>(aligned + bytes), start + kGranularity - aligned);
  virtual_memory().ranges[aligned] = bytes;
  *range = aligned;
  return CUDA_SUCCESS;
}
inline CUresult cuMemAddressFree(CUdeviceptr range, std::size_t bytes) {
  using namespace cuda_host;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  auto& ranges = virtual_memory().ranges;
  const auto it = ranges.find(range);
  const auto inside = m.granules.lower_bound(range);
  if (it == ranges.end() || it->second != bytes ||
      (inside != m.granules.end() && inside->first < range + bytes))
    return CUDA_ERROR_INVALID_VALUE;
  munmap(reinterpret_cast<void*>(range), bytes);
  ranges.erase(it);
  return CUDA_SUCCESS;
}
inline CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                            const CUmemAllocationProp* p, unsigned long long) {
  using namespace cuda_host;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  if (!of_device(p) || bytes == 0 || bytes % kGranularity) return CUDA_ERROR_INVALID_VALUE;
  if (m.used + bytes > m.size) return CUDA_ERROR_OUT_OF_MEMORY;
  m.used += bytes;
  *handle = ++virtual_memory().last;
  virtual_memory().handles[*handle] = bytes;
  return CUDA_SUCCESS;
}
// The memory lives on where it is mapped.
inline CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  using namespace cuda_host;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  auto& handles = virtual_memory().handles;
  const auto it = handles.find(handle);
  if (it == handles.end()) return CUDA_ERROR_INVALID_VALUE;
  bool mapped = false;
  for (auto& [at, granule] : m.granules) mapped |= granule.handle == handle;
  if (!mapped) m.used -= it->second;
  handles.erase(it);
  return CUDA_SUCCESS;
}
inline CUresult cuMemMap(CUdeviceptr at, std::size_t bytes, std::size_t offset,
                         CUmemGenericAllocationHandle handle, unsigned long long flags) {
  using namespace cuda_host;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const Virtual& v = virtual_memory();
  const auto range = v.ranges.upper_bound(at);
  const auto known = v.handles.find(handle);
  const auto next = m.granules.lower_bound(at);
  if (range == v.ranges.begin() || known == v.handles.end() || known->second != bytes || offset || flags ||
      at % kGranularity || at + bytes > std::prev(range)->first + std::prev(range)->second ||
      (next != m.granules.end() && next->first < at + bytes) ||
      (next != m.granules.begin() && std::prev(next)->first + std::prev(next)->second.bytes > at))
    return CUDA_ERROR_INVALID_VALUE;
  m.granules[at] = {bytes, handle, false};
  return CUDA_SUCCESS;
}
inline CUresult cuMemSetAccess(CUdeviceptr at, std::size_t bytes, const CUmemAccessDesc* access,
                               std::size_t count) {
  using namespace cuda_host;
  Memory& m = memory();
  {
    const std::lock_guard lock(m.mutex);
    if (count != 1 || access->location.type != CU_MEM_LOCATION_TYPE_DEVICE || access->location.id != 0 ||
        access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
      return CUDA_ERROR_INVALID_VALUE;
    std::uintptr_t reached = at;
    for (auto it = m.granules.find(at);
         it != m.granules.end() && it->first == reached && reached < at + bytes; ++it)
      reached += it->second.bytes;
    if (reached != at + bytes) return CUDA_ERROR_INVALID_VALUE;
    for (auto it = m.granules.find(at); it != m.granules.end() && it->first < at + bytes; ++it) {
      it->second.access = true;
      if (m.users > 0) mprotect(reinterpret_cast<void*>(it->first), it->second.bytes, PROT_READ | PROT_WRITE);
    }
  }
  const Access open;
  std::memset(reinterpret_cast<void*>(at), 0xff, bytes);
  return CUDA_SUCCESS;
}
inline CUresult cuMemUnmap(CUdeviceptr at, std::size_t bytes) {
  using namespace cuda_host;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const auto it = m.granules.find(at);
  if (it == m.granules.end() || it->second.bytes != bytes) return CUDA_ERROR_INVALID_VALUE;
  if (mmap(reinterpret_cast<void*>(at), bytes, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
    std::abort();
  if (!virtual_memory().handles.count(it->second.handle)) m.used -= bytes;
  m.granules.erase(it);
  return CUDA_SUCCESS;
}

enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound };
constexpr unsigned long long cudaEnableDefault = 0;
#define CUDART_VERSION 13000
inline cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** entry, unsigned,
                                                    unsigned long long,
                                                    cudaDriverEntryPointQueryResult* status) {
  static const std::map<std::string_view, void*> known = {
#define CUDA_HOST_ENTRY(name) {#name, reinterpret_cast<void*>(&name)}
      CUDA_HOST_ENTRY(cuDeviceGet),         CUDA_HOST_ENTRY(cuDeviceGetAttribute),
      CUDA_HOST_ENTRY(cuMemAddressReserve), CUDA_HOST_ENTRY(cuMemGetAllocationGranularity),
      CUDA_HOST_ENTRY(cuMemAddressFree),    CUDA_HOST_ENTRY(cuMemCreate),
      CUDA_HOST_ENTRY(cuMemRelease),        CUDA_HOST_ENTRY(cuMemMap),
      CUDA_HOST_ENTRY(cuMemSetAccess),      CUDA_HOST_ENTRY(cuMemUnmap),
#undef CUDA_HOST_ENTRY
  };
  const auto it = known.find(name);
  *entry = it == known.end() ? nullptr : it->second;
  *status = *entry ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
