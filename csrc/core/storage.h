// Storage: a block of bytes with a count of its owners, a version, and a read-only flag.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "core/error.h"

namespace ts {

// One accelerator per process: "cuda" is the first that CUDA_VISIBLE_DEVICES leaves.
enum class Device : std::uint8_t { cpu, cuda };
constexpr int kDevices = 2;
const char* name(Device device);

// Where this thread's fresh storages lie. An operation allocates on the device of its operands: whoever calls
// one puts a DeviceScope around it.
extern thread_local Device g_device [[gnu::tls_model("initial-exec")]];

class DeviceScope {
 public:
  explicit DeviceScope(Device device) : before_(g_device) { g_device = device; }
  ~DeviceScope() { g_device = before_; }
  DeviceScope(const DeviceScope&) = delete;
  void operator=(const DeviceScope&) = delete;

 private:
  Device before_;
};

class Storage {
 public:
  // Fresh memory from this thread's device, contents undefined. MemoryError when there is none.
  static Storage* allocate(std::int64_t nbytes);
  // Memory that someone else owns; `release(owner)` is called once, when the last view of it is gone.
  static Storage* adopt(void* data, std::int64_t nbytes, bool read_only, void* owner, void (*release)(void*),
                        Device device = Device::cpu);
  // Names the device in views whose memory is given by address alone, as in a replay; it holds nothing.
  static const Storage* stand_in(Device device);

  void* data() const { return data_; }
  std::int64_t nbytes() const { return nbytes_; }
  Device device() const { return device_; }
  bool read_only() const { return read_only_; }
  void set_read_only() { read_only_ = true; }
  bool adopted() const { return release_ != nullptr; }
  bool untouched() const;  // just allocated, and all zeros as the system gave it

  // Counts the writes since the storage was made; what backward saved carries the version that it saw.
  std::uint32_t version() const { return version_; }
  void bump() { ++version_; }

  void retain() { owners_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }
  int owners() const { return owners_.load(std::memory_order_relaxed); }

 private:
  Storage() = default;
  static Storage* make(void* block, void* data, std::int64_t nbytes, Device device);
  void destroy();

  void* data_;
  std::int64_t nbytes_;
  std::atomic<std::int32_t> owners_;
  std::uint32_t version_;
  bool read_only_;
  Device device_;
  void* owner_;
  void (*release_)(void*);
};

// A counted reference.
class StorageRef {
 public:
  StorageRef() = default;
  explicit StorageRef(Storage* fresh) : p_(fresh) {}  // takes over the first reference
  StorageRef(const StorageRef& other) : p_(other.p_) {
    if (p_) p_->retain();
  }
  StorageRef(StorageRef&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~StorageRef() {
    if (p_) p_->release();
  }
  Storage* get() const { return p_; }
  Storage* operator->() const { return p_; }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  Storage* p_ = nullptr;
};

}  // namespace ts
