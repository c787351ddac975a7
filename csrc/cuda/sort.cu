// A stable sort of indices by digits of 8 bits, least significant first, without atomics.
//
// M keys, in tiles of 1024. A pass counts every tile's digits, scans the counts (all tiles of digit 0, then
// of 1, ...), and lets the 256 threads of a tile each carry the keys of their own digit to their places, in
// order. A pass reads keys and places twice and writes them once.
#include "cuda/index.h"

namespace ts::cuda {
namespace {

constexpr int kTile = 1024, kDigits = 256;

__global__ void start_kernel(const std::int64_t* index, std::int64_t stride, std::int64_t M,
                             std::uint64_t* keys, std::uint64_t* places) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= M) return;
  keys[i] = static_cast<std::uint64_t>(index[i * stride]);
  places[i] = static_cast<std::uint64_t>(i);
}

__global__ void __launch_bounds__(kDigits) count_kernel(const std::uint64_t* keys, std::int64_t M, int shift,
                                                        std::int64_t* counts, std::int64_t tiles) {
  __shared__ std::uint8_t digit[kTile];
  const std::int64_t first = std::int64_t{blockIdx.x} * kTile;
  const int n = static_cast<int>(M - first < kTile ? M - first : kTile);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kDigits)
    digit[i] = static_cast<std::uint8_t>(keys[first + i] >> shift);
  __syncthreads();
  std::int64_t count = 0;
  for (int i = 0; i < n; ++i) count += digit[i] == threadIdx.x;
  counts[threadIdx.x * tiles + blockIdx.x] = count;
}

// counts[i] becomes the sum of those before it; one block.
__global__ void __launch_bounds__(1024) scan_kernel(std::int64_t* counts, std::int64_t n) {
  __shared__ std::int64_t sums[1024];
  const std::int64_t per = ceil_div(n, 1024), begin = threadIdx.x * per;
  const std::int64_t end = begin + per < n ? begin + per : n;
  std::int64_t sum = 0;
  for (std::int64_t i = begin; i < end; ++i) sum += counts[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int step = 1; step < 1024; step *= 2) {
    const std::int64_t other = static_cast<int>(threadIdx.x) >= step ? sums[threadIdx.x - step] : 0;
    __syncthreads();
    sums[threadIdx.x] += other;
    __syncthreads();
  }
  sum = sums[threadIdx.x] - sum;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t count = counts[i];
    counts[i] = sum;
    sum += count;
  }
}

__global__ void __launch_bounds__(kDigits)
    move_kernel(const std::uint64_t* keys, const std::uint64_t* places, std::int64_t M, int shift,
                const std::int64_t* starts, std::int64_t tiles, std::uint64_t* new_keys,
                std::uint64_t* new_places) {
  __shared__ std::uint8_t digit[kTile];
  const std::int64_t first = std::int64_t{blockIdx.x} * kTile;
  const int n = static_cast<int>(M - first < kTile ? M - first : kTile);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kDigits)
    digit[i] = static_cast<std::uint8_t>(keys[first + i] >> shift);
  __syncthreads();
  std::int64_t to = starts[threadIdx.x * tiles + blockIdx.x];
  for (int i = 0; i < n; ++i)
    if (digit[i] == threadIdx.x) {
      new_keys[to] = keys[first + i];
      new_places[to++] = places[first + i];
    }
}

}  // namespace

void sort_indices(const std::int64_t* index, std::int64_t stride, std::int64_t M, std::int64_t largest,
                  std::uint64_t* keys, std::uint64_t* places) {
  const std::int64_t tiles = ceil_div(M, kTile);
  int passes = 0;
  while (passes < 8 && (static_cast<std::uint64_t>(largest) >> (8 * passes)) != 0) ++passes;
  passes += passes % 2;  // an even number ends where it began
  const Workspace counts(kDigits * tiles * 8), other(2 * M * 8);
  std::uint64_t *from[2] = {keys, places},
                *to[2] = {other.as<std::uint64_t>(), other.as<std::uint64_t>() + M};
  launch(&start_kernel, dim3(blocks_of(ceil_div(M, 256))), dim3(256), 0, index, stride, M, keys, places);
  for (int pass = 0; pass < passes; ++pass) {
    const dim3 grid(blocks_of(tiles));
    launch(&count_kernel, grid, dim3(kDigits), 0, from[0], M, 8 * pass, counts.as<std::int64_t>(), tiles);
    launch(&scan_kernel, dim3(1), dim3(1024), 0, counts.as<std::int64_t>(), kDigits * tiles);
    launch(&move_kernel, grid, dim3(kDigits), 0, from[0], from[1], M, 8 * pass, counts.as<std::int64_t>(),
           tiles, to[0], to[1]);
    std::uint64_t* const swap[2] = {from[0], from[1]};
    from[0] = to[0], from[1] = to[1], to[0] = swap[0], to[1] = swap[1];
  }
}

}  // namespace ts::cuda
