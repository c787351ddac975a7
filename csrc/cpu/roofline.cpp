// The machine's own limits, which `tensorsmith bench` prints every kernel as a share of.
//
//   fma_loop:  acc[j] = acc[j] * a + b in registers; nothing is read or written.
//   copy_loop: y[i] = x[i]; reads x once, writes y once.
//
// P pieces; each piece is kFmaLoopFlops operations on every SIMD level.
#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

namespace {

// Enough chains to hide FMA latency (4 cycles × 2 units), few enough for the 16 registers of AVX2.
constexpr int kChains = 12;
constexpr std::int64_t kFmaLoopFlops = std::int64_t{3} << 22;

template <class T>
T fma_chains(T a_value, T b_value) {
  using V = Vec<T>;
  V acc[kChains];
  const V a(a_value), b(b_value);
  for (int j = 0; j < kChains; ++j) acc[j] = V(static_cast<T>(j));
  const std::int64_t rounds = kFmaLoopFlops / (2 * kChains * V::width);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kChains; ++j) acc[j] = fma(acc[j], a, b);
  }
  V total = acc[0];
  for (int j = 1; j < kChains; ++j) total = total + acc[j];
  T sum = 0;
  for (int i = 0; i < V::width; ++i) sum += total[i];
  return sum;
}

constexpr std::int64_t kCopyPiece = std::int64_t{1} << 20;  // bytes

using Bytes = Vec<std::uint8_t>;

TS_INLINE void stream(char* to, Bytes v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), __m512i(v.r));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), __m256i(v.r));
#else
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), __m128i(v.r));
#endif
}

}  // namespace

// y[p] holds what piece p came to, so that the loop cannot be dropped; y[p] on entry keeps a and b unknown to
// the compiler: a = 1 - tiny, b = y[p], which must be finite.
void fma_loop(Out y) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    T* out = y.as<T>();
    const std::int64_t step = y.strides[0];
    parallel_for(y.shape[0], [&](std::int64_t p) {
      T& cell = out[p * step];
      cell = fma_chains<T>(static_cast<T>(1) - static_cast<T>(1e-3), cell) * static_cast<T>(1e-9);
    });
  });
}

// x, y contiguous and of one size in bytes. With `streaming`, stores go past the caches.
void copy_loop(In x, Out y, bool streaming) {
  const std::int64_t bytes = y.size() * itemsize(y.dtype);
  const char* from = static_cast<const char*>(x.data);
  char* to = static_cast<char*>(y.data);
  const bool aligned = reinterpret_cast<std::uintptr_t>(to) % kVectorBytes == 0;
  parallel_ranges(bytes, kCopyPiece, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t whole = end - (end - begin) % kVectorBytes;
    std::int64_t i = begin;
    for (; i < whole; i += kVectorBytes) {
      const Bytes v = Bytes::load(reinterpret_cast<const std::uint8_t*>(from + i));
      if (streaming && aligned)
        stream(to + i, v);
      else
        v.store(reinterpret_cast<std::uint8_t*>(to + i));
    }
    std::memcpy(to + i, from + i, static_cast<std::size_t>(end - i));
    if (streaming) _mm_sfence();
  });
}

}  // namespace ts::cpu::TS_ISA
