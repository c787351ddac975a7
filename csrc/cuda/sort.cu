// Stable sorts by digits of 8 bits, least significant first, without atomics: of indices, and of rows.
//
// All rows of a matrix are sorted at once, by the bytes of the values and then by those of the row's number.
// M keys, in tiles of 1024. A pass counts every tile's digits, scans the counts (all tiles of digit 0, then
// of 1, ...), and lets the 256 threads of a tile each carry the keys of their own digit to their places, in
// order. A pass reads keys and places twice and writes them once.
#include <utility>

#include "cuda/index.h"
#include "cuda/kernels.h"
#include "cuda/order.h"

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

// 8 bits of the key, or of the number of the row that a place lies in.
struct Digit {
  int shift;
  std::int64_t columns;  // 0: of the key
  TS_INLINE std::uint8_t operator()(std::uint64_t key, std::uint64_t place) const {
    return static_cast<std::uint8_t>((columns ? place / static_cast<std::uint64_t>(columns) : key) >> shift);
  }
};

__global__ void __launch_bounds__(kDigits)
    count_kernel(const std::uint64_t* keys, const std::uint64_t* places, std::int64_t M, const Digit of,
                 std::int64_t* counts, std::int64_t tiles) {
  __shared__ std::uint8_t digit[kTile];
  const std::int64_t first = std::int64_t{blockIdx.x} * kTile;
  const int n = static_cast<int>(M - first < kTile ? M - first : kTile);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kDigits)
    digit[i] = of(keys[first + i], places[first + i]);
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
    move_kernel(const std::uint64_t* keys, const std::uint64_t* places, std::int64_t M, const Digit of,
                const std::int64_t* starts, std::int64_t tiles, std::uint64_t* new_keys,
                std::uint64_t* new_places) {
  __shared__ std::uint8_t digit[kTile];
  const std::int64_t first = std::int64_t{blockIdx.x} * kTile;
  const int n = static_cast<int>(M - first < kTile ? M - first : kTile);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kDigits)
    digit[i] = of(keys[first + i], places[first + i]);
  __syncthreads();
  std::int64_t to = starts[threadIdx.x * tiles + blockIdx.x];
  for (int i = 0; i < n; ++i)
    if (digit[i] == threadIdx.x) {
      new_keys[to] = keys[first + i];
      new_places[to++] = places[first + i];
    }
}

// Sorts by the digits in order, an even number of them: the result is where the keys were.
void sort_by(const Digit* digits, int passes, std::uint64_t* keys, std::uint64_t* places, std::int64_t M) {
  const std::int64_t tiles = ceil_div(M, kTile);
  const Workspace counts(kDigits * tiles * 8), other(2 * M * 8);
  std::uint64_t *from[2] = {keys, places},
                *to[2] = {other.as<std::uint64_t>(), other.as<std::uint64_t>() + M};
  for (int pass = 0; pass < passes; ++pass) {
    const dim3 grid(blocks_of(tiles));
    launch(&count_kernel, grid, dim3(kDigits), 0, from[0], from[1], M, digits[pass],
           counts.as<std::int64_t>(), tiles);
    launch(&scan_kernel, dim3(1), dim3(1024), 0, counts.as<std::int64_t>(), kDigits * tiles);
    launch(&move_kernel, grid, dim3(kDigits), 0, from[0], from[1], M, digits[pass], counts.as<std::int64_t>(),
           tiles, to[0], to[1]);
    std::swap(from[0], to[0]), std::swap(from[1], to[1]);
  }
}

template <class T, bool kOneZero>
__global__ void keys_kernel(const T* x, std::int64_t stride, std::int64_t C, std::int64_t M,
                            const Order<T, kOneZero> order, std::uint64_t* keys, std::uint64_t* places) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= M) return;
  keys[i] = order.key(x[i / C * stride + i % C]);
  places[i] = static_cast<std::uint64_t>(i);
}
template <class T>
__global__ void values_kernel(const std::uint64_t* keys, std::int64_t C, std::int64_t M,
                              const Order<T, false> order, T* y, std::int64_t stride) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < M) y[i / C * stride + i % C] = order.value(static_cast<KeyOf<T>>(keys[i]));
}
// The first k places of every row.
__global__ void places_kernel(const std::uint64_t* places, std::int64_t C, std::int64_t k, std::int64_t count,
                              std::int64_t* y, std::int64_t stride) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count)
    y[i / k * stride + i % k] =
        static_cast<std::int64_t>(places[i / k * C + i % k] % static_cast<std::uint64_t>(C));
}

// The rows' keys in order, with their places in x as a whole.
template <class T, bool kOneZero>
void sort_rows(const View& x, const Order<T, kOneZero>& order, std::uint64_t* keys, std::uint64_t* places) {
  const std::int64_t R = x.shape[0], C = x.shape[1], M = R * C;
  launch(&keys_kernel<T, kOneZero>, dim3(blocks_of(ceil_div(M, 256))), dim3(256), 0,
         static_cast<const T*>(x.data), x.strides[0], C, M, order, keys, places);
  Digit digits[17];
  int passes = 0;
  for (int byte = 0; byte < static_cast<int>(sizeof(T)); ++byte) digits[passes++] = {8 * byte, 0};
  for (int byte = 0; byte < 8 && (static_cast<std::uint64_t>(R - 1) >> (8 * byte)) != 0; ++byte)
    digits[passes++] = {8 * byte, C};
  if (passes % 2) digits[passes++] = {56, C};  // all in one bin: a copy
  sort_by(digits, passes, keys, places, M);
}

template <class T>
void sort_places(const View& x, const View& index, const Order<T, true>& order) {
  const std::int64_t C = x.shape[1], k = index.shape[1], M = x.shape[0] * C, count = x.shape[0] * k;
  if (count == 0 || M == 0) return;
  const Workspace room(2 * M * 8);
  std::uint64_t *const keys = room.as<std::uint64_t>(), *const places = keys + M;
  sort_rows(x, order, keys, places);
  launch(&places_kernel, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0,
         static_cast<const std::uint64_t*>(places), C, k, count, static_cast<std::int64_t*>(index.data),
         index.strides[0]);
}

}  // namespace

void sort(In x, Out y, Out, bool descending) {
  with_any(x.dtype, [&]<class B>(Type<B>) {
    using T = Lane<B>;
    const std::int64_t C = x.shape[1], M = x.shape[0] * C;
    if (M == 0) return;
    const Order<T, false> order(descending, false);
    const Workspace room(2 * M * 8);
    std::uint64_t* const keys = room.as<std::uint64_t>();
    sort_rows(x, order, keys, keys + M);
    launch(&values_kernel<T>, dim3(blocks_of(ceil_div(M, 256))), dim3(256), 0,
           static_cast<const std::uint64_t*>(keys), C, M, order, y.as<T>(), y.strides[0]);
  });
}
void argsort(In x, Out index, Out, bool descending) {
  with_any(x.dtype, [&]<class B>(Type<B>) {
    sort_places<Lane<B>>(x, index, Order<Lane<B>, true>(descending, false));
  });
}
void topk(In x, Out index, Out, bool largest) {
  with_any(x.dtype,
           [&]<class B>(Type<B>) { sort_places<Lane<B>>(x, index, Order<Lane<B>, true>(largest, true)); });
}

void sort_indices(const std::int64_t* index, std::int64_t stride, std::int64_t M, std::int64_t largest,
                  std::uint64_t* keys, std::uint64_t* places) {
  Digit digits[8];
  int passes = 0;
  for (; passes < 8 && (static_cast<std::uint64_t>(largest) >> (8 * passes)) != 0; ++passes)
    digits[passes] = {8 * passes, 0};
  if (passes % 2) digits[passes] = {8 * passes, 0}, ++passes;  // an even number ends where it began
  launch(&start_kernel, dim3(blocks_of(ceil_div(M, 256))), dim3(256), 0, index, stride, M, keys, places);
  sort_by(digits, passes, keys, places, M);
}

}  // namespace ts::cuda
