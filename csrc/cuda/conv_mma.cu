// Convolution on tensor cores: the kernels of gemm_mma.h on a convolution's operands (conv_mma.h).
//
// Forward, and the gradient of the image by phases of the stride: M places, N channels out, K (tap, channel).
// Gradient of the filter: M channels of dy, N (tap, channel), K places. Channels lie side by side in 16-byte
// pieces, or are copied so first (reads and writes the image once; float32 that is to be bfloat16 always).
// Tensors of bfloat16 and float16 are read where they lie, and results rounded to them once.
#include "cuda/conv_mma.h"
#include "cuda/runtime.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

constexpr std::int64_t kChunk = 4096, kMostChunks = 64;

// blockIdx.y: d0. A thread has four channels of one row; lines_first: neighbours are rows, not channels.
struct Arrange {
  std::int64_t strides[4], channel, pitch, C, rows, fours, plane;
  Divider d3, d2, by;  // by: fours, or with lines_first rows
  bool lines_first, packs;
};
template <class From, class To, bool kPlanes>
__global__ void arrange_channels_kernel(const From* x, To* y, const Arrange how, std::int64_t first) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= how.rows * how.fours) return;
  const std::int64_t d0 = first + blockIdx.y;
  const std::uint32_t whole = how.by.quotient(i), rest = i - whole * how.by.divisor;
  const std::uint32_t row = how.lines_first ? rest : whole, c = 4 * (how.lines_first ? whole : rest);
  const std::uint32_t line = how.d3.quotient(row), d1 = how.d2.quotient(line);
  const From* const from = x + d0 * how.strides[0] + d1 * how.strides[1] +
                           (line - d1 * how.d2.divisor) * how.strides[2] +
                           (row - line * how.d3.divisor) * how.strides[3] + c * how.channel;
  const int count = how.C - c < 4 ? static_cast<int>(how.C - c) : 4;
  From four[4] = {};
  if (how.packs && count == 4) {
    struct alignas(4 * sizeof(From)) Pack {
      From x[4];
    } const pack = *reinterpret_cast<const Pack*>(from);
#pragma unroll
    for (int e = 0; e < 4; ++e) four[e] = pack.x[e];
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (e < count) four[e] = from[e * how.channel];
  }
  struct alignas(4 * sizeof(To)) Pack {
    To x[4];
  };
  To* to = y + (d0 * how.rows + row) * how.pitch + c;
#pragma unroll
  for (int part = 0; part < (kPlanes ? 3 : 1); ++part, to += how.plane) {
    Pack pack;
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if constexpr (kPlanes)
        pack.x[e] = split_off(four[e]);
      else if constexpr (std::is_same_v<From, To>)
        pack.x[e] = four[e];
      else
        pack.x[e] = bfloat16_from_float(four[e]);
    *reinterpret_cast<Pack*>(to) = pack;
  }
}

// dw[g O + o, c, i, j] = the sum of the chunks' sums, of (chunks, G, O, taps, pitch).
__global__ void unpack_filter_kernel(const float* from, std::int64_t chunks, std::int64_t size, Taps taps,
                                     std::int64_t columns, std::int64_t C, float* dw, Shape4 s) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= size) return;
  float sum = from[at];
#pragma unroll 4
  for (std::int64_t chunk = 1; chunk < chunks; ++chunk) sum = sum + from[chunk * size + at];
  const std::int64_t o = at / columns;
  int c, i, j;
  taps.split(at - o * columns, c, i, j);
  if (c < C) dw[o * s.n + c * s.c + i * s.h + j * s.w] = sum;
}

// What is multiplied.
struct Numbers {
  DType number;
  bool split;
  std::int64_t item, pack;
  Numbers(DType dtype, MatmulPrecision precision)
      : number(dtype == DType::float32 && precision == MatmulPrecision::bfloat16 ? DType::bfloat16 : dtype),
        split(number == DType::float32 && precision == MatmulPrecision::split),
        item(number == DType::float32 && !split ? 4 : 2),
        pack(16 / item) {}
  Channels become(DType given) const {
    return split ? Channels::planes : given == number ? Channels::same : Channels::bfloat16;
  }
};

// What of an image the kernels read: as it lies, or arranged. Strides in bytes; `dense`: places one after
// another.
struct Pieces {
  std::optional<Arranged> copy;
  const unsigned char* data;
  std::int64_t image, line, pixel, batch, plane = 0, channels;

  Pieces(const Image4& x, std::int64_t N, std::int64_t H, std::int64_t W, const Numbers& numbers,
         bool dense) {
    const std::int64_t item = numbers.item;
    const auto fits = [&](std::int64_t stride, std::int64_t extent) {
      return extent <= 1 || stride * item % 16 == 0;
    };
    const bool one_after_another = x.s.w > 0 && x.s.h == W * x.s.w && (N == 1 || x.s.n == H * x.s.h);
    if (numbers.become(x.dtype) == Channels::same && x.s.c == 1 && x.channels % numbers.pack == 0 &&
        reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && fits(x.s.n, N) && fits(x.s.h, H) &&
        fits(x.s.w, W) && (!dense || one_after_another)) {
      channels = x.channels;
      data = static_cast<const unsigned char*>(x.data);
      image = x.s.n * item, line = x.s.h * item, pixel = x.s.w * item;
    } else {
      channels = ceil_div(x.channels, numbers.pack) * numbers.pack;
      copy.emplace(x.data, x.dtype, std::to_array({N, H, W, x.G}),
                   std::to_array({x.s.n, x.s.h, x.s.w, x.channels * x.s.c}), x.channels, x.s.c, channels,
                   numbers.become(x.dtype));
      data = copy->as<unsigned char>();
      plane = copy->plane * item;
      pixel = x.G * channels * item, line = W * pixel, image = H * line;
    }
    batch = channels * item;
  }
};

PatchOperand patches(const Pieces& x, const Scene& scene) {
  const Scene seen{scene.h, scene.w, scene.N, x.channels};
  return {x.data,  x.batch,        x.plane,     x.image, x.line, x.pixel, seen.depth(), seen.rows(), scene.h,
          scene.w, scene.places(), seen.taps(), 0,       0,      0};
}

template <class Number, int BM, int BN, int WM, int WN, bool kAlong, bool kSplit, class A, class B>
void run_tiles(const A& a, const B& b, const LowResult& c, std::int64_t M, std::int64_t N, std::int64_t K,
               std::int64_t chunk, std::int64_t chunks) {
  constexpr int kThreads = BM / WM * (BN / WN) * 32, kItem = sizeof(Number);
  constexpr int kShared = kGemmStages * (BM + BN) * kTileBytes +
                          CopyOf<A, kItem, kAlong, BM, kThreads>::type::kRoom +
                          CopyOf<B, kItem, kAlong, BN, kThreads>::type::kRoom;
  for (std::int64_t first = 0; first < c.batches; first += 65535) {
    const dim3 grid(blocks_of(ceil_div(M, BM) * ceil_div(N, BN)), static_cast<unsigned>(c.apart ? chunks : 1),
                    static_cast<unsigned>(c.batches - first < 65535 ? c.batches - first : 65535));
    launch(&gemm_mma_kernel<Number, BM, BN, WM, WN, kAlong, kAlong, kSplit, A, B>, grid, dim3(kThreads),
           kShared, a, b, c, M, N, K, chunk, first);
  }
}

// run.operator()<Number, kSplit>().
template <class F>
void with_numbers(const Numbers& numbers, const F& run) {
  if (numbers.split)
    run.template operator()<BFloat16, true>();
  else if (numbers.number == DType::bfloat16)
    run.template operator()<BFloat16, false>();
  else if (numbers.number == DType::float16)
    run.template operator()<Float16, false>();
  else
    run.template operator()<Tf32, false>();
}

std::int64_t chunk_of(std::int64_t K) {
  return K <= kChunk                 ? (K > 0 ? K : 1)
         : K <= kChunk * kMostChunks ? kChunk
                                     : ceil_div(ceil_div(K, kMostChunks), 64) * 64;
}

}  // namespace

Arranged::Arranged(const void* data, DType dtype, const std::array<std::int64_t, 4>& extents,
                   const std::array<std::int64_t, 4>& strides, std::int64_t C, std::int64_t channel,
                   std::int64_t pitch, Channels how)
    : plane(extents[0] * extents[1] * extents[2] * extents[3] * pitch),
      room_(plane * (how == Channels::same ? itemsize(dtype) : 2) * (how == Channels::planes ? 3 : 1)) {
  const std::int64_t rows = extents[1] * extents[2] * extents[3], fours = pitch / 4;
  if (plane == 0) return;
  if (rows * fours > INT32_MAX) not_implemented("conv2d", "an image of 2^33 or more numbers");
  const auto fits = [&](std::int64_t stride) { return stride % 4 == 0; };
  const bool lines_first = channel != 1 && C > 1;
  const Arrange a{{strides[0], strides[1], strides[2], strides[3]},
                  channel,
                  pitch,
                  C,
                  rows,
                  fours,
                  plane,
                  Divider(extents[3]),
                  Divider(extents[2]),
                  Divider(lines_first ? rows : fours),
                  lines_first,
                  channel == 1 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && fits(strides[0]) &&
                      fits(strides[1]) && fits(strides[2]) && fits(strides[3])};
  for (std::int64_t first = 0; first < extents[0]; first += 65535) {
    const dim3 grid(blocks_of(ceil_div(rows * fours, 256)),
                    static_cast<unsigned>(extents[0] - first < 65535 ? extents[0] - first : 65535));
    const float* const from = static_cast<const float*>(data);
    if (how == Channels::same && itemsize(dtype) == 2)
      launch(&arrange_channels_kernel<std::uint16_t, std::uint16_t, false>, grid, dim3(256), 0,
             static_cast<const std::uint16_t*>(data), room_.as<std::uint16_t>(), a, first);
    else if (how == Channels::same)
      launch(&arrange_channels_kernel<float, float, false>, grid, dim3(256), 0, from, room_.as<float>(), a,
             first);
    else if (how == Channels::bfloat16)
      launch(&arrange_channels_kernel<float, std::uint16_t, false>, grid, dim3(256), 0, from,
             room_.as<std::uint16_t>(), a, first);
    else
      launch(&arrange_channels_kernel<float, std::uint16_t, true>, grid, dim3(256), 0, from,
             room_.as<std::uint16_t>(), a, first);
  }
}

void conv_cores(const Image4& seen, const Scene& scene, const Filter& filter, const Image4& out,
                const LowResult& like, DType number, MatmulPrecision precision) {
  const Numbers numbers(number, precision);
  const std::int64_t M = scene.rows(), N = filter.rows, G = seen.G;
  if (M == 0 || N == 0 || G == 0) return;
  const Pieces x(seen, scene.N, scene.h.extent, scene.w.extent, numbers, false);
  PatchRows16 a{patches(x, scene)};
  a.out_image = out.s.n, a.out_line = out.s.h, a.out_pixel = out.s.w;
  const std::int64_t K = a.rows;
  const Arranged w(filter.data, filter.dtype, {G, N, scene.h.taps, scene.w.taps},
                   {filter.group, filter.row, filter.tap_h, filter.tap_w}, scene.channels, filter.channel,
                   x.channels, numbers.become(filter.dtype));
  const MmaOperand b{w.as<unsigned char>(), N * K * numbers.item, w.plane * numbers.item, K * numbers.item,
                     N};
  LowResult result = like;
  const auto fits = [&](std::int64_t stride) { return stride * result.width() % 16 == 0; };
  result.packed = result.n == 1 && reinterpret_cast<std::uintptr_t>(result.data) % 16 == 0 && fits(out.s.n) &&
                  fits(out.s.h) && fits(out.s.w) && (G == 1 || fits(result.batch));
  const std::int64_t chunk = chunk_of(K), chunks = ceil_div(K, chunk);
  std::optional<Workspace> partial;
  if (chunks > 1) result.partial = partial.emplace(G * M * N * 4).as<float>();
  const bool wide = N > 64 && ceil_div(M, 128) * ceil_div(N, 128) * G >= multiprocessors();
  with_numbers(numbers, [&]<class Number, bool kSplit>() {
    constexpr int WN = kSplit || std::is_same_v<Number, Tf32> ? 32 : 64;
    wide ? run_tiles<Number, 128, 128, 64, WN, true, kSplit>(a, b, result, M, N, K, chunk, chunks)
         : run_tiles<Number, 128, 64, 64, 32, true, kSplit>(a, b, result, M, N, K, chunk, chunks);
  });
}

void conv_cores_weight(const Image4& dy, const Image4& x, const Scene& scene, const View& dw, DType number,
                       MatmulPrecision precision) {
  const Numbers numbers(number, precision);
  const std::int64_t M = dy.channels, G = dy.G, K = scene.rows();
  if (M == 0 || G == 0 || scene.depth() == 0) return;
  const Pieces left(dy, scene.N, scene.h.places, scene.w.places, numbers, true);
  const Pieces right(x, scene.N, scene.h.extent, scene.w.extent, numbers, false);
  const MmaOperand a{left.data, left.batch, left.plane, left.pixel, left.channels};
  const PatchColumns16 b{patches(right, scene)};
  const std::int64_t N = b.rows, chunk = chunk_of(K), chunks = K > 0 ? ceil_div(K, chunk) : 1;
  const auto blocks = [&](std::int64_t size) { return ceil_div(M, size) * ceil_div(N, size) * G; };
  // Of 99 KB a block the large tile and its places leave nothing over, they are 100.
  const bool roomy = capability() == 80 || (capability() >= 90 && capability() < 120);
  const bool wide = roomy && M > 64 && N > 64 && blocks(128) * chunks >= multiprocessors();
  const bool apart = chunks > 1 && blocks(wide ? 128 : 64) < 2 * multiprocessors();
  const Workspace room((apart ? chunks : 1) * G * M * N * 4);
  LowResult sums{};
  sums.data = sums.partial = room.as<float>();
  if (chunks == 1) sums.partial = nullptr;
  sums.batch = M * N, sums.m = N, sums.n = 1, sums.batches = G;
  sums.dtype = DType::float32, sums.apart = apart;
  sums.pack(M);
  with_numbers(numbers, [&]<class Number, bool kSplit>() {
    constexpr int WN = kSplit || std::is_same_v<Number, Tf32> ? 32 : 64;
    wide ? run_tiles<Number, 128, 128, 64, WN, false, kSplit>(a, b, sums, M, N, K, chunk, chunks)
         : run_tiles<Number, 64, 64, 32, 32, false, kSplit>(a, b, sums, M, N, K, chunk, chunks);
  });
  const std::int64_t size = G * M * N;
  launch(&unpack_filter_kernel, dim3(blocks_of(ceil_div(size, 256))), dim3(256), 0,
         static_cast<const float*>(room.as<float>()), apart ? chunks : std::int64_t{1}, size, b.taps, N,
         scene.channels, static_cast<float*>(dw.data), Shape4(dw));
}

}  // namespace ts::cuda
