// A convolution's operands for the float32 tiles of gemm_vector.h: four channels of one pixel at a time.
#pragma once

#include "cuda/conv_patches.h"
#include "cuda/gemm_vector.h"

namespace ts::cuda {

// Rows are places and k is (tap, channel): four channels of k, in whole fours of a tap.
struct PatchFours : FoursAlongK {
  using Operand = PatchRows<float>;
  const float* places[2];  // where their tap (0, 0) lies
  int h[2], w[2];          // of that
  int c, i, j;             // of the fours to come

  TS_INLINE PatchFours(const Operand& x, std::int64_t first_row, std::int64_t begin) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const auto o = x.row(first_row + row() + r * kApart);
      places[r] = x.x + o.offset, h[r] = o.h, w[r] = o.w;
    }
    x.taps.split(begin + deep(), c, i, j);
  }
  TS_INLINE static bool whole(const Operand&, std::int64_t) { return true; }
  template <bool kWhole>
  TS_INLINE void fetch(const Operand& x, float*, int left) {
    const int dh = i * x.h.step, dw = j * x.w.step;
    const std::int64_t tap = dh * x.xs.h + dw * x.xs.w + c;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      held[r] = float4{0, 0, 0, 0};
      if ((kWhole || deep() < left) && static_cast<unsigned>(h[r] + dh) < static_cast<unsigned>(x.h.extent) &&
          static_cast<unsigned>(w[r] + dw) < static_cast<unsigned>(x.w.extent))
        held[r] = *reinterpret_cast<const float4*>(places[r] + tap);
    }
    c += kVectorDeep;
    const int channels = static_cast<int>(x.taps.channels.divisor);
#pragma unroll
    for (int taps = 0; taps < kVectorDeep / 4; ++taps)
      if (c >= channels) {
        c -= channels;
        if (++j == x.w.taps) j = 0, ++i;
      }
  }
};

// Rows are (tap, channel), four channels a thread, and k the places.
struct PatchColumnFours : FoursAcrossK {
  using Operand = PatchColumns<float>;
  const float* tap;
  int dh, dw;  // below -2^29: beyond the last row
  std::uint32_t k;

  TS_INLINE PatchColumnFours(const Operand& x, std::int64_t first_row, std::int64_t begin) {
    const auto t = x.row(first_row + row());
    tap = x.x + t.offset, dh = t.h, dw = t.w;
    k = static_cast<std::uint32_t>(begin + deep());
  }
  TS_INLINE static bool whole(const Operand&, std::int64_t) { return true; }
  template <bool kWhole>
  TS_INLINE void fetch(const Operand& x, float* tile, int left) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto o = x.place_inside(k + 4 * i);  // where it is not, nothing is read
      const bool inside = (kWhole || deep() + 4 * i < left) &&
                          static_cast<unsigned>(o.h + dh) < static_cast<unsigned>(x.h.extent) &&
                          static_cast<unsigned>(o.w + dw) < static_cast<unsigned>(x.w.extent);
      copy_async(tile + vector_place(row(), deep()) + i * vector_place(0, 4), tap + o.offset,
                 inside ? 16 : 0);  // of 0 bytes the address is not looked at
    }
    k += kVectorDeep;
  }
};

}  // namespace ts::cuda
