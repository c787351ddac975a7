// csrc/cuda/hopper.h for the host. Copies happen as late as they may, when their barrier is waited for, or
// with CUDA_HOST_COPIES=early at once, and before whoever arrived for them goes on; products as late as they
// may, when their group is waited for: from where the descriptors say and from the registers as they are
// then, with the sums of mma.sync.
#pragma once

#include <functional>
#include <string_view>

#include "cuda/device.h"

namespace ts::cuda {

namespace hopper_host {
[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "cuda_host: %s\n", what);
  std::abort();
}
inline std::uint32_t address(const void* p) {
  const auto at = static_cast<const unsigned char*>(p) - cuda_host::dynamic_memory;
  if (at < 0 || at >= static_cast<std::ptrdiff_t>(sizeof cuda_host::dynamic_memory))
    fail("not in dynamic shared memory");
  return static_cast<std::uint32_t>(at);
}
inline bool early_copies() {
  const char* when = std::getenv("CUDA_HOST_COPIES");
  return when && std::string_view(when) == "early";
}
// The 128-byte swap, of an address.
inline std::uint32_t swapped(std::uint32_t at) { return at ^ (at >> 7 & 7) << 4; }

struct Waiting {
  const void* barrier;
  std::function<void()> copy;
};
inline std::vector<Waiting> copies;

// A thread's products that it has not waited for, and where each group of them ends.
struct Pending {
  std::vector<std::function<void()>> products;
  std::vector<std::size_t> groups;
};
inline Pending pending[cuda_host::kMaxThreads];
inline Pending& own() { return pending[cuda_host::block.current]; }
}  // namespace hopper_host

struct Barrier {
  std::int32_t bytes;  // announced and not there
  std::uint8_t phase, arrivals, missing, valid;
};
static_assert(sizeof(Barrier) == 8);
inline void barrier_start(Barrier* b, int arrivals) {
  const auto count = static_cast<std::uint8_t>(arrivals);
  *b = {0, 0, count, count, 0x5a};
}
inline void barriers_started() {
  if (!hopper_host::copies.empty()) hopper_host::fail("a block left copies that nobody waited for");
  for (const hopper_host::Pending& p : hopper_host::pending)
    if (!p.products.empty()) hopper_host::fail("a block left products that nobody waited for");
}
inline void barrier_check(Barrier* b) {
  if (b->valid != 0x5a) hopper_host::fail("a barrier that was not started");
  if (b->missing || b->bytes) return;
  b->phase ^= 1;
  b->missing = b->arrivals;
  ++cuda_host::block.events;
}
inline void barrier_count(Barrier* b) {
  if (b->missing == 0) hopper_host::fail("more arrivals than a barrier takes");
  --b->missing;
  barrier_check(b);
}
inline void barrier_arrive(Barrier* b) {
  barrier_count(b);
  if (!hopper_host::early_copies()) return;
  ++cuda_host::block.events;
  cuda_host::spin();  // the others first
}
inline void barrier_expect(Barrier* b, int bytes) {
  b->bytes += bytes;
  barrier_count(b);
}
inline void barrier_wait(Barrier* b, int parity) {
  for (;;) {
    if ((b->phase & 1) != parity) break;
    auto& copies = hopper_host::copies;
    for (std::size_t i = 0; i < copies.size();) {
      if (copies[i].barrier != b) {
        ++i;
        continue;
      }
      const auto copy = std::move(copies[i].copy);
      copies.erase(copies.begin() + static_cast<std::ptrdiff_t>(i));
      copy();
      ++cuda_host::block.events;
    }
    if ((b->phase & 1) == parity) cuda_host::spin();
  }
  ++cuda_host::block.events;
}

struct TensorMap {
  const unsigned char* data;
  std::int64_t shape[4], strides[3], rows, item;
};
inline bool encode_tensor_map(TensorMap& map, const void* data, DType number, const std::int64_t (&shape)[4],
                              const std::int64_t (&strides)[3], int rows) {
  map.data = static_cast<const unsigned char*>(data);
  map.rows = rows, map.item = itemsize(number);
  std::memcpy(map.shape, shape, sizeof shape);
  std::memcpy(map.strides, strides, sizeof strides);
  bool valid = reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && rows >= 1 && rows <= 256;
  for (const std::int64_t extent : shape) valid = valid && extent >= 1 && extent <= (std::int64_t{1} << 32);
  for (const std::int64_t stride : strides)
    valid = valid && stride > 0 && stride % 16 == 0 && stride < (std::int64_t{1} << 40);
  return valid;
}
inline void prefetch_map(const TensorMap*) {}
inline void copy_box(void* shared, const TensorMap* map, Barrier* b, int x, int y, int z, int w) {
  const std::uint32_t to = hopper_host::address(shared);
  if (to % 1024) hopper_host::fail("a box that is not on 1024 bytes");
  auto copy = [=] {
    for (int r = 0; r < map->rows; ++r)
      for (int e = 0; e < 128 / map->item; ++e) {
        const std::int64_t at[4] = {x + e, y + r, z, w};
        const unsigned char* from = map->data + map->item * at[0];
        bool inside = true;
        for (int i = 0; i < 4; ++i) {
          inside = inside && at[i] >= 0 && at[i] < map->shape[i];
          if (i > 0) from += at[i] * map->strides[i - 1];
        }
        const auto item = static_cast<std::size_t>(map->item);
        std::uint32_t number = 0;
        if (inside) std::memcpy(&number, from, item);
        const std::uint32_t place =
            hopper_host::swapped(to + static_cast<std::uint32_t>(128 * r + map->item * e));
        std::memcpy(cuda_host::dynamic_memory + place, &number, item);
      }
    b->bytes -= static_cast<std::int32_t>(map->rows * 128);
    barrier_check(b);
  };
  if (hopper_host::early_copies())
    copy();
  else
    hopper_host::copies.push_back({b, std::move(copy)});
}
template <class... Params>
bool compiled_for_hopper(void (*)(Params...)) {
  return true;
}

inline std::uint64_t matrix_descriptor(const void* tile, int to_next_64) {
  return static_cast<std::uint64_t>(hopper_host::address(tile) >> 4) |
         static_cast<std::uint64_t>(to_next_64 >> 4) << 16 | std::uint64_t{1024 >> 4} << 32 |
         std::uint64_t{1} << 62;
}
inline void products_begin() {}
inline void products_commit() {
  hopper_host::Pending& p = hopper_host::own();
  p.groups.push_back(p.products.size());
}
template <int kLeft>
void products_wait() {
  hopper_host::Pending& p = hopper_host::own();
  if (p.groups.size() <= kLeft) return;
  const std::size_t through = p.groups.size() - kLeft, end = p.groups[through - 1];
  for (std::size_t i = 0; i < end; ++i) p.products[i]();
  p.products.erase(p.products.begin(), p.products.begin() + static_cast<std::ptrdiff_t>(end));
  p.groups.erase(p.groups.begin(), p.groups.begin() + static_cast<std::ptrdiff_t>(through));
  for (std::size_t& g : p.groups) g -= end;
}
template <class T, int kCount>
void hold(T (&)[kCount]) {}

// Number k of row r of the matrix that a descriptor speaks of: PTX's canonical layouts with the 128-byte
// swap.
template <class Bits>
Bits number_at(std::uint64_t descriptor, bool turned, int r, int k) {
  const auto field = [&](int bit) { return static_cast<std::uint32_t>(descriptor >> bit & 0x3fff) << 4; };
  const auto row = static_cast<std::uint32_t>(r), deep = static_cast<std::uint32_t>(k);
  const std::uint32_t start = field(0), leading = field(16), stride = field(32), item = sizeof(Bits);
  const std::uint32_t at =
      start + (turned ? row / 64 * leading + row % 64 * item + deep / 8 * stride + deep % 8 * 128
                      : row / 8 * stride + row % 8 * 128 + deep * item);
  Bits number;
  std::memcpy(&number, cuda_host::dynamic_memory + hopper_host::swapped(at), sizeof number);
  return number;
}
// d's columns times the rows that left(h, k) gives, h 0 and 1 for those g and g + 8 of the warp's.
template <bool kTurnB, class Bits, int kCount, class Left, class Number>
void columns_times(float (&d)[kCount], const Left& left, std::uint64_t b, int add, Number number) {
  constexpr int kDeep = 32 / sizeof(Bits);
  const int lane = cuda_host::lane();
  double products[kDeep];
  for (int j = 0; j < kCount / 4; ++j)
    for (int e = 0; e < 2; ++e) {
      double right[kDeep];
      for (int k = 0; k < kDeep; ++k)
        right[k] = number(number_at<Bits>(b, kTurnB, 8 * j + lane % 4 * 2 + e, k));
      for (int h = 0; h < 2; ++h) {
        float& sum = d[4 * j + 2 * h + e];
        for (int k = 0; k < kDeep; ++k) products[k] = left[h][k] * right[k];
        sum = sum_cut(add ? sum : 0.0f, products, kDeep);
      }
    }
}
template <bool kTurnA, bool kTurnB, class Bits, int kCount, class Number>
void warpgroup_products(float (&d)[kCount], std::uint64_t a, std::uint64_t b, int add, Number number) {
  hopper_host::own().products.push_back([&d, a, b, add, number] {
    constexpr int kDeep = 32 / sizeof(Bits);
    const int first = cuda_host::block.current / 32 % 4 * 16 + cuda_host::lane() / 4;
    double left[2][kDeep];
    for (int h = 0; h < 2; ++h)
      for (int k = 0; k < kDeep; ++k) left[h][k] = number(number_at<Bits>(a, kTurnA, first + 8 * h, k));
    columns_times<kTurnB, Bits>(d, left, b, add, number);
  });
}
// With a as fragments of mma.sync in the registers of a row's four lanes.
template <bool kTurnB, int kCount, class Number>
void warpgroup_products(float (&d)[kCount], std::uint32_t (&a)[4], std::uint64_t b, Number number) {
  hopper_host::own().products.push_back([&d, &a, b, number] {
    struct Fragment {
      std::uint32_t a[4];
    };
    const auto all = cuda_host::offer(Fragment{{a[0], a[1], a[2], a[3]}});
    double left[2][16];
    for (int h = 0; h < 2; ++h)
      for (int k = 0; k < 16; ++k) {
        const std::uint32_t pair = all[cuda_host::lane() / 4 * 4 + k % 8 / 2].a[h + k / 8 * 2];
        left[h][k] = number(static_cast<std::uint16_t>(pair >> 16 * (k % 2)));
      }
    cuda_host::synchronize_warp();
    columns_times<kTurnB, std::uint16_t>(d, left, b, 1, number);
  });
}
template <int kTurnB, int kCount>
void warpgroup_accumulate_bfloat16(float (&d)[kCount], std::uint32_t (&a)[4], std::uint64_t b) {
  warpgroup_products<kTurnB != 0>(
      d, a, b, [](std::uint16_t x) { return static_cast<double>(float_from_bfloat16(x)); });
}
template <int kTurnB, int kCount>
void warpgroup_accumulate_float16(float (&d)[kCount], std::uint32_t (&a)[4], std::uint64_t b) {
  warpgroup_products<kTurnB != 0>(d, a, b,
                                  [](std::uint16_t x) { return static_cast<double>(float_from_float16(x)); });
}
template <int kTurnA, int kTurnB, int kCount>
void warpgroup_multiply_bfloat16(float (&d)[kCount], std::uint64_t a, std::uint64_t b, int add) {
  warpgroup_products<kTurnA != 0, kTurnB != 0, std::uint16_t>(
      d, a, b, add, [](std::uint16_t x) { return static_cast<double>(float_from_bfloat16(x)); });
}
template <int kTurnA, int kTurnB, int kCount>
void warpgroup_multiply_float16(float (&d)[kCount], std::uint64_t a, std::uint64_t b, int add) {
  warpgroup_products<kTurnA != 0, kTurnB != 0, std::uint16_t>(
      d, a, b, add, [](std::uint16_t x) { return static_cast<double>(float_from_float16(x)); });
}
template <int kTurnA, int kTurnB, int kCount>
void warpgroup_multiply_tf32(float (&d)[kCount], std::uint64_t a, std::uint64_t b, int add) {
  static_assert(!kTurnA && !kTurnB);
  warpgroup_products<false, false, std::uint32_t>(d, a, b, add, [](std::uint32_t x) {
    const std::uint32_t seen = x & 0xffffe000u;
    float y;
    std::memcpy(&y, &seen, 4);
    return static_cast<double>(y);
  });
}
template <int kCount>
void fewer_registers() {}
template <int kCount>
void more_registers() {}

}  // namespace ts::cuda
