// The driver's calls behind virtual_memory.h.
#include "cuda/virtual_memory.h"

#include "cuda/driver.h"

namespace ts::cuda {

struct VirtualMemory::Driver {
  decltype(&cuDeviceGet) device_get = driver_function<decltype(&cuDeviceGet)>("cuDeviceGet");
  decltype(&cuDeviceGetAttribute) attribute =
      driver_function<decltype(&cuDeviceGetAttribute)>("cuDeviceGetAttribute");
  decltype(&cuMemGetAllocationGranularity) granularity =
      driver_function<decltype(&cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity");
  decltype(&cuMemAddressReserve) reserve =
      driver_function<decltype(&cuMemAddressReserve)>("cuMemAddressReserve");
  decltype(&cuMemAddressFree) release = driver_function<decltype(&cuMemAddressFree)>("cuMemAddressFree");
  decltype(&cuMemCreate) create = driver_function<decltype(&cuMemCreate)>("cuMemCreate");
  decltype(&cuMemRelease) forget = driver_function<decltype(&cuMemRelease)>("cuMemRelease");
  decltype(&cuMemMap) map = driver_function<decltype(&cuMemMap)>("cuMemMap");
  decltype(&cuMemSetAccess) allow = driver_function<decltype(&cuMemSetAccess)>("cuMemSetAccess");
  decltype(&cuMemUnmap) unmap = driver_function<decltype(&cuMemUnmap)>("cuMemUnmap");

  bool whole() const {
    return device_get && attribute && granularity && reserve && release && create && forget && map && allow &&
           unmap;
  }
};

namespace {

CUdeviceptr number(const char* p) { return reinterpret_cast<CUdeviceptr>(p); }
CUmemAllocationProp memory_of(int device) {
  CUmemAllocationProp kind{};
  kind.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  kind.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  kind.location.id = device;
  return kind;
}

}  // namespace

VirtualMemory* VirtualMemory::get() {
  static VirtualMemory* const made = []() -> VirtualMemory* {
    static const Driver driver;
    static VirtualMemory memory;
    int ordinal = 0, there = 0;
    std::size_t granule = 0, free = 0, total = 0;
    if (!driver.whole() || cudaGetDevice(&ordinal) != cudaSuccess ||
        cudaMemGetInfo(&free, &total) != cudaSuccess ||
        driver.device_get(&memory.device_, ordinal) != CUDA_SUCCESS ||
        driver.attribute(&there, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, memory.device_) !=
            CUDA_SUCCESS ||
        !there)
      return nullptr;
    const CUmemAllocationProp kind = memory_of(memory.device_);
    if (driver.granularity(&granule, &kind, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS ||
        granule == 0 || kGranule % static_cast<std::int64_t>(granule) != 0)
      return nullptr;
    memory.driver_ = &driver;
    memory.device_bytes_ = ceil_div(static_cast<std::int64_t>(total), kGranule) * kGranule;
    return &memory;
  }();
  return made;
}

char* VirtualMemory::reserve(std::int64_t bytes) {
  CUdeviceptr range = 0;
  if (driver_->reserve(&range, static_cast<std::size_t>(bytes), static_cast<std::size_t>(kGranule), 0, 0) !=
      CUDA_SUCCESS)
    return nullptr;
  return reinterpret_cast<char*>(range);
}
void VirtualMemory::release(char* range, std::int64_t bytes) {
  driver_->release(number(range), static_cast<std::size_t>(bytes));
}

std::int64_t VirtualMemory::map(char* at, std::int64_t bytes) {
  static thread_local const cudaError_t context = cudaFree(nullptr);  // this thread may have none yet
  (void)context;
  constexpr std::size_t size = static_cast<std::size_t>(kGranule);
  const CUmemAllocationProp kind = memory_of(device_);
  std::int64_t done = 0;
  for (; done < bytes; done += kGranule) {
    CUmemGenericAllocationHandle granule;
    CUresult status = driver_->create(&granule, size, &kind, 0);
    if (status == CUDA_SUCCESS) {
      status = driver_->map(number(at + done), size, 0, granule, 0);
      driver_->forget(granule);  // it lives as long as it is mapped
    }
    if (status == CUDA_SUCCESS) continue;
    failed_ = status != CUDA_ERROR_OUT_OF_MEMORY;
    break;
  }
  if (done == 0) return 0;
  CUmemAccessDesc access{};
  access.location = kind.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  const CUresult status = driver_->allow(number(at), static_cast<std::size_t>(done), &access, 1);
  if (status == CUDA_SUCCESS) return done;
  failed_ |= status != CUDA_ERROR_OUT_OF_MEMORY;
  unmap(at, done);
  return 0;
}
void VirtualMemory::unmap(char* at, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += kGranule)
    driver_->unmap(number(at + i), static_cast<std::size_t>(kGranule));
}

}  // namespace ts::cuda
