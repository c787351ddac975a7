// Kernels along rows: the threads of a row, and how its elements are dealt to them.
//
// R rows, C columns. A row of up to 1024 elements belongs to a warp, a longer one to a block; which depends
// on C alone, and so does the order of every sum. Elements go to threads in packs of 16 bytes, whatever the
// alignment.
#pragma once

#include "core/view.h"
#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kRowThreads = 256;
constexpr std::int64_t kWarpRow = 1024;

template <class T>
struct RowView {
  T* data;
  std::int64_t stride;
  RowView() = default;
  explicit RowView(const View& v) : data(static_cast<T*>(v.data)), stride(v.ndim > 1 ? v.strides[0] : 0) {}
  TS_INLINE T* operator[](std::int64_t r) const { return data + r * stride; }
};
// One number a row.
template <class T>
struct LineView {
  T* data;
  std::int64_t stride;
  LineView() = default;
  explicit LineView(const View& v) : data(static_cast<T*>(v.data)), stride(v.ndim ? v.strides[0] : 0) {}
  TS_INLINE T& operator[](std::int64_t r) const { return data[r * stride]; }
};

struct Largest {
  template <class T>
  TS_INLINE T operator()(T a, T b) const {
    return b > a || b != b ? (a != a ? a : b) : a;
  }
};

// kBlock: the block is one row's; otherwise each of its warps has one.
template <class T, bool kBlock>
struct RowTeam {
  static constexpr int kSize = kBlock ? kRowThreads : kWarp, kPack = 16 / static_cast<int>(sizeof(T));
  std::int64_t C;
  T* shared;  // 32 numbers
  int thread;

  TS_INLINE RowTeam(std::int64_t columns, T* room)
      : C(columns), shared(room), thread(static_cast<int>(threadIdx.x) % kSize) {}
  TS_INLINE static std::int64_t row() {
    return kBlock ? std::int64_t{blockIdx.x}
                  : std::int64_t{blockIdx.x} * (kRowThreads / kWarp) + threadIdx.x / kWarp;
  }
  // f(i) for this thread's elements, a pack at a time.
  template <class F>
  TS_INLINE void each(F f) const {
    for (std::int64_t i = std::int64_t{thread} * kPack; i < C; i += std::int64_t{kSize} * kPack) {
      if (i + kPack <= C) {
#pragma unroll
        for (int j = 0; j < kPack; ++j) f(i + j);
      } else {
        for (std::int64_t j = i; j < C; ++j) f(j);
      }
    }
  }
  TS_INLINE T sum(T x) const {
    if constexpr (kBlock)
      return block_reduce(x, T(0), shared, Sum{});
    else
      return warp_reduce(x, Sum{});
  }
  TS_INLINE T max(T x) const {
    if constexpr (kBlock)
      return block_reduce(x, x, shared, Largest{});
    else
      return warp_reduce(x, Largest{});
  }
};

// Launches kernel<kBlock> for R rows of C elements.
template <class... Params, class... Args>
void launch_rows(void (*warp_kernel)(Params...), void (*block_kernel)(Params...), std::int64_t R,
                 std::int64_t C, const Args&... args) {
  if (R == 0) return;
  if (C <= kWarpRow)
    launch(warp_kernel, dim3(blocks_of(ceil_div(R, kRowThreads / kWarp))), dim3(kRowThreads), 0, args...);
  else
    launch(block_kernel, dim3(blocks_of(R)), dim3(kRowThreads), 0, args...);
}

}  // namespace ts::cuda
