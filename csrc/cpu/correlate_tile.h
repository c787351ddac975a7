// The register tiles of a correlation: some pixels by some output channels, whose sums live through the whole
// reduction (legend and formula in conv_tile.h).
//
//   correlate_tile  vectors of output channels; the sum runs over i, j, c
//   slide_tile      the same for at most 64 bytes of them, a row of taps at a time; i, c, j
//   dot_tile        few output channels: vectors of the reduction
#pragma once

#include "cpu/conv_tile.h"
#include "cpu/pack.h"

namespace ts::cpu::TS_ISA {

// Pixels that lie a stride apart, as a base and small multiples of the stride, hidden from the optimiser,
// which would otherwise keep a pointer to each and spill them.
class Stride {
 public:
  static constexpr int kReach = 7;  // pixels of one base
  TS_INLINE explicit Stride(std::int64_t bytes) : one_(bytes), three_(3 * bytes), five_(5 * bytes) {}
  TS_INLINE void hide() { asm("" : "+r"(one_), "+r"(three_), "+r"(five_)); }
  template <class T>
  TS_INLINE const T* at(const char* base, int i) const {
    return reinterpret_cast<const T*>(i == 0   ? base
                                      : i == 1 ? base + one_
                                      : i == 2 ? base + 2 * one_
                                      : i == 3 ? base + three_
                                      : i == 4 ? base + 4 * one_
                                      : i == 5 ? base + five_
                                               : base + 2 * three_);
  }

 private:
  std::int64_t one_, three_, five_;
};

// Bias, relu, and the way to y: whole vectors where they exist, else through memory.
template <class T, int Rows, int Vectors>
TS_INLINE void finish_tile(Vec<T> (&acc)[Rows][Vectors], const TileOut<T>& out) {
  using V = Vec<T>;
  constexpr int kHalf = (Rows + 1) / 2;
  if (out.bias) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const V bias = V::load(out.bias + v * V::width);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) acc[r][v] = acc[r][v] + bias;
    }
  }
  if (out.relu) {
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) acc[r][v] = select(acc[r][v] < V(T(0)), V(T(0)), acc[r][v]);
  }
  if (out.channel == 1 && out.channels == Vectors * V::width) {
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v)
        acc[r][v].store(out.y + r / kHalf * out.jump + r % kHalf * out.pixel + v * V::width);
    return;
  }
  alignas(64) T tile[Rows][Vectors * V::width];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[r][v].store(&tile[r][v * V::width]);
  if (out.channel == 1) {
    for (int r = 0; r < Rows; ++r)
      std::memcpy(out.y + r / kHalf * out.jump + r % kHalf * out.pixel, tile[r],
                  static_cast<std::size_t>(out.channels) * sizeof(T));
  } else {
    for (std::int64_t c = 0; c < out.channels; ++c)
      for (int r = 0; r < Rows; ++r)
        out.y[r / kHalf * out.jump + r % kHalf * out.pixel + c * out.channel] = tile[r][c];
  }
}

// Rows pixels x Vectors registers of output channels. Per step of the reduction: Vectors loads of weights,
// Rows broadcasts of pixels, Rows * Vectors FMA. The second half of the pixels lies `jump` after the first:
// further along the row, or on the next one.
template <class T, int Rows, int Vectors>
void correlate_tile(const T* x, std::int64_t pixel, std::int64_t jump, const std::int64_t* offsets,
                    const Runs& runs, const T* w, const TileOut<T>& out) {
  using V = Vec<T>;
  constexpr int kHalf = (Rows + 1) / 2;
  V acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V(T(0));

  Stride stride(pixel * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t high_offset = jump * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t slice = 0; slice < runs.slices; ++slice, x += runs.slice, w += runs.gap)
    for (std::int64_t run = 0; run < runs.count; ++run) {
      const char* low = reinterpret_cast<const char*>(x + offsets[run]);
      const char* end = low + runs.length * static_cast<std::int64_t>(sizeof(T));
#if !defined(__AVX512F__)
#pragma GCC unroll 4
#endif
      for (; low != end; low += sizeof(T), w += Vectors * V::width) {
        const char* high = low + high_offset;
        stride.hide();
        V b[Vectors];
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) b[v] = V::load(w + v * V::width);
        if constexpr (Rows * Vectors >= 16)  // load slots to spare
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v)
            __builtin_prefetch(w + (kNearSteps * Vectors + v) * V::width, 0, 3);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
          const V a(*stride.at<T>(r < kHalf ? low : high, r % kHalf));
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) acc[r][v] = fma(a, b[v], acc[r][v]);
        }
      }
    }

  finish_tile<T>(acc, out);
}

template <class T, int Vectors, int Rows = kTileRows>
TileFunction<T> tile_of_rows(int rows) {
  if constexpr (Rows > 1)
    if (rows < Rows) return tile_of_rows<T, Vectors, Rows - 1>(rows);
  return correlate_tile<T, Rows, Vectors>;
}

// One vector of output channels (two narrow ones) would leave nearly a load to every FMA. Here a pixel, once
// broadcast, meets all Width taps of a row: per c, Width vectors of weights and Rows + Width - 1 broadcasts
// for Rows * Width FMA. The offsets are those of the rows of taps, the weights as above.
template <class T, int Rows, int Vectors, int Width>
void slide_tile(const T* x, std::int64_t pixel, std::int64_t, const std::int64_t* offsets, const Runs& runs,
                const T* w, const TileOut<T>& out) {
  using V = Vec<T>;
  constexpr int kReach = Stride::kReach;
  V acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[r][v] = V(T(0));
  Stride stride(pixel * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t reach = kReach * pixel * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t tap = runs.length * Vectors * V::width;
  for (std::int64_t slice = 0; slice < runs.slices; ++slice, x += runs.slice, w += runs.gap)
    for (std::int64_t run = 0; run < runs.count; ++run, w += (Width - 1) * tap) {
      const char* low = reinterpret_cast<const char*>(x + offsets[run]);
      const char* end = low + runs.length * static_cast<std::int64_t>(sizeof(T));
      for (; low != end; low += sizeof(T), w += Vectors * V::width) {
        stride.hide();
        V b[Width][Vectors];
#pragma GCC unroll 4
        for (int j = 0; j < Width; ++j)
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) b[j][v] = V::load(w + j * tap + v * V::width);
#pragma GCC unroll 32
        for (int m = 0; m < Rows + Width - 1; ++m) {
          const V a(*stride.at<T>(low + m / kReach * reach, m % kReach));
#pragma GCC unroll 4
          for (int j = 0; j < Width; ++j)
            if (m >= j && m - j < Rows)
#pragma GCC unroll 4
              for (int v = 0; v < Vectors; ++v) acc[m - j][v] = fma(a, b[j][v], acc[m - j][v]);
        }
      }
    }
  finish_tile<T>(acc, out);
}
#if defined(__AVX512F__)
constexpr int kSlideRows = 16;
#else
constexpr int kSlideRows = kTileRows;
#endif

template <class T, int Vectors, int Width, int Rows = kSlideRows>
TileFunction<T> slide_of_rows(int rows) {
  if constexpr (Rows > 1)
    if (rows < Rows) return slide_of_rows<T, Vectors, Width, Rows - 1>(rows);
  return slide_tile<T, Rows, Vectors, Width>;
}
template <class T, int Vectors>
TileFunction<T> slide_of_rows(int rows, std::int64_t width) {
  return width == 2 ? slide_of_rows<T, Vectors, 2>(rows) : slide_of_rows<T, Vectors, 3>(rows);
}

// Few output channels would leave most lanes of a vector empty: there the lanes are kLanes elements of the
// reduction, element e of a run in lane e % kLanes, each lane a chain of its own over the window; the lanes
// are then added as a fixed tree. On narrower registers the lanes go in several passes.
template <class T>
constexpr int kLanes = 64 / static_cast<int>(sizeof(T));
constexpr std::int64_t kFewOutputs = 8, kDotOutputs = 4;  // outputs that take this way, and those of a panel
#if defined(__AVX512F__)
constexpr int kDotSums = 24;
#else
constexpr int kDotSums = 10;
#endif
constexpr int dot_rows(int outputs) { return kDotSums / outputs < 14 ? kDotSums / outputs : 14; }

template <class T, int Rows, int Outputs>
void dot_tile(const T* x, std::int64_t pixel, std::int64_t jump, const std::int64_t* offsets,
              const Runs& runs, const T* w, const TileOut<T>& out) {
  using V = Vec<T>;
  constexpr int W = V::width, L = kLanes<T>, kHalf = (Rows + 1) / 2, kSums = Rows * Outputs;
  constexpr int kPadded = (kSums + W - 1) / W * W;
  alignas(64) T lanes[kSums][L];
  alignas(64) T sums[kPadded];
  Stride stride(pixel * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t high_offset = jump * static_cast<std::int64_t>(sizeof(T));
  // Lanes [l, l + W) of all sums.
  for (int l = 0; l < L; l += W) {
    V acc[Rows][Outputs];
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int o = 0; o < Outputs; ++o) acc[r][o] = V(T(0));
    const T* panel = w + l;
    const T* from = x + l;
    for (std::int64_t run = 0, left = runs.slices * runs.count; left > 0; --left) {
      const char* low = reinterpret_cast<const char*>(from + offsets[run]);
      const auto step = [&](auto load) __attribute__((always_inline)) {
        const char* high = low + high_offset;
        stride.hide();
        V b[Outputs];
#pragma GCC unroll 4
        for (int o = 0; o < Outputs; ++o) b[o] = V::load(panel + o * L);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
          const V a = load(stride.at<T>(r < kHalf ? low : high, r % kHalf));
#pragma GCC unroll 4
          for (int o = 0; o < Outputs; ++o) acc[r][o] = fma(a, b[o], acc[r][o]);
        }
      };
      std::int64_t e = runs.length;
      for (; e >= L; e -= L, low += L * sizeof(T), panel += Outputs * L)
        step([](const T* p) __attribute__((always_inline)) { return V::load(p); });
      if (e > 0) {
        const std::int64_t rest = least(W, most(0, e - l));
        step([rest](const T* p) __attribute__((always_inline)) { return V::load_partial(p, rest); });
        panel += Outputs * L;
      }
      if (++run == runs.count) run = 0, from += runs.slice, panel += runs.gap;
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int o = 0; o < Outputs; ++o) acc[r][o].store(lanes[r * Outputs + o] + l);
  }
  // The tree: halves onto halves, down to one register of each sum; then a square of registers at a time.
  for (int half = L / 2; half >= W; half /= 2)
    for (int i = 0; i < kSums; ++i)
      for (int l = 0; l < half; l += W)
        (V::load(lanes[i] + l) + V::load(lanes[i] + half + l)).store(lanes[i] + l);
  for (int i = 0; i < kPadded; i += W) {
    V v[W];
#pragma GCC unroll 16
    for (int j = 0; j < W; ++j) v[j] = i + j < kSums ? V::load(lanes[i + j]) : V(T(0));
    transpose<T>(v);
#pragma GCC unroll 4
    for (int half = W / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int j = 0; j < half; ++j) v[j] = v[j] + v[j + half];
    v[0].store(sums + i);
  }
  for (int o = 0; o < Outputs; ++o) {
    if (o >= out.channels) break;
    for (int r = 0; r < Rows; ++r) {
      T sum = sums[r * Outputs + o];
      if (out.bias) sum += out.bias[o];
      if (out.relu && sum < T(0)) sum = T(0);
      out.y[r / kHalf * out.jump + r % kHalf * out.pixel + o * out.channel] = sum;
    }
  }
}

template <class T, int Outputs, int Rows = dot_rows(Outputs)>
TileFunction<T> dot_tile_of(int rows) {
  if constexpr (Rows > 1)
    if (rows < Rows) return dot_tile_of<T, Outputs, Rows - 1>(rows);
  return dot_tile<T, Rows, Outputs>;
}
template <class T>
TileFunction<T> dot_tile_of(int rows, std::int64_t outputs) {
  return outputs == 1   ? dot_tile_of<T, 1>(rows)
         : outputs == 2 ? dot_tile_of<T, 2>(rows)
         : outputs == 3 ? dot_tile_of<T, 3>(rows)
                        : dot_tile_of<T, 4>(rows);
}

}  // namespace ts::cpu::TS_ISA
