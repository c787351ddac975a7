// csrc/cuda/intrinsics.h for the host. The matrix instructions exchange fragments as documented there; sums
// are cut off as tensor cores cut them, at one bit below the largest term's float32 digits.
#pragma once

#include <cuda_runtime.h>

#include <tuple>

#include "core/half.h"

namespace ts::cuda {

template <class... Params, class... Args>
void launch_on(cudaStream_t stream, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared,
               const Args&... args) {
  if (shared > sizeof cuda_host::dynamic_memory) std::abort();
  constexpr unsigned kMost = 65535;  // along y and z
  if (grid.x == 0 || grid.x > INT32_MAX || grid.y == 0 || grid.y > kMost || grid.z == 0 || grid.z > kMost) {
    cuda_host::failed(cudaErrorInvalidConfiguration);
    return;
  }
  const std::tuple<std::decay_t<Params>...> held(static_cast<Params>(args)...);
  if (std::apply([](const auto&... a) { return (false || ... || cuda_host::points_to_host(a)); }, held)) {
    cuda_host::failed(cudaErrorIllegalAddress);
    return;
  }
  cuda_host::submit(stream, [=] {
    std::memset(cuda_host::dynamic_memory, 0xff, shared);
    std::apply([&](const auto&... a) { cuda_host::run(kernel, grid, block, a...); }, held);
  });
}

inline unsigned char* dynamic_shared() { return cuda_host::dynamic_memory; }

template <class T>
void computed_here(T&) {}

// Copies happen as late as they may: when they are waited for.
inline void copy_async(void* shared, const void* from, int bytes) {
  cuda_host::self().copies.push_back({shared, from, bytes});
}
inline void commit_copies() {
  cuda_host::Fiber& f = cuda_host::self();
  f.groups.push_back(f.copies.size());
}
template <int kLeft>
void wait_copies() {
  cuda_host::Fiber& f = cuda_host::self();
  if (f.groups.size() <= kLeft) return;
  const std::size_t through = f.groups.size() - kLeft, end = f.groups[through - 1];
  for (; f.copied < end; ++f.copied) {
    const cuda_host::Copy& c = f.copies[f.copied];
    std::memset(c.to, 0, 16);
    if (c.bytes > 0) std::memcpy(c.to, c.from, static_cast<std::size_t>(c.bytes));
  }
}

inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  const int lane = cuda_host::lane();
  const auto rows = cuda_host::offer(row);
  for (int i = 0; i < 4; ++i)
    std::memcpy(&r[i], static_cast<const unsigned char*>(rows[8 * i + lane / 4]) + 4 * (lane % 4), 4);
  cuda_host::synchronize_warp();
}
inline void load_matrices_transposed(std::uint32_t (&r)[4], const void* row) {
  const int lane = cuda_host::lane();
  const auto rows = cuda_host::offer(row);
  for (int i = 0; i < 4; ++i) {
    std::uint16_t low, high;
    std::memcpy(&low, static_cast<const unsigned char*>(rows[8 * i + 2 * (lane % 4)]) + 2 * (lane / 4), 2);
    std::memcpy(&high, static_cast<const unsigned char*>(rows[8 * i + 2 * (lane % 4) + 1]) + 2 * (lane / 4),
                2);
    r[i] = low | static_cast<std::uint32_t>(high) << 16;
  }
  cuda_host::synchronize_warp();
}

// d + the products, each towards zero to a multiple of 2^(e - 24), e the exponent of the largest: one bit
// more than a float32 of that exponent has.
inline float sum_cut(float d, const double* products, int count) {
  double largest = std::fabs(static_cast<double>(d)), plain = static_cast<double>(d);
  for (int i = 0; i < count; ++i) {
    plain += products[i];
    largest = std::fmax(largest, std::fabs(products[i]));
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  if (largest == 0) return 0;
  std::uint64_t bits;
  std::memcpy(&bits, &largest, 8);
  const std::uint64_t up = (2 * 1023 + 24 - (bits >> 52)) << 52, down = ((bits >> 52) - 24) << 52;
  double scale, back;
  std::memcpy(&scale, &up, 8), std::memcpy(&back, &down, 8);
  std::int64_t sum = static_cast<std::int64_t>(static_cast<double>(d) * scale);
  for (int i = 0; i < count; ++i) sum += static_cast<std::int64_t>(products[i] * scale);
  const double exact = static_cast<double>(sum) * back;
  const float near = static_cast<float>(exact);
  return std::fabs(static_cast<double>(near)) > std::fabs(exact) ? std::nextafterf(near, 0) : near;
}

template <int kDeep, class Number>
void multiply_numbers(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                      Number number) {
  struct Fragments {
    std::uint32_t a[4], b[2];
  };
  const auto all = cuda_host::offer(Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const int lane = cuda_host::lane(), g = lane / 4, t = lane % 4;
  constexpr int kEach = kDeep / 8, kHalf = kDeep / 2;  // numbers in a register; k of a register's second half
  for (int e = 0; e < 4; ++e) {
    const int row = g + e / 2 * 8, column = 2 * t + e % 2;
    double products[kDeep];
    for (int k = 0; k < kDeep; ++k) {
      const int holder = k % kHalf / kEach, which = k % kEach, upper = k / kHalf;
      products[k] = number(all[row % 8 * 4 + holder].a[row / 8 + 2 * upper], which) *
                    number(all[column * 4 + holder].b[upper], which);
    }
    d[e] = sum_cut(d[e], products, kDeep);
  }
  cuda_host::synchronize_warp();
}
inline void multiply_bfloat16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                              std::uint32_t b1) {
  multiply_numbers<16>(d, a, b0, b1, [](std::uint32_t r, int which) {
    return static_cast<double>(float_from_bfloat16(static_cast<std::uint16_t>(r >> 16 * which)));
  });
}
inline void multiply_float16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  multiply_numbers<16>(d, a, b0, b1, [](std::uint32_t r, int which) {
    return static_cast<double>(float_from_float16(static_cast<std::uint16_t>(r >> 16 * which)));
  });
}
inline void multiply_tf32(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  multiply_numbers<8>(d, a, b0, b1, [](std::uint32_t r, int) {
    const std::uint32_t seen = r & 0xffffe000u;
    float x;
    std::memcpy(&x, &seen, 4);
    return static_cast<double>(x);
  });
}
inline std::uint32_t round_tf32(std::uint32_t x) {
  return (x & 0x7f800000u) == 0x7f800000u ? x : (x + 0x1000u) & 0xffffe000u;
}
inline std::uint32_t pack_bfloat16(float low, float high) {
  return bfloat16_from_float(low) | static_cast<std::uint32_t>(bfloat16_from_float(high)) << 16;
}
inline std::uint32_t pack_float16(float low, float high) {
  return float16_from_float(low) | static_cast<std::uint32_t>(float16_from_float(high)) << 16;
}

inline float exp2_near(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}

}  // namespace ts::cuda
