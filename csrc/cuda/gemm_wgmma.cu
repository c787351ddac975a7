// gemm on Hopper's tensor cores: tensor maps, the choice of tiles and chunks, launches.
#include <cstdlib>
#include <optional>
#include <utility>

#include "cuda/gemm_mma.h"
#include "cuda/gemm_wgmma.h"

namespace ts::cuda {
namespace {

// The axes of an operand as the copy engine has them: contiguous, the other one, batches, planes of `split`.
bool encode(TensorMap& map, const MmaOperand& x, bool along_k, DType number, int rows, std::int64_t K,
            std::int64_t batches, bool split) {
  const std::int64_t inner = along_k ? K : x.rows, outer = along_k ? x.rows : K;
  const std::int64_t shared = x.batch == 0 ? 1 : batches;
  const std::int64_t row = ceil_div(itemsize(number) * inner, 16) * 16;
  if (outer > 1 && x.pitch < 16) return false;  // one row for all
  // Where there is one row, batch or plane its stride is not looked at, but must be valid.
  return encode_tensor_map(map, x.data, number, {inner, outer, shared, split ? 3 : 1},
                           {outer > 1 ? x.pitch : row, shared > 1 ? x.batch : row, split ? x.plane : row},
                           along_k ? rows : 64);
}

// Whether chunks of K are units of work of their own: where tiles are few.
bool chunks_apart(std::int64_t tiles, std::int64_t chunks) {
  return chunks > 1 && tiles < 2 * multiprocessors();
}

// The width of tiles with which a multiprocessor has the least to do: rounds of work, times the tile's width,
// times how much longer it multiplies for want of reuse.
int tile_width(std::int64_t M, std::int64_t N, std::int64_t batches, std::int64_t chunks) {
  int best = 0;
  double least = 0;
  for (const auto& [width, slower] : {std::pair{256, 1.0}, std::pair{192, 1.03}, std::pair{128, 1.12}}) {
    const std::int64_t tiles = ceil_div(M, kWgmmaM) * ceil_div(N, width) * batches;
    const std::int64_t rounds = chunks_apart(tiles, chunks) ? ceil_div(tiles * chunks, multiprocessors())
                                                            : ceil_div(tiles, multiprocessors()) * chunks;
    const double time = static_cast<double>(rounds) * width * slower;
    if (best == 0 || time < least) best = width, least = time;
  }
  return best;
}

template <class Number, int kBN, bool kSplit>
bool run(const MmaOperand& a, const MmaOperand& b, bool a_along_k, bool b_along_k, LowResult c,
         WgmmaShape s) {
  constexpr DType number = std::is_same_v<Number, BFloat16>  ? DType::bfloat16
                           : std::is_same_v<Number, Float16> ? DType::float16
                                                             : DType::float32;
  const std::int64_t tiles_m = ceil_div(s.M, kWgmmaM), tiles_n = ceil_div(s.N, kBN);
  const std::int64_t tiles = tiles_m * tiles_n * c.batches;
  const bool apart = chunks_apart(tiles, s.chunks);
  if (s.M > INT32_MAX - 256 || s.N > INT32_MAX - 256 || s.K > INT32_MAX - 256 ||
      tiles_m * tiles_n > INT32_MAX / 16 || tiles * s.chunks > INT32_MAX)
    return false;
  TensorMap map_a, map_b;
  if (!encode(map_a, a, a_along_k, number, kWgmmaM, s.K, c.batches, kSplit) ||
      !encode(map_b, b, b_along_k, number, kBN, s.K, c.batches, kSplit))
    return false;
  s.tiles_m = static_cast<unsigned>(tiles_m), s.tiles_n = static_cast<unsigned>(tiles_n);
  s.apart = apart ? s.chunks : 1;
  s.units = static_cast<unsigned>(tiles * s.apart);
  s.batch_of_a = a.batch != 0, s.batch_of_b = b.batch != 0;
  s.chunk_results = 0, s.scratch = nullptr;
  const unsigned blocks =
      s.units < static_cast<unsigned>(multiprocessors()) ? s.units : static_cast<unsigned>(multiprocessors());
  LowResult out = c;
  std::optional<Workspace> room;
  if (apart) {
    room.emplace(s.chunks * c.batches * s.M * s.N * 4);
    c.partial = room->as<float>();
    out.data = c.partial;
    out.bias = nullptr, out.relu = false, out.dtype = DType::float32;
    out.batch = s.M * s.N, out.m = s.N, out.n = 1;
    s.chunk_results = c.batches * s.M * s.N;
    out.pack(s.M);
  } else if (s.chunks > 1) {
    room.emplace(std::int64_t{blocks} * kWgmmaConsumers * (kBN / 2) * 4);
    s.scratch = room->as<float>();
  }
  bool done = false;
  const auto go = [&](auto kernel) {
    if (!compiled_for_hopper(kernel)) return;
    launch(kernel, dim3(blocks), dim3(kWgmmaThreads), WgmmaRoom<Number, kBN, kSplit>::kBytes, map_a, map_b,
           out, s);
    done = true;
  };
  if (a_along_k && b_along_k) {
    go(&gemm_wgmma_kernel<Number, kBN, true, true, kSplit>);
  } else if constexpr (!std::is_same_v<Number, Tf32>) {
    if (a_along_k)
      go(&gemm_wgmma_kernel<Number, kBN, true, false, kSplit>);
    else if (b_along_k)
      go(&gemm_wgmma_kernel<Number, kBN, false, true, kSplit>);
    else
      go(&gemm_wgmma_kernel<Number, kBN, false, false, kSplit>);
  }
  if (done && apart) add_chunks_of(c, s.chunks, s.M, s.N);
  return done;
}

}  // namespace

Wgmma wgmma_wanted() {
  const char* text = std::getenv("TENSORSMITH_CUDA_WGMMA");
  if (!text || !*text || std::strcmp(text, "1") == 0) return Wgmma::where_possible;
  if (std::strcmp(text, "0") == 0) return Wgmma::never;
  if (std::strcmp(text, "2") == 0) return Wgmma::also_untried;
  if (std::strcmp(text, "only") == 0) return Wgmma::only;
  runtime_error("TENSORSMITH_CUDA_WGMMA is '%s'; 0, 1, 2 and only are known", text);
}

bool gemm_wgmma(DType number, bool split, const MmaOperand& a, const MmaOperand& b, bool a_along_k,
                bool b_along_k, const LowResult& c, std::int64_t M, std::int64_t N, std::int64_t K,
                std::int64_t chunk, std::int64_t chunks) {
  if (capability() != 90 || K == 0) return false;
  if (c.bias && c.bias_n != 0 && (c.bias_m != 0 || c.bias_n != 1)) return false;  // of a result, or strided
  WgmmaShape s{};
  s.M = M, s.N = N, s.K = K, s.chunk = chunk, s.chunks = static_cast<int>(chunks);
  if (split) return run<BFloat16, 128, true>(a, b, a_along_k, b_along_k, c, s);
  const int width = tile_width(M, N, c.batches, chunks);
  const auto choose = [&]<class Number>(Number) {
    return width == 256   ? run<Number, 256, false>(a, b, a_along_k, b_along_k, c, s)
           : width == 192 ? run<Number, 192, false>(a, b, a_along_k, b_along_k, c, s)
                          : run<Number, 128, false>(a, b, a_along_k, b_along_k, c, s);
  };
  return number == DType::bfloat16  ? choose(BFloat16{})
         : number == DType::float16 ? choose(Float16{})
                                    : choose(Tf32{});
}

}  // namespace ts::cuda
