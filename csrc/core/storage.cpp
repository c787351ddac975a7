#include "core/storage.h"

#include <new>

#include "core/allocator.h"
#include "core/dispatch.h"
#include "core/watch.h"

namespace ts {

constinit thread_local Device g_device [[gnu::tls_model("initial-exec")]] = Device::cpu;

const char* name(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

// On the CPU a storage and its data are one block: the header takes the first line of 64 bytes, so that a
// small array costs one trip to the allocator. Device memory has its header here.
constexpr std::int64_t kHeader = 64;
static_assert(sizeof(Storage) <= kHeader);

Storage* Storage::make(void* block, void* data, std::int64_t nbytes, Device device) {
  auto* s = new (block) Storage;
  s->data_ = data;
  s->nbytes_ = nbytes;
  s->owners_.store(1, std::memory_order_relaxed);
  s->version_ = 0;
  s->read_only_ = false;
  s->device_ = device;
  s->owner_ = nullptr;
  s->release_ = nullptr;
  if (detail::watching()) [[unlikely]]
    detail::storage_created(s);
  return s;
}

Storage* Storage::allocate(std::int64_t nbytes) {
  if (g_device != Device::cpu) [[unlikely]] {
    const Accelerator& device = accelerator(g_device);
    void* block = ts::allocate(static_cast<std::size_t>(kHeader));
    try {
      return make(block, device.allocate(nbytes), nbytes, g_device);
    } catch (...) {
      deallocate(block, static_cast<std::size_t>(kHeader));
      throw;
    }
  }
  void* block = ts::allocate(static_cast<std::size_t>(nbytes + kHeader));
  return make(block, static_cast<char*>(block) + kHeader, nbytes, Device::cpu);
}

bool Storage::untouched() const {
  return device_ == Device::cpu && !adopted() && version_ == 0 &&
         ts::untouched(this, static_cast<std::size_t>(nbytes_ + kHeader));
}

Storage* Storage::adopt(void* data, std::int64_t nbytes, bool read_only, void* owner, void (*release)(void*),
                        Device device) {
  Storage* s = make(ts::allocate(static_cast<std::size_t>(kHeader)), data, nbytes, device);
  s->read_only_ = read_only;
  s->owner_ = owner;
  s->release_ = release;
  return s;
}

const Storage* Storage::stand_in(Device device) {
  static const Storage* const all[kDevices] = {
      make(ts::allocate(static_cast<std::size_t>(kHeader)), nullptr, 0, Device::cpu),
      make(ts::allocate(static_cast<std::size_t>(kHeader)), nullptr, 0, Device::cuda)};
  return all[static_cast<int>(device)];
}

void Storage::destroy() {
  if (detail::watching()) [[unlikely]]
    detail::storage_destroyed(this);
  const std::int64_t own = release_ || device_ != Device::cpu ? 0 : nbytes_;
  if (release_)
    release_(owner_);
  else if (device_ != Device::cpu)
    accelerator(device_).deallocate(data_, nbytes_);
  this->~Storage();
  deallocate(this, static_cast<std::size_t>(own + kHeader));
}

}  // namespace ts
