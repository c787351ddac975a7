// A convolution's operands for the float32 tiles of gemm_vector.h: four channels of one pixel at a time.
#pragma once

#include "cuda/conv_patches.h"
#include "cuda/gemm_vector.h"

namespace ts::cuda {

// Rows are places and k is (tap, channel): four channels of k, in whole fours of a tap.
struct PatchFours {
  using Operand = PatchRows<float>;
  const float* place;  // where its tap (0, 0) lies
  float4 held;
  int h, w;     // of that
  int c, i, j;  // of the four to come

  TS_INLINE static int row() { return static_cast<int>(threadIdx.x / 2); }
  TS_INLINE static int deep() { return static_cast<int>(threadIdx.x % 2 * 4); }

  TS_INLINE PatchFours(const Operand& x, std::int64_t first_row, std::int64_t begin) {
    const auto o = x.row(first_row + row());
    place = x.x + o.offset, h = o.h, w = o.w;
    x.taps.split(begin + deep(), c, i, j);
  }
  TS_INLINE void fetch(const Operand& x, int left) {
    const int dh = i * x.h.step, dw = j * x.w.step;
    held = float4{0, 0, 0, 0};
    if (deep() < left && static_cast<unsigned>(h + dh) < static_cast<unsigned>(x.h.extent) &&
        static_cast<unsigned>(w + dw) < static_cast<unsigned>(x.w.extent))
      held = *reinterpret_cast<const float4*>(place + (dh * x.xs.h + dw * x.xs.w + c));
    const int channels = static_cast<int>(x.taps.channels.divisor);
    c += kVectorDeep;
    while (c >= channels) {
      c -= channels;
      if (++j == x.w.taps) j = 0, ++i;
    }
  }
  TS_INLINE void put(float* tile) const { put_four<true>(tile, row(), deep(), held); }
};

// Rows are (tap, channel), four channels a thread, and k the places.
struct PatchColumnFours {
  using Operand = PatchColumns<float>;
  const float* tap;
  float4 held;
  int dh, dw;  // below -2^29: beyond the last row
  std::int64_t k;

  TS_INLINE static int row() { return static_cast<int>(threadIdx.x % 32 * 4); }
  TS_INLINE static int deep() { return static_cast<int>(threadIdx.x / 32); }

  TS_INLINE PatchColumnFours(const Operand& x, std::int64_t first_row, std::int64_t begin) {
    const auto t = x.row(first_row + row());
    tap = x.x + t.offset, dh = t.h, dw = t.w;
    k = begin + deep();
  }
  TS_INLINE void fetch(const Operand& x, int left) {
    held = float4{0, 0, 0, 0};
    const auto o = x.col(k);
    if (deep() < left && static_cast<unsigned>(o.h + dh) < static_cast<unsigned>(x.h.extent) &&
        static_cast<unsigned>(o.w + dw) < static_cast<unsigned>(x.w.extent))
      held = *reinterpret_cast<const float4*>(tap + o.offset);
    k += kVectorDeep;
  }
  TS_INLINE void put(float* tile) const { put_four<false>(tile, row(), deep(), held); }
};

}  // namespace ts::cuda
