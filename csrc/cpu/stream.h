// Stores past the caches, for results that no cache holds: their lines are not read before they are written.
#pragma once

#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

constexpr std::int64_t kStreamBytes = std::int64_t{16} << 20;  // results from here on
constexpr std::int64_t kLine = 64;

// Copies a multiple of kLine bytes to a multiple of kLine. An _mm_sfence belongs behind the last.
TS_INLINE void stream(char* to, const char* from, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += kVectorBytes) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#else
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
#endif
  }
}

// One register, to a multiple of its size.
template <class T>
TS_INLINE void stream_lanes(T* to, Vec<T> v) {
  stream(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(&v.r), kVectorBytes);
}

// Asks for the lines 1 KiB behind [p, p + bytes): while a run is computed and stored past the caches, nothing
// else keeps loads in flight.
TS_INLINE void ask_ahead(const void* p, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(static_cast<const char*>(p) + 1024 + i);
}

// How many of n elements lie before the first whole line.
TS_INLINE std::int64_t before_line(const void* data, std::int64_t item, std::int64_t n) {
  const std::int64_t first = (-reinterpret_cast<std::intptr_t>(data) & (kLine - 1)) / item;
  return first < n ? first : n;
}
TS_INLINE bool at_line(const void* data) { return reinterpret_cast<std::intptr_t>(data) % kLine == 0; }

}  // namespace ts::cpu::TS_ISA
