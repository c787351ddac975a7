// Many lines read at the same positions: y[m] = x[c[m]] for every line, a register of outputs from a shuffle.
//
// Neighbouring outputs of a resampled, padded or flipped line read neighbouring inputs. Where the positions
// of a register of outputs lie within two registers of inputs, two loads and a shuffle bring them; else a
// gather does, or they are read one by one. Which it is, and the lanes, is found once for all lines.
#pragma once

#include <cstdint>
#include <limits>

#include "cpu/simd.h"

namespace ts::cpu::TS_ISA {

template <class T>
struct LineTap {
  static constexpr std::int64_t W = Vec<T>::width;
  using Lanes = typename Vec<T>::MaskReg;

  std::int64_t base, second;  // where the registers of inputs begin; how many elements the second has
  std::int64_t short_line;    // how many the first one has, where the line is shorter than a register; else 0
  bool near;                  // the lanes are relative to base
  bool two;                   // registers
  bool narrow;                // `lane` holds the distances from base
  std::int64_t count;         // outputs: the first lanes
  IntOf<T> lane[W];           // near or narrow: relative to base
  std::int64_t far[W];        // else: positions

  // at[0 .. count): positions in a line of N elements. Lanes behind read what lane 0 does.
  LineTap(const std::int64_t* at, std::int64_t stride, std::int64_t n, std::int64_t N)
      : second(0), short_line(N < W ? N : 0), count(n) {
    std::int64_t low = at[0], high = at[0];
    for (std::int64_t i = 0; i < n; ++i) {
      far[i] = at[i * stride];
      low = far[i] < low ? far[i] : low;
      high = far[i] > high ? far[i] : high;
    }
    for (std::int64_t i = n; i < W; ++i) far[i] = at[0];
    // The first register lies wholly in the line where that is long enough.
    base = low + W <= N ? low : N - W;
    if (base < 0) base = 0;
    two = high - base >= W;
    if (two) second = N - base - W < W ? N - base - W : W;
#if defined(__AVX2__)
    near = high - base < 2 * W;
#else
    near = false;  // no shuffle by variable lanes
#endif
    narrow = high - base <= std::numeric_limits<IntOf<T>>::max();
    for (std::int64_t i = 0; i < W; ++i) lane[i] = static_cast<IntOf<T>>(far[i] - base);
  }

  // Of R lines, `pitch` apart.
  template <int R>
  TS_INLINE void read(const T* line, std::int64_t pitch, Vec<T> (&y)[R]) const {
    if (near) {
      Lanes lanes;
      std::memcpy(&lanes, lane, sizeof lanes);
      if (short_line) {
        for (int r = 0; r < R; ++r)
          y[r] = typename Vec<T>::Reg(
              __builtin_shuffle(Vec<T>::load_partial(line + r * pitch, short_line).r, lanes));
      } else if (!two) {
        for (int r = 0; r < R; ++r)
          y[r] = typename Vec<T>::Reg(__builtin_shuffle(Vec<T>::load(line + r * pitch + base).r, lanes));
      } else {
        for (int r = 0; r < R; ++r) {
          const T* const at = line + r * pitch + base;
          const Vec<T> next = second == W ? Vec<T>::load(at + W) : Vec<T>::load_partial(at + W, second);
          y[r] = typename Vec<T>::Reg(__builtin_shuffle(Vec<T>::load(at).r, next.r, lanes));
        }
      }
      return;
    }
    for (int r = 0; r < R; ++r) y[r] = gathered(line + r * pitch);
  }
  TS_INLINE Vec<T> gathered(const T* line) const {
#if defined(__AVX512F__)
    using Bits = typename Vec<T>::Reg;
    if constexpr (sizeof(T) == 8) return Bits(_mm512_i64gather_epi64(_mm512_loadu_si512(far), line, 8));
    if constexpr (sizeof(T) == 4)
      if (narrow) return Bits(_mm512_i32gather_epi32(_mm512_loadu_si512(lane), line + base, 4));
#endif
    Vec<T> y;
    for (std::int64_t i = 0; i < W; ++i) y.r[i] = line[far[i]];
    return y;
  }
  // Of lines that go on for as many registers as are read, where the tap is near.
  template <int Registers, int R>
  TS_INLINE void whole(const T* const* line, Vec<T> (&y)[R]) const {
    Lanes lanes;
    std::memcpy(&lanes, lane, sizeof lanes);
    for (int r = 0; r < R; ++r) {
      const T* const at = line[r] + base;
      if constexpr (Registers == 1)
        y[r] = typename Vec<T>::Reg(__builtin_shuffle(Vec<T>::load(at).r, lanes));
      else
        y[r] = typename Vec<T>::Reg(__builtin_shuffle(Vec<T>::load(at).r, Vec<T>::load(at + W).r, lanes));
    }
  }
  TS_INLINE Vec<T> operator()(const T* line) const {
    Vec<T> y[1];
    read<1>(line, 0, y);
    return y[0];
  }
};

}  // namespace ts::cpu::TS_ISA
