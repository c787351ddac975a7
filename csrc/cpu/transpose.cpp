// Gathering and scattering of tiles; see transpose.h.
#include "cpu/transpose.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class T>
void gather_as(char* buffer, const char* from, std::int64_t s0, std::int64_t s1, std::int64_t columns,
               std::int64_t rows) {
  T* to = reinterpret_cast<T*>(buffer);
  for (std::int64_t r = 0; r < rows; ++r, to += columns, from += s1) {
    if (s0 == static_cast<std::int64_t>(sizeof(T))) {
      std::memcpy(to, from, static_cast<std::size_t>(columns) * sizeof(T));
      continue;
    }
    for (std::int64_t c = 0; c < columns; ++c) std::memcpy(to + c, from + c * s0, sizeof(T));
  }
}
template <class T>
void scatter_as(char* to, const char* buffer, std::int64_t s0, std::int64_t s1, std::int64_t columns,
                std::int64_t rows) {
  const T* from = reinterpret_cast<const T*>(buffer);
  for (std::int64_t r = 0; r < rows; ++r, from += columns, to += s1) {
    if (s0 == static_cast<std::int64_t>(sizeof(T))) {
      std::memcpy(to, from, static_cast<std::size_t>(columns) * sizeof(T));
      continue;
    }
    for (std::int64_t c = 0; c < columns; ++c) std::memcpy(to + c * s0, from + c, sizeof(T));
  }
}

}  // namespace

void gather(char* buffer, const char* from, std::int64_t item, std::int64_t s0, std::int64_t s1, std::int64_t columns,
            std::int64_t rows) {
  switch (item) {
    case 1: return gather_as<std::uint8_t>(buffer, from, s0, s1, columns, rows);
    case 2: return gather_as<std::uint16_t>(buffer, from, s0, s1, columns, rows);
    case 4: return gather_as<std::uint32_t>(buffer, from, s0, s1, columns, rows);
    default: return gather_as<std::uint64_t>(buffer, from, s0, s1, columns, rows);
  }
}
void scatter(char* to, const char* buffer, std::int64_t item, std::int64_t s0, std::int64_t s1, std::int64_t columns,
             std::int64_t rows) {
  switch (item) {
    case 1: return scatter_as<std::uint8_t>(to, buffer, s0, s1, columns, rows);
    case 2: return scatter_as<std::uint16_t>(to, buffer, s0, s1, columns, rows);
    case 4: return scatter_as<std::uint32_t>(to, buffer, s0, s1, columns, rows);
    default: return scatter_as<std::uint64_t>(to, buffer, s0, s1, columns, rows);
  }
}

}  // namespace ts::cpu::TS_ISA
