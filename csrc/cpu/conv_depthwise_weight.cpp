// The weight gradient of convolutions of narrow groups, by lanes of output channels (conv_lanes.h).
#include "cpu/conv_lanes.h"

namespace ts::cpu::TS_ISA {

namespace {

#if defined(__AVX512F__)
constexpr int kSums = 15, kGradientPixels = 8;  // taps of a weight gradient's tile and its pixels
#else
constexpr int kSums = 9, kGradientPixels = 4;
#endif

// sum[r][j] += over rows x cols pixels of x[offsets[r] + j] * dy; with Bias, bias += dy.
template <class T, int Width, int Step, int Count, bool Bias>
void lane_gradient(const T* x, std::int64_t row, std::int64_t pixel, const std::int64_t* offsets, Band<T> dy,
                   std::int64_t rows, std::int64_t cols, T* sum, T* bias) {
  using V = Vec<T>;
  constexpr int Q = kGradientPixels;
  typename V::Reg acc[Count][Width], total = V(T(0)).r;
  std::int64_t at[Count];
#pragma GCC unroll 16
  for (int r = 0; r < Count; ++r) {
    at[r] = offsets[r];
#pragma GCC unroll 16
    for (int j = 0; j < Width; ++j) acc[r][j] = V::load(sum + (r * Width + j) * V::width).r;
  }
  if constexpr (Bias) total = V::load(bias).r;
  do {  // at least one row
    const T* a = x;
    const T* b = dy.data;
    std::int64_t q = cols;
    for (; q >= Q; q -= Q, a += Q * Step * pixel, b += Q * dy.pixel) {
      V g[Q];
#pragma GCC unroll 16
      for (int i = 0; i < Q; ++i) {
        g[i] = V::load(b + i * dy.pixel);
        if constexpr (Bias) total = (V(total) + g[i]).r;
      }
#pragma GCC unroll 16
      for (int r = 0; r < Count; ++r) {
        const T* from = a + at[r];
#pragma GCC unroll 32
        for (int m = 0; m < (Q - 1) * Step + Width; ++m, from += pixel) {
          const V c = V::load(from);
#pragma GCC unroll 16
          for (int j = 0; j < Width; ++j)
            if ((m - j) % Step == 0 && m >= j && (m - j) / Step < Q)
              acc[r][j] = fma(c, g[(m - j) / Step], V(acc[r][j])).r;
        }
      }
    }
    for (; q > 0; --q, a += Step * pixel, b += dy.pixel) {
      const V g = V::load(b);
      if constexpr (Bias) total = (V(total) + g).r;
#pragma GCC unroll 16
      for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
        for (int j = 0; j < Width; ++j) acc[r][j] = fma(V::load(a + at[r] + j * pixel), g, V(acc[r][j])).r;
    }
    x += row, dy.data += dy.row;
  } while (--rows);
#pragma GCC unroll 16
  for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < Width; ++j) V(acc[r][j]).store(sum + (r * Width + j) * V::width);
  if constexpr (Bias) V(total).store(bias);
}

template <class T, int Width, int Step>
void lane_gradients(const T* x, std::int64_t row, std::int64_t pixel, const std::int64_t* offsets,
                    std::int64_t count, Band<T> dy, std::int64_t rows, std::int64_t cols, T* sum, T* bias) {
  constexpr int kMost = kSums / Width;
  for (std::int64_t r = 0; r < count;) {
    const std::int64_t left = least(kMost, count - r);
    const auto run = [&]<int Count>() {
      (bias && r == 0 ? lane_gradient<T, Width, Step, Count, true>
                      : lane_gradient<T, Width, Step, Count, false>)(x, row, pixel, offsets + r, dy, rows,
                                                                     cols, sum, bias);
      r += Count, sum += Count * Width * Vec<T>::width;
    };
    if constexpr (kMost >= 9)
      if (left >= 9) {
        run.template operator()<9>();
        continue;
      }
    if constexpr (kMost >= 3)
      if (left >= 3) {
        run.template operator()<3>();
        continue;
      }
    if constexpr (kMost >= 2)
      if (left >= 2) {
        run.template operator()<2>();
        continue;
      }
    run.template operator()<1>();
  }
}

template <class T>
using LaneGradient = void (*)(const T*, std::int64_t, std::int64_t, const std::int64_t*, std::int64_t,
                              Band<T>, std::int64_t, std::int64_t, T*, T*);

template <class T>
LaneGradient<T> lane_gradient_of(const TapRows& rows) {
  const bool two = rows.step == 2;
  switch (rows.width) {
    case 2:
      return lane_gradients<T, 2, 1>;
    case 3:
      return two ? lane_gradients<T, 3, 2> : lane_gradients<T, 3, 1>;
    case 5:
      return two ? lane_gradients<T, 5, 2> : lane_gradients<T, 5, 1>;
    case 7:
      return two ? lane_gradients<T, 7, 2> : lane_gradients<T, 7, 1>;
    default:
      return lane_gradients<T, 1, 1>;
  }
}

}  // namespace

// Reads x and dy about once from memory; the sums of a chunk are [vector][dbias, then row and tap][lane].
template <class T>
bool depthwise_weight(const Correlation<T>& k, T* dw, T* dbias, std::int64_t dbias_stride) {
  using V = Vec<T>;
  constexpr std::int64_t size = sizeof(T);
  const std::int64_t units = k.N * k.P, L = k.G * k.O;
  if (units <= 0 || k.Q <= 0 || L == 0) return false;
  const TapRows rows(k);
  const StripCut cut(k);
  const std::int64_t taps = rows.count * rows.width, panel = (1 + taps) * V::width;
  const std::int64_t vectors = ceil_div(L, V::width), offset_bytes = round_up(rows.count * 8, 64);
  const std::int64_t chunk_units =
      weight_chunk(units, k.Q, 64, round_up(L, kLaneVector / size) * (1 + taps) * size);
  const std::int64_t chunks = ceil_div(units, chunk_units), sum_size = vectors * panel;
  if (offset_bytes + chunks * sum_size * size > kSharedBytes ||
      cut.strip_bytes(k) + cut.rows * cut.columns * kLaneVector > kBandBytes)
    return false;

  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  T* const partial = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  const std::int64_t cols = StripCut::width(k, cut.columns), pixel = k.C * V::width;
  rows.offsets(k, cols, offsets);
  const LaneGradient<T> gradient = lane_gradient_of<T>(rows);
  const std::int64_t splits = least(vectors, ceil_div(kMaxChunks, chunks)),
                     per_split = ceil_div(vectors, splits);

  parallel_for(chunks * splits, [&](std::int64_t piece) {
    const std::int64_t chunk = piece / splits, v0 = piece % splits * per_split,
                       v1 = least(vectors, v0 + per_split);
    if (v0 >= v1) return;
    T* const sums = partial + chunk * sum_size;
    std::memset(sums + v0 * panel, 0, static_cast<std::size_t>((v1 - v0) * panel * size));
    const std::int64_t last = least(units, (chunk + 1) * chunk_units);
    for (std::int64_t unit = chunk * chunk_units; unit < last;) {
      const std::int64_t n = unit / k.P, p = unit % k.P, count = least(least(cut.rows, k.P - p), last - unit);
      unit += count;
      Prefetch next_x, next_dy;
      if (unit < last) {
        const std::int64_t m = unit / k.P, at = unit % k.P, h = at * k.step.h + k.first.h;
        const std::int64_t end = least(k.P, at + cut.rows);
        const std::int64_t seen = at > 0 ? k.band_rows(0) : 0;
        next_x.start(k.x + m * k.xs.n, k.xs, most(0, h + seen), least(k.H, h + k.band_rows(end - at)), k.W,
                     k.G * k.C, (v1 - v0) * k.band_rows(count));
        next_dy.start(k.y + m * k.ys.n, k.ys, at, end, k.Q, L, (v1 - v0) * k.band_rows(count));
      }
      for (std::int64_t v = v0; v < v1; ++v) {
        const Lanes16<T> lanes(k, v * V::width);
        Lanes16<T> own = lanes;  // of dy: lane by lane
        own.channel = v * V::width, own.span = lanes.lanes;
        for (int l = 0; l < V::width; ++l) own.at[l] = least(l, lanes.lanes - 1);
        T* const sum = sums + v * panel;
        for (std::int64_t q0 = 0; q0 < k.Q; q0 += cut.columns) {
          const std::int64_t width = least(cut.columns, k.Q - q0);
          T* const strip = band_scratch<T>();
          copy_strip(k.x + n * k.xs.n, k.xs, k.H, k.W, k.C, lanes, p * k.step.h + k.first.h,
                     k.band_rows(count), q0 * k.step.w + k.first.w, cols, strip, &next_x, &next_dy);
          Band<T> dy{k.y + n * k.ys.n + own.channel * k.ys.c + p * k.ys.h + q0 * k.ys.w, k.ys.h, k.ys.w};
          if (k.ys.c != 1 || lanes.lanes < V::width) {
            T* const copy = strip + cut.strip_bytes(k) / size;
            copy_strip(static_cast<const T*>(k.y) + n * k.ys.n, k.ys, k.P, k.Q, std::int64_t{1}, own, p,
                       count, q0, width, copy);
            dy = {copy, width * V::width, V::width};
          }
          gradient(strip, k.step.h * cols * pixel, rows.width > 1 ? pixel : k.step.w * pixel, offsets,
                   rows.count, dy, count, width, sum + V::width, dbias ? sum : nullptr);
        }
      }
    }
  });

  for (std::int64_t chunk = 1; chunk < chunks; ++chunk)
    for (std::int64_t v = 0; v < sum_size; v += V::width)
      (V::load(partial + v) + V::load(partial + chunk * sum_size + v)).store(partial + v);
  for (std::int64_t lane = 0; lane < L; ++lane) {
    const T* from = partial + lane / V::width * panel + lane % V::width;
    if (dbias) dbias[lane * dbias_stride] = *from;
    T* const to = dw + lane / k.O * k.wg + lane % k.O * k.wo;
    for (std::int64_t i = 0; i < k.taps.h; ++i)
      for (std::int64_t c = 0; c < k.C; ++c)
        for (std::int64_t j = 0; j < k.taps.w; ++j)
          to[i * k.ws.h + j * k.ws.w + c * k.wc] = *(from += V::width);
  }
  return true;
}

template bool depthwise_weight(const Correlation<float>&, float*, float*, std::int64_t);
template bool depthwise_weight(const Correlation<double>&, double*, double*, std::int64_t);

}  // namespace ts::cpu::TS_ISA
