// The correlation behind convolution and its input gradient (legend and formula in conv_tile.h), as an
// implicit matrix product.
//
// Rows are output pixels, columns are output channels, the reduction runs over (kh, kw, c). Weights are
// packed once a call to [panel of O][kh][kw][c][O vector]; pixels are broadcast from x where it lies
// (channels last, no padding) or from a dense copy of the few rows under a band of y. The accumulators of a
// tile live through the whole reduction.
#include "core/epilogue.h"
#include "cpu/conv_pack.h"
#include "cpu/correlate_tile.h"

namespace ts::cpu::TS_ISA {

namespace {

// Filters to [run][step of kLanes][output][lane], zeros past a run's end.
template <class T>
void pack_dot(const Correlation<T>& k, const T* w, std::int64_t outputs, const Runs& runs, T* to) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t per_row = runs.count / k.taps.h;
  for (std::int64_t run = 0; run < runs.count; ++run)
    for (std::int64_t e = 0; e < round_up(runs.length, L); ++e) {
      const std::int64_t j = run % per_row + e / k.C, c = e % k.C;
      const T* from = w + run / per_row * k.ws.h + j * k.ws.w + c * k.wc;
      T* at = to + (run * round_up(runs.length, L) + e / L * L) * outputs + e % L;
      for (std::int64_t o = 0; o < outputs; ++o) at[o * L] = e < runs.length ? from[o * k.wo] : T(0);
    }
}

// For windows or rows too large for the scratch: the definition, element by element, in the same order:
// slices, then i, c, j where tiles slide, else i, j, c.
template <class T>
void correlate_directly(const Correlation<T>& k, bool slides) {
  parallel_for(k.N * k.P, [&](std::int64_t piece) {
    const std::int64_t n = piece / k.P, p = piece % k.P;
    for (std::int64_t q = 0; q < k.Q; ++q)
      for (std::int64_t go = 0; go < k.G * k.O; ++go) {
        const std::int64_t g = go / k.O, o = go % k.O;
        T sum = 0;
        for (std::int64_t z = k.z.begin(n % k.z.S); z < k.z.end(n % k.z.S); ++z)
          for (std::int64_t i = 0; i < k.taps.h; ++i)
            for (std::int64_t t = 0; t < k.taps.w * k.C; ++t) {
              const std::int64_t j = slides ? t % k.taps.w : t / k.C, c = slides ? t / k.taps.w : t % k.C;
              const std::int64_t h = p * k.step.h + i * k.spread.h + k.first.h;
              const std::int64_t w = q * k.step.w + j * k.spread.w + k.first.w;
              if (h < 0 || h >= k.H || w < 0 || w >= k.W) continue;
              const T x =
                  k.x_at(n)[z * k.z.spread * k.z.xs + (g * k.C + c) * k.xs.c + h * k.xs.h + w * k.xs.w];
              const T weight = k.w[g * k.wg + o * k.wo + c * k.wc + z * k.z.ws + i * k.ws.h + j * k.ws.w];
              sum = fma(Vec<T>(x), Vec<T>(weight), Vec<T>(sum))[0];
            }
        if (k.bias) sum += k.bias[go * k.bias_stride];
        if (k.relu && sum < T(0)) sum = T(0);
        k.y_at(n)[go * k.ys.c + p * k.ys.h + q * k.ys.w] = sum;
      }
  });
}

// The scratch holds a band and a panel of few outputs.
template <class T>
bool dot_fits(const Correlation<T>& k) {
  constexpr std::int64_t size = sizeof(T), L = kLanes<T>;
  const std::int64_t taps = k.taps.h * k.taps.w;
  return k.band_cols() <= kBandBytes / (k.C * size) / k.band_rows(1) / k.z.reach(1) &&
         taps * 8 + (1 + k.z.taps * taps * round_up(k.C, L)) * kDotOutputs * L * size <= kSharedBytes / 2;
}

// The rows of x that images [first, last) of y meet, which are of one volume, slice after slice.
template <class T>
void copy_slices(const Correlation<T>& k, std::int64_t first, std::int64_t last, std::int64_t group,
                 std::int64_t h0, std::int64_t rows, std::int64_t cols, T* to) {
  const Slices& z = k.z;
  const T* const volume = k.x + first / z.S * k.xs.n + group * k.C * k.xs.c;
  const std::int64_t at = first % z.S * z.step + z.first;
  for (std::int64_t slice = 0; slice < z.reach(last - first); ++slice, to += rows * cols * k.C) {
    bool met = false;  // a step may leave slices out
    for (std::int64_t t = 0; t < z.taps; ++t) {
      const std::int64_t under = slice - t * z.spread;
      met = met || (under >= 0 && under % z.step == 0 && under / z.step < last - first);
    }
    if (met && at + slice >= 0 && at + slice < z.D)
      copy_band(volume + (at + slice) * z.xs, k.xs, k.H, k.W, k.C, h0, rows, k.first.w, cols, k.C, to);
  }
}

// No taps at all: zeros.
template <class T>
void clear(const Correlation<T>& k) {
  const std::int64_t channels = k.G * k.O, rows = most(1, (std::int64_t{1} << 15) / (k.Q * channels));
  parallel_ranges(k.N * k.P, rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t q = 0; q < k.Q; ++q) {
        T* const y = k.y_at(row / k.P) + row % k.P * k.ys.h + q * k.ys.w;
        if (k.ys.c == 1)
          std::memset(y, 0, static_cast<std::size_t>(channels) * sizeof(T));
        else
          for (std::int64_t c = 0; c < channels; ++c) y[c * k.ys.c] = T(0);
      }
  });
}

// A product of 1 x 1 taps sees no rows and no images: joins them where memory allows.
template <class T>
void join_pixels(Correlation<T>& k) {
  if (k.taps.h != 1 || k.taps.w != 1 || k.first.h != 0 || k.first.w != 0) return;
  if (k.C > 1 && k.xs.c != 1) return;  // it is copied, a band at a time
  if (k.step.h != 1 || k.step.w != 1 || k.P != k.H || k.Q != k.W) return;
  if (k.xs.h == k.W * k.xs.w && k.ys.h == k.Q * k.ys.w) {
    k.W = k.Q = k.H * k.W;
    k.H = k.P = 1;
    k.xs.h = k.ys.h = 0;
    if (k.z.S == 1 && k.z.taps == 1 && k.xs.n == k.W * k.xs.w && k.ys.n == k.Q * k.ys.w) {
      k.W = k.Q = k.N * k.W;
      k.N = 1;
    }
  }
}

// How the work is cut: by sizes alone. A piece is a number of images, or a band of rows of one, or (one row:
// 1 x 1, joined) a block of columns; and a range of panels, so that its weights stay in the second-level
// cache.
struct Cut {
  std::int64_t images, image_groups, band_rows, bands, block, blocks, panels_each, splits;

  template <class T>
  Cut(const Correlation<T>& k, std::int64_t panels, std::int64_t panel_bytes, std::int64_t rows_fit) {
    constexpr std::int64_t kLeast = std::int64_t{1} << 20, kMost = std::int64_t{1} << 26,
                           kWeightBytes = 600 << 10;
    const std::int64_t row_macs = most(1, k.Q * k.G * k.O * most(k.depth(), 1));
    const std::int64_t target = most(kLeast, least(kMost, k.N * k.P * row_macs / 32));
    panels_each = ceil_div(panels, ceil_div(panels, most(1, kWeightBytes / panel_bytes)));
    const std::int64_t macs = most(1, row_macs * panels_each / panels);  // of a row and its panels
    bands = most(least(k.P, k.P * macs / target), ceil_div(k.P, rows_fit));
    bands = most(bands, 1);
    band_rows = ceil_div(k.P, bands);
    bands = ceil_div(k.P, band_rows);
    image_groups = bands > 1 ? k.N : ceil_div(k.N, most(1, target / (k.P * macs)));
    images = ceil_div(k.N, image_groups);
    image_groups = ceil_div(k.N, images);
    blocks = k.P > 1 ? 1 : ceil_div(k.Q, most(4 * kTileRows, target / most(1, macs / k.Q)));
    block = blocks == 1 ? k.Q : round_up(ceil_div(k.Q, blocks), kTileRows);
    blocks = ceil_div(k.Q, block);
    // Few pixels: more pieces from fewer panels each.
    const std::int64_t places = image_groups * bands * blocks, piece = images * band_rows * macs / blocks;
    const std::int64_t wanted = least(ceil_div(16, places * ceil_div(panels, panels_each)), piece / kLeast);
    panels_each = ceil_div(panels_each, most(1, least(wanted, panels_each)));
    splits = ceil_div(panels, panels_each);
  }
};

}  // namespace

// Reads x (KH * KW times, from the caches), writes y once; packs w once a call.
template <class T>
void correlate(const Correlation<T>& given) {
  Correlation<T> k = given;
  if (k.N == 0 || k.G == 0 || k.O == 0 || k.P <= 0 || k.Q <= 0) return;
  join_volumes(k);
  leave_out_pixels(k);
  join_pixels(k);
  const std::int64_t K = k.depth(), width = Vec<T>::width;
  if (K == 0 && !k.bias) return clear(k);
  // By shape alone, and so are the runs: the lane of an element is its place in its run.
  const bool dot = k.O <= kFewOutputs && k.C >= kFewOutputs && dot_fits(given);
  const bool copies = K > 0 && !(k.inside() && (k.xs.c == 1 || k.C == 1) &&
                                 !(dot && k.taps.w > 1 && k.spread.w == 1 && k.xs.w != k.C));
  const std::int64_t outputs = dot ? least(kDotOutputs, k.O) : kPanel<T>;  // of a panel
  const bool slides = !dot && k.O <= kLanes<T> && (k.taps.w == 2 || k.taps.w == 3) && k.step.w == 1 &&
                      k.spread.w == 1;  // by shape alone
  const std::int64_t tile_rows = dot ? dot_rows(static_cast<int>(outputs)) : slides ? kSlideRows : kTileRows;
  const std::int64_t cols = copies ? k.band_cols() : 0;

  // The shared scratch: offsets of the runs, then as many panels as fit, each its bias and its weights.
  const std::int64_t panels = ceil_div(k.O, outputs), all_panels = k.G * panels;
  std::int64_t* const offsets = shared_scratch<std::int64_t>();
  const std::int64_t offset_bytes = round_up(k.taps.h * k.taps.w * 8, 64);
  const Runs runs =
      K == 0 ? Runs{0, 0}
             : window_runs(slides ? Pair{k.taps.h, 1} : k.taps, k.spread, k.C, copies ? cols * k.C : k.xs.h,
                           copies ? k.C : k.xs.w, offset_bytes > kSharedBytes / 2 ? nullptr : offsets);
  const std::int64_t slice_depth =
      dot ? runs.count * round_up(runs.length, kLanes<T>) : k.taps.h * k.taps.w * k.C;
  const std::int64_t depth = k.z.taps * slice_depth;
  const std::int64_t panel_size = (dot ? kLanes<T> : outputs) + depth * outputs,
                     size = static_cast<std::int64_t>(sizeof(T));
  T* const packed = reinterpret_cast<T*>(shared_scratch<char>() + offset_bytes);
  const std::int64_t fitting = least(all_panels, (kSharedBytes - offset_bytes) / (panel_size * size));
  const std::int64_t bands_fit = copies ? kBandBytes / (cols * k.C * size) / k.z.reach(1) : 0;  // rows of x
  if (offset_bytes > kSharedBytes / 2 || fitting < 1 || (copies && k.band_rows(1) > bands_fit))
    return correlate_directly(k, slides);
  const Cut cut(k, fitting, panel_size * size, copies ? 1 + (bands_fit - k.band_rows(1)) / k.step.h : k.P);
  // Pixels and their channels as the rows and columns of one matrix.
  const std::int64_t channels = k.G * k.O;
  const bool dense = k.z.S == 1 && k.ys.c == 1 && k.ys.w == channels &&
                     (k.P == 1 || k.ys.h == k.Q * channels) && (k.N == 1 || k.ys.n == k.P * k.Q * channels);
  const Epilogue* const epilogue = dense && all_panels <= fitting ? take_epilogue() : nullptr;
  // Rows of taps above or below the image are left out. (Narrow images compute them: their rows go in pairs.)
  const bool skips = k.Q > 7 && K > 0;
  const std::int64_t runs_per_row = K == 0 ? 0 : runs.count / k.taps.h;

  for (std::int64_t panel0 = 0; panel0 < all_panels; panel0 += fitting) {
    const std::int64_t panel1 = least(all_panels, panel0 + fitting);
    const auto panel_at = [&](std::int64_t panel) { return packed + (panel - panel0) * panel_size; };
    const auto pack = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t panel = panel0 + begin; panel < panel0 + end; ++panel) {
        const std::int64_t g = panel / panels, o = panel % panels * outputs, count = least(outputs, k.O - o);
        T* dst = panel_at(panel);
        for (std::int64_t l = 0; l < outputs; ++l)
          dst[l] = k.bias && l < count ? k.bias[(g * k.O + o + l) * k.bias_stride] : T(0);
        for (std::int64_t z = 0; z < k.z.taps && K > 0; ++z) {
          const T* const from = k.w + g * k.wg + o * k.wo + z * k.z.ws;
          if (dot)
            pack_dot(k, from, count, runs, dst + kLanes<T> + z * slice_depth * count);
          else {
            const std::int64_t lanes = count <= width ? width : kPanel<T>;
            pack_filters(k, from, count, lanes, dst + kPanel<T> + z * slice_depth * lanes);
          }
        }
      }
    };
    parallel_ranges(panel1 - panel0, most(1, (1 << 16) / panel_size), pack);

    parallel_for(cut.image_groups * cut.bands * cut.blocks * cut.splits, [&](std::int64_t piece) {
      const std::int64_t begin = panel0 + piece % cut.splits * cut.panels_each;
      const std::int64_t end = least(panel1, begin + cut.panels_each), place = piece / cut.splits;
      const std::int64_t q0 = place % cut.blocks * cut.block, q1 = least(k.Q, q0 + cut.block);
      const std::int64_t p0 = place / cut.blocks % cut.bands * cut.band_rows,
                         p1 = least(k.P, p0 + cut.band_rows);
      const std::int64_t n0 = place / cut.blocks / cut.bands * cut.images, n1 = least(k.N, n0 + cut.images);
      const std::int64_t h0 = p0 * k.step.h + k.first.h, h1 = h0 + k.band_rows(p1 - p0);
      const Tiles tiles(q1 - q0, tile_rows);
      const bool pairs = !skips && !slides && 2 * (q1 - q0) <= tile_rows;
      // Images that share a copy of x: neighbouring slices of a volume.
      const std::int64_t slice_size = (h1 - h0) * cols * k.C;
      const std::int64_t together =
          k.z.S == 1 || !copies ? 1 : 1 + (kBandBytes / (slice_size * size) - k.z.reach(1)) / k.z.step;
      for (std::int64_t n = n0, last; n < n1; n = last) {
        last = least(least(n1, n + together), (n / k.z.S + 1) * k.z.S);
        Prefetch next;
        if (last < n1 && k.z.taps == 1)
          next.start(k.x_at(last), k.xs, most(0, h0), least(k.H, h1), k.W, k.G * k.C,
                     (end - begin) * (p1 - p0) * tiles.count);
        std::int64_t copied = -1;  // the group whose channels are in the band
        for (std::int64_t panel = begin; panel < end; ++panel) {
          const std::int64_t g = panel / panels, o = panel % panels * outputs,
                             count = least(outputs, k.O - o);
          const std::int64_t step = dot              ? count
                                    : count <= width ? width
                                                     : kPanel<T>;  // of the packed filters
          if (copies && copied != g)
            copy_slices(k, n, last, g, h0, h1 - h0, cols, band_scratch<T>()), copied = g;
          TileOut<T> out{nullptr, k.ys.w, 0, k.ys.c, count, k.bias ? panel_at(panel) : nullptr, k.relu};
          for (std::int64_t image = n; image < last; ++image) {
            const std::int64_t z0 = k.z.begin(image % k.z.S), z1 = k.z.end(image % k.z.S);
            const std::int64_t slice = k.z.spread * (copies ? slice_size : k.z.xs);
            Band<T> x{k.x_at(image) + g * k.C * k.xs.c + h0 * k.xs.h + k.first.w * k.xs.w, k.xs.h, k.xs.w};
            if (copies) x = {band_scratch<T>() + (image - n) * k.z.step * slice_size, cols * k.C, k.C};
            x.data += z0 * slice;
            const T* const weights = panel_at(panel) + (dot ? kLanes<T> : kPanel<T>)+z0 * slice_depth * step;
            for (std::int64_t p = p0; p < p1;) {
              const std::int64_t at = p * k.step.h + k.first.h;
              const std::int64_t i0 = skips && at < 0 ? least(k.taps.h, ceil_div(-at, k.spread.h)) : 0;
              const std::int64_t i1 =
                  skips ? most(i0, least(k.taps.h, ceil_div(k.H - at, k.spread.h))) : k.taps.h;
              const std::int64_t row_depth = k.taps.h == 0 ? 0 : slice_depth / k.taps.h * step;
              const Runs rows{(i1 - i0) * runs_per_row, runs.length, z1 - z0, slice,
                              (k.taps.h - (i1 - i0)) * row_depth};
              const std::int64_t* const from = offsets + i0 * runs_per_row;
              const T* const w = weights + i0 * row_depth;
              const T* row = x.data + (p - p0) * k.step.h * x.row;
              T* y = k.y_at(image) + (g * k.O + o) * k.ys.c + p * k.ys.h;
              const std::int64_t pixel = k.step.w * x.pixel;
              const bool pair = pairs && p + 1 < p1;
              std::int64_t q = q0;
              for (std::int64_t t = 0; t < tiles.count; ++t) {
                const int height = pair ? 2 * tiles.rows(t) : tiles.rows(t), half = (height + 1) / 2;
                const bool one = count <= width;
                const TileFunction<T> tile = dot      ? dot_tile_of<T>(height, count)
                                             : slides ? (one ? slide_of_rows<T, 1>(height, k.taps.w)
                                                             : slide_of_rows<T, 2>(height, k.taps.w))
                                             : one    ? tile_of_rows<T, 1>(height)
                                                      : tile_of_rows<T, 2>(height);
                out.y = y + q * k.ys.w;
                out.jump = pair ? k.ys.h : half * k.ys.w;
                tile(row + q * pixel, pixel, pair ? k.step.h * x.row : half * pixel, from, rows, w, out);
                q += height;
                next.step();
              }
              p += pair ? 2 : 1;
            }
          }
        }
        if (epilogue) {
          const std::int64_t first = begin / panels * k.O + begin % panels * outputs,
                             last = (end - 1) / panels * k.O +
                                    least(k.O, (end - 1) % panels * outputs + outputs),
                             row = (n * k.P + p0) * k.Q + q0;
          epilogue->run(*epilogue, {row, (p1 - p0 - 1) * k.Q + q1 - q0, first, last - first,
                                    k.y + row * channels + first, channels});
        }
      }
    });
  }
}

template <class T>
TileFunction<T> correlate_tile_of(int rows, int vectors) {
  return vectors == 1 ? tile_of_rows<T, 1>(rows) : tile_of_rows<T, 2>(rows);
}
template TileFunction<float> correlate_tile_of(int, int);
template TileFunction<double> correlate_tile_of(int, int);

template void correlate(const Correlation<float>&);
template void correlate(const Correlation<double>&);

}  // namespace ts::cpu::TS_ISA
