// Indexing along one axis: take, index_add, index_set; the range of indices; the positions of true.
//
// A N B: the axes before, at and after the indexed one; M the number of indices. No atomics: in index_add and
// index_set the indices are sorted with their places, and one warp owns a destination row, to which it adds
// the rows of its indices in ascending order of m (or writes the last of them).
#include "cuda/index.h"

#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace ts::cuda {
namespace {

// y[a, m, b] = x[a, index[m], b]: a thread an element.
template <class T>
__global__ void take_kernel(const T* x, std::int64_t xa, std::int64_t xn, std::int64_t xb,
                            const std::int64_t* index, std::int64_t is, T* y, std::int64_t ya,
                            std::int64_t ym, std::int64_t yb, std::int64_t M, std::int64_t B,
                            std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int64_t row = i / B, b = i - row * B, a = row / M, m = row - a * M;
  y[a * ya + m * ym + b * yb] = x[a * xa + index[m * is] * xn + b * xb];
}

// A warp for every sorted index; it works where a run of equal ones begins.
template <class T, class Op>
__global__ void __launch_bounds__(256)
    combine_kernel(const std::uint64_t* keys, const std::uint64_t* places, std::int64_t M, const T* x,
                   std::int64_t xa, std::int64_t xm, std::int64_t xb, T* y, std::int64_t ya, std::int64_t yn,
                   std::int64_t yb, std::int64_t B, Op op) {
  const std::int64_t first = std::int64_t{blockIdx.x} * 8 + threadIdx.x / kWarp;
  if (first >= M) return;
  const std::uint64_t key = keys[first];
  if (first > 0 && keys[first - 1] == key) return;
  x += std::int64_t{blockIdx.y} * xa;
  y += std::int64_t{blockIdx.y} * ya + static_cast<std::int64_t>(key) * yn;
  for (std::int64_t b = threadIdx.x % kWarp; b < B; b += kWarp) {
    T value = y[b * yb];
    for (std::int64_t i = first; i < M && keys[i] == key; ++i)
      value = op(value, x[static_cast<std::int64_t>(places[i]) * xm + b * xb]);
    y[b * yb] = value;
  }
}

template <class T, class Op>
void combine(const View& index, const View& x, const View& y, Op op) {
  const std::int64_t A = x.shape[0], M = x.shape[1], B = x.shape[2];
  if (!A || !M || !B) return;
  const Workspace room(2 * M * 8);
  std::uint64_t *const keys = room.as<std::uint64_t>(), *const places = keys + M;
  sort_indices(static_cast<const std::int64_t*>(index.data), index.strides[0], M, y.shape[1], keys, places);
  for (std::int64_t a = 0; a < A; a += 65535) {  // the most blocks along y
    const std::int64_t some = A - a < 65535 ? A - a : 65535;
    launch(&combine_kernel<T, Op>, dim3(blocks_of(ceil_div(M, 8)), static_cast<unsigned>(some)), dim3(256), 0,
           keys, places, M, static_cast<const T*>(x.data) + a * x.strides[0], x.strides[0], x.strides[1],
           x.strides[2], static_cast<T*>(y.data) + a * y.strides[0], y.strides[0], y.strides[1], y.strides[2],
           B, op);
  }
}

struct Range {
  using Value = std::int64_t;
  struct Sum {
    std::int64_t low, high;
  };
  std::int64_t* range;
  TS_INLINE Sum start(std::int64_t) const { return {INT64_MAX, INT64_MIN}; }
  TS_INLINE void merge(Sum& s, const Sum& later) const {
    if (later.low < s.low) s.low = later.low;
    if (later.high > s.high) s.high = later.high;
  }
  TS_INLINE void step(Sum& s, Value v, Value, std::int64_t) const { merge(s, Sum{v, v}); }
  TS_INLINE void finish(const Sum& s, std::int64_t) const { range[0] = s.low, range[1] = s.high; }
};

constexpr int kChunk = 1024;

// How many of a chunk's bytes are true, and (with starts) their positions.
__global__ void __launch_bounds__(kChunk)
    nonzero_kernel(const std::uint8_t* x, std::int64_t n, std::int64_t* counts, const std::int64_t* starts,
                   std::int64_t* index) {
  __shared__ int sums[kChunk];
  const std::int64_t i = std::int64_t{blockIdx.x} * kChunk + threadIdx.x;
  const int mine = i < n && x[i] != 0;
  sums[threadIdx.x] = mine;
  __syncthreads();
  for (int step = 1; step < kChunk; step *= 2) {
    const int other = static_cast<int>(threadIdx.x) >= step ? sums[threadIdx.x - step] : 0;
    __syncthreads();
    sums[threadIdx.x] += other;
    __syncthreads();
  }
  if (starts) {
    if (mine) index[starts[blockIdx.x] + sums[threadIdx.x] - 1] = i;
  } else if (threadIdx.x == kChunk - 1) {
    counts[blockIdx.x] = sums[threadIdx.x];
  }
}

// starts[i] = counts[0] + ... + counts[i - 1]; the total behind them. One thread: chunks are few.
__global__ void starts_kernel(std::int64_t* counts, std::int64_t chunks) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < chunks; ++i) {
    const std::int64_t count = counts[i];
    counts[i] = sum;
    sum += count;
  }
  counts[chunks] = sum;
}

}  // namespace

void index_range(In index, Out range) {
  const Workspace room(2 * 8);
  std::int64_t* const out = on_host(range) ? room.as<std::int64_t>() : range.as<std::int64_t>();
  View nothing = range;
  nothing.ndim = 0;
  reduce("index_range", index, nullptr, nothing, index.ndim, Range{out});
  if (on_host(range)) download(range.data, out, 2 * 8);
}

void take(In x, In index, Out y) {
  const std::int64_t count = y.size();
  if (count == 0) return;
  with_size(y.dtype, [&]<class T>(Type<T>) {
    launch(&take_kernel<T>, dim3(blocks_of(ceil_div(count, 256))), dim3(256), 0, x.as<T>(), x.strides[0],
           x.strides[1], x.strides[2], index.as<std::int64_t>(), index.strides[0], y.as<T>(), y.strides[0],
           y.strides[1], y.strides[2], y.shape[1], y.shape[2], count);
  });
}

void index_add(In index, In x, Out y) {
  with_any(y.dtype, [&]<class T>(Type<T>) { combine<Summand<T>>(index, x, y, Plus{}); });
}
void index_set(In index, In x, Out y) {
  const OnDevice source(x);
  with_size(y.dtype, [&]<class T>(Type<T>) { combine<T>(index, source.view, y, Replace{}); });
}

void nonzero(In x, Out index, Out count) {
  const std::int64_t n = x.size(), chunks = ceil_div(n, kChunk);
  const Workspace room((chunks + 1) * 8);
  std::int64_t* const starts = room.as<std::int64_t>();
  const dim3 grid(blocks_of(chunks > 0 ? chunks : 1));
  if (chunks > 0)
    launch(&nonzero_kernel, grid, dim3(kChunk), 0, x.as<std::uint8_t>(), n, starts,
           static_cast<const std::int64_t*>(nullptr), static_cast<std::int64_t*>(nullptr));
  launch(&starts_kernel, dim3(1), dim3(1), 0, starts, chunks);
  if (on_host(count))
    download(count.data, starts + chunks, 8);
  else
    check(cudaMemcpyAsync(count.data, starts + chunks, 8, cudaMemcpyDeviceToDevice, stream()), "a copy");
  if (index && chunks > 0)
    launch(&nonzero_kernel, grid, dim3(kChunk), 0, x.as<std::uint8_t>(), n, starts,
           static_cast<const std::int64_t*>(starts), index.as<std::int64_t>());
}

}  // namespace ts::cuda
