// Copies across: y_cr = x_rc for every place of the other axes, elements of any size.
//
// Tiles of 64 x 64 (32 x 32 of 16 bytes) go through shared memory, so that both sides are read and written
// along their rows by 16 bytes. Reads x once, writes y once.
#include "cuda/map.h"
#include "cuda/types.h"

namespace ts::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    transpose_kernel(const Transposition t, std::int64_t tiles_r, std::int64_t tiles_c) {
  constexpr int kItem = sizeof(T), kTile = kItem == 16 ? 32 : 64, kPack = 16 / kItem;
  constexpr int kAcross = kTile / kPack, kRows = kThreads / kAcross, kTurns = kTile / kRows;
  constexpr int kRow =
      kTile + (kItem < 4 ? 4 / kItem : 1);  // an odd number of words: columns meet few banks twice
  using Word = std::conditional_t < kItem<4, std::uint32_t, T>;
  constexpr int kWords = 16 / static_cast<int>(sizeof(Word)), kEach = sizeof(Word) / kItem;
  __shared__ __align__(16) T tile[kTile][kRow];
  std::int64_t block = blockIdx.x;
  const std::int64_t c0 = block % tiles_c * kTile;
  block /= tiles_c;
  const std::int64_t r0 = block % tiles_r * kTile;
  block /= tiles_r;
  const T* x = static_cast<const T*>(t.x);
  T* y = static_cast<T*>(t.y);
  for (int d = 0; d < t.ndim; ++d) {
    const std::int64_t q = block / t.size[d], i = block - q * t.size[d];
    x += i * t.x_stride[d], y += i * t.y_stride[d];
    block = q;
  }
  const int piece = static_cast<int>(threadIdx.x) % kAcross * kPack,
            line = static_cast<int>(threadIdx.x) / kAcross;
  Pack<T, kPack> packs[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const std::int64_t r = r0 + turn * kRows + line, c = c0 + piece;
    const T* const from = x + r * t.x_row + c;
    if (r >= t.rows) continue;
    if (t.x_aligned && c + kPack <= t.columns) {
      packs[turn] = *reinterpret_cast<const Pack<T, kPack>*>(from);
    } else {
#pragma unroll
      for (int k = 0; k < kPack; ++k)
        if (c + k < t.columns) packs[turn].value[k] = from[k];
    }
  }
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    Word words[kWords];
    memcpy(words, &packs[turn], 16);
#pragma unroll
    for (int k = 0; k < kWords; ++k)
      *reinterpret_cast<Word*>(&tile[turn * kRows + line][piece + k * kEach]) = words[k];
  }
  __syncthreads();
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const std::int64_t c = c0 + turn * kRows + line, r = r0 + piece;
    if (c >= t.columns) continue;
    T* const to = y + c * t.y_column + r;
    Pack<T, kPack> out;
#pragma unroll
    for (int k = 0; k < kPack; ++k) out.value[k] = tile[piece + k][turn * kRows + line];
    if (t.y_aligned && r + kPack <= t.rows) {
      *reinterpret_cast<Pack<T, kPack>*>(to) = out;
    } else {
#pragma unroll
      for (int k = 0; k < kPack; ++k)
        if (r + k < t.rows) to[k] = out.value[k];
    }
  }
}

}  // namespace

bool transpose(const View& y, const View& x) {
  Transposition t;
  if (!plan_transposition(y, x, t)) return false;
  with_size(y.dtype, [&]<class T>(Type<T>) {
    constexpr std::int64_t kTile = sizeof(T) == 16 ? 32 : 64;
    const std::int64_t tiles_r = ceil_div(t.rows, kTile), tiles_c = ceil_div(t.columns, kTile);
    launch(&transpose_kernel<T>, dim3(blocks_of(tiles_r * tiles_c * t.batches)), dim3(kThreads), 0, t,
           tiles_r, tiles_c);
  });
  return true;
}

}  // namespace ts::cuda
