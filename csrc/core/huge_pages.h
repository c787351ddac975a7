// Memory from the system, aligned to huge pages and advised to be made of them.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace ts {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Maps `bytes` (a multiple of 4096) at a multiple of kHugePage; null when the system refuses.
inline char* map_huge_pages(std::size_t bytes, int flags = 0) {
  void* raw =
      mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(raw);
  const std::size_t lead = -reinterpret_cast<std::uintptr_t>(begin) % kHugePage;
  if (lead) munmap(begin, lead);
  begin += lead;
  munmap(begin + bytes, kHugePage - lead);
#ifdef MADV_HUGEPAGE
  madvise(begin, bytes, MADV_HUGEPAGE);
#endif
  return begin;
}

}  // namespace ts
