#include "core/storage.h"

#include <new>

#include "core/allocator.h"

namespace ts {

// A storage and its data are one block: the header takes the first line of 64 bytes, so that a small array
// costs one trip to the allocator.
constexpr std::int64_t kHeader = 64;
static_assert(sizeof(Storage) <= kHeader);

Storage* Storage::allocate(std::int64_t nbytes) {
  void* block = ts::allocate(static_cast<std::size_t>(nbytes + kHeader));
  auto* s = new (block) Storage;
  s->data_ = static_cast<char*>(block) + kHeader;
  s->nbytes_ = nbytes;
  s->owners_.store(1, std::memory_order_relaxed);
  s->version_ = 0;
  s->read_only_ = false;
  s->owner_ = nullptr;
  s->release_ = nullptr;
  return s;
}

Storage* Storage::adopt(void* data, std::int64_t nbytes, bool read_only, void* owner,
                        void (*release)(void*)) {
  Storage* s = allocate(0);
  s->data_ = data;
  s->nbytes_ = nbytes;
  s->read_only_ = read_only;
  s->owner_ = owner;
  s->release_ = release;
  return s;
}

void Storage::destroy() {
  const std::int64_t own = release_ ? 0 : nbytes_;
  if (release_) release_(owner_);
  this->~Storage();
  deallocate(this, static_cast<std::size_t>(own + kHeader));
}

}  // namespace ts
