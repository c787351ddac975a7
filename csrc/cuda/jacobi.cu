// Symmetric eigenproblems and singular values by Jacobi's rotations (Golub & Van Loan 2013, 8.5 and 8.6.3).
//
// B matrices of N x N, row-major. A sweep rotates every two rows once: N - 1 steps (N even; one more where it
// is odd) of N / 2 pairs that share no row, by the circle method, so that a step is one launch (two for eigh)
// over all pairs. eigh zeroes a[p, q] from both sides; svd makes rows orthogonal from one side, after which
// their lengths are the singular values. Sweeps go on until one finds nothing to do, at most 40; about 8 are
// usual, each 6 N^3 flops (svd 9 N^3).
#include "cuda/kernels.h"
#include "cuda/linalg.h"

namespace ts::cuda {
namespace {

constexpr int kMostSweeps = 40, kRowThreads = 128;

template <class T>
constexpr T kEps = sizeof(T) == 4 ? T(1.1920929e-07) : T(2.2204460492503131e-16);

// The rows of pair i in a step, of `even` rows; p < q. The last of them stays, the others go round.
struct PairOf {
  std::int64_t p, q;
  TS_INLINE PairOf(std::int64_t i, std::int64_t step, std::int64_t even) {
    const std::int64_t ring = even - 1, x = (step + i) % ring;
    const std::int64_t y = i == 0 ? ring : (step + ring - i) % ring;
    p = x < y ? x : y, q = x < y ? y : x;
  }
};

// A block a matrix: norm = Frobenius' one, or infinite; info 2 for what is not finite; with `lower`, the
// matrix becomes symmetric from its lower triangle. Scaled by its largest number, so that squares neither
// overflow nor vanish.
template <class T>
__global__ void __launch_bounds__(kPanelThreads)
    prepare_kernel(T* a, std::int64_t n, bool lower, double* norms, T* scales, std::int64_t* info) {
  __shared__ T room[kWarp];
  __shared__ double sums[kWarp];
  const std::int64_t b = blockIdx.x, size = n * n;
  a += b * size;
  T most(0);
  for (std::int64_t e = threadIdx.x; e < size; e += kPanelThreads) {
    if (lower && e % n > e / n) continue;
    if (const T x = magnitude(a[e]); x > most || x != x) most = x;
  }
  most = largest_in_block(most, room);
  const bool finite = most <= (sizeof(T) == 4 ? T(3.4028234663852886e38) : T(1.7976931348623157e308));
  const T scale = finite && most > T(0) ? most : T(1);
  double sum = 0;
  if (finite)
    for (std::int64_t e = threadIdx.x; e < size; e += kPanelThreads) {
      const std::int64_t i = e / n, j = e % n;
      if (lower && j > i) continue;
      const T x = a[e] / scale;
      a[e] = x;
      if (lower) a[j * n + i] = x;
      sum += (lower && j < i ? 2 : 1) * static_cast<double>(x) * static_cast<double>(x);
    }
  sum = block_reduce(sum, 0.0, sums, Sum{});
  if (threadIdx.x != 0) return;
  norms[b] = ::sqrt(sum), scales[b] = scale, info[b] = finite ? 0 : 2;
}

// --- eigh --------------------------------------------------------------------------------------------------

// The rotation that zeroes a[p, q], for every pair: c and s. busy: whether there was one to speak of.
template <class T>
__global__ void angles_kernel(const T* a, std::int64_t n, std::int64_t even, std::int64_t step,
                              const double* norms, const std::int64_t* info, T* cs, int* busy) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, b = blockIdx.y,
                     pairs = even / 2;
  if (i >= pairs) return;
  const PairOf rows(i, step, even);
  T c(1), s(0);
  if (rows.q < n && info[b] == 0) {
    const T* const m = a + b * n * n;
    const double off = static_cast<double>(m[rows.p * n + rows.q]);
    if (off != 0) {
      const double gap =
          static_cast<double>(m[rows.q * n + rows.q]) - static_cast<double>(m[rows.p * n + rows.p]);
      const double half = gap / (2 * off), t = (half < 0 ? -1 : 1) / (::fabs(half) + ::sqrt(1 + half * half));
      const double cosine = 1 / ::sqrt(1 + t * t);
      c = static_cast<T>(cosine), s = static_cast<T>(t * cosine);
      if (::fabs(off) > static_cast<double>(kEps<T>) * norms[b] / static_cast<double>(n)) *busy = 1;
    }
  }
  cs[2 * (b * pairs + i)] = c, cs[2 * (b * pairs + i) + 1] = s;
}

// a = R' a R: a thread the four elements where two pairs meet. Then the rows of z.
template <class T>
__global__ void rotate_kernel(T* a, T* z, std::int64_t n, std::int64_t even, std::int64_t step, const T* cs) {
  const std::int64_t pairs = even / 2, b = blockIdx.z, i = blockIdx.y;
  const std::int64_t j = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const PairOf rows(i, step, even);
  const T c = cs[2 * (b * pairs + i)], s = cs[2 * (b * pairs + i) + 1];
  if (j < pairs) {
    const PairOf columns(j, step, even);
    const T d = cs[2 * (b * pairs + j)], r = cs[2 * (b * pairs + j) + 1];
    T* const m = a + b * n * n;
    const bool two = rows.q < n, wide = columns.q < n;
    const T pp = m[rows.p * n + columns.p], pq = wide ? m[rows.p * n + columns.q] : T(0);
    const T qp = two ? m[rows.q * n + columns.p] : T(0), qq = two && wide ? m[rows.q * n + columns.q] : T(0);
    const T up = c * pp - s * qp, uq = c * pq - s * qq, lp = s * pp + c * qp, lq = s * pq + c * qq;
    m[rows.p * n + columns.p] = d * up - r * uq;
    if (wide) m[rows.p * n + columns.q] = r * up + d * uq;
    if (two) m[rows.q * n + columns.p] = d * lp - r * lq;
    if (two && wide) m[rows.q * n + columns.q] = r * lp + d * lq;
  }
  if (z && rows.q < n)
    for (std::int64_t e = j; e < n; e += std::int64_t{gridDim.x} * blockDim.x) {
      T &upper = z[(b * n + rows.p) * n + e], &lower = z[(b * n + rows.q) * n + e];
      const T x = upper, y = lower;
      upper = c * x - s * y, lower = s * x + c * y;
    }
}

// --- svd ---------------------------------------------------------------------------------------------------

// A block a pair: rows p and q of w become orthogonal, and u's rows follow.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    orthogonalize_kernel(T* w, T* u, std::int64_t n, std::int64_t even, std::int64_t step,
                         const double* norms, const std::int64_t* info, int* busy) {
  __shared__ double room[kWarp];
  const std::int64_t b = blockIdx.y;
  const PairOf rows(blockIdx.x, step, even);
  if (rows.q >= n || info[b] != 0) return;
  T *const x = w + (b * n + rows.p) * n, *const y = w + (b * n + rows.q) * n;
  double xx = 0, yy = 0, xy = 0;
  for (std::int64_t e = threadIdx.x; e < n; e += kRowThreads) {
    const double l = static_cast<double>(x[e]), r = static_cast<double>(y[e]);
    xx += l * l, yy += r * r, xy += l * r;
  }
  xx = block_reduce(xx, 0.0, room, Sum{});
  yy = block_reduce(yy, 0.0, room, Sum{});
  xy = block_reduce(xy, 0.0, room, Sum{});
  // Rows that are shorter than the rounding of the longest ones need no direction.
  const double eps = static_cast<double>(kEps<T>), least = eps * norms[b];
  if (!(::fabs(xy) > eps * ::sqrt(xx) * ::sqrt(yy)) || xx <= least * least || yy <= least * least) return;
  const double half = (yy - xx) / (2 * xy),
               t = (half < 0 ? -1 : 1) / (::fabs(half) + ::sqrt(1 + half * half));
  const double cosine = 1 / ::sqrt(1 + t * t);
  const T c = static_cast<T>(cosine), s = static_cast<T>(t * cosine);
  if (threadIdx.x == 0 && ::fabs(xy) > 8 * eps * ::sqrt(xx) * ::sqrt(yy)) *busy = 1;
  const auto rotate = [&](T* upper, T* lower) {
    for (std::int64_t e = threadIdx.x; e < n; e += kRowThreads) {
      const T l = upper[e], r = lower[e];
      upper[e] = c * l - s * r, lower[e] = s * l + c * r;
    }
  };
  rotate(x, y);
  if (u) rotate(u + (b * n + rows.p) * n, u + (b * n + rows.q) * n);
}

// A block a row: its length.
template <class T>
__global__ void __launch_bounds__(kRowThreads) lengths_kernel(const T* w, std::int64_t n, T* s) {
  __shared__ double room[kWarp];
  const std::int64_t row = blockIdx.x;
  double sum = 0;
  for (std::int64_t e = threadIdx.x; e < n; e += kRowThreads) {
    const double x = static_cast<double>(w[row * n + e]);
    sum += x * x;
  }
  sum = block_reduce(sum, 0.0, room, Sum{});
  if (threadIdx.x == 0) s[row] = static_cast<T>(::sqrt(sum));
}

// Rows of v without a direction of their own (values below eps times the norm, which come last): unit
// vectors, made orthogonal to all before them, twice. A block a matrix.
template <class T>
__global__ void __launch_bounds__(kPanelThreads)
    complete_kernel(T* v, const T* s, std::int64_t n, const double* norms, const T* scales) {
  __shared__ double room[kWarp];
  __shared__ double candidate;
  __shared__ std::int64_t chosen;
  const std::int64_t b = blockIdx.x;
  v += b * n * n, s += b * n;
  const double least = static_cast<double>(kEps<T>) * norms[b] * static_cast<double>(scales[b]);
  const int t = static_cast<int>(threadIdx.x);
  for (std::int64_t row = 0; row < n; ++row) {
    if (static_cast<double>(s[row]) > least) continue;
    // The unit vector that the rows before reach least.
    if (t == 0) candidate = 2, chosen = 0;
    __syncthreads();
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t i = t; i < row; i += kPanelThreads) {
        const double x = static_cast<double>(v[i * n + j]);
        sum += x * x;
      }
      sum = block_reduce(sum, 0.0, room, Sum{});
      if (t == 0 && sum < candidate) candidate = sum, chosen = j;
    }
    __syncthreads();
    T* const x = v + row * n;
    for (std::int64_t e = t; e < n; e += kPanelThreads) x[e] = T(e == chosen);
    for (int turn = 0; turn < 2; ++turn)
      for (std::int64_t i = 0; i < row; ++i) {
        __syncthreads();
        double dot = 0;
        for (std::int64_t e = t; e < n; e += kPanelThreads)
          dot += static_cast<double>(v[i * n + e]) * static_cast<double>(x[e]);
        dot = block_reduce(dot, 0.0, room, Sum{});
        for (std::int64_t e = t; e < n; e += kPanelThreads)
          x[e] = static_cast<T>(static_cast<double>(x[e]) - dot * static_cast<double>(v[i * n + e]));
      }
    __syncthreads();
    double square = 0;
    for (std::int64_t e = t; e < n; e += kPanelThreads)
      square += static_cast<double>(x[e]) * static_cast<double>(x[e]);
    const double length = ::sqrt(block_reduce(square, 0.0, room, Sum{}));
    for (std::int64_t e = t; e < n; e += kPanelThreads)
      x[e] = static_cast<T>(static_cast<double>(x[e]) / length);
    __syncthreads();
  }
}

// --- both --------------------------------------------------------------------------------------------------

template <class T>
__global__ void unit_rows_kernel(T* z, std::int64_t n, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) z[i] = T(i / n % n == i % n);
}
template <class T>
__global__ void diagonal_kernel(const T* a, std::int64_t n, T* d, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) d[i] = a[i * n + i % n];
}

// The place of each value among its matrix's, ascending or descending, and the scaled value there.
template <class T>
__global__ void order_kernel(const T* values, std::int64_t n, bool descending, const T* scales, T* sorted,
                             std::int64_t* place, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const std::int64_t b = i / n;
  const T mine = values[i];
  std::int64_t before = 0;
  for (std::int64_t j = b * n; j < (b + 1) * n; ++j) {
    const T other = values[j];
    before += (descending ? other > mine : other < mine) || (other == mine && j < i);
  }
  place[i] = b * n + before;
  sorted[place[i]] = mine * scales[b];
}
// y[place[row]] = x[row], over the length where one is given and is not 0.
template <class T>
__global__ void place_rows_kernel(const T* x, const std::int64_t* place, const T* lengths, std::int64_t n,
                                  T* y) {
  const std::int64_t row = blockIdx.x;
  const T length = lengths && lengths[row] > T(0) ? lengths[row] : T(1);
  for (std::int64_t e = threadIdx.x; e < n; e += blockDim.x) y[place[row] * n + e] = x[row * n + e] / length;
}
__global__ void not_converged_kernel(std::int64_t* info, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count && info[i] == 0) info[i] = 1;
}

dim3 covering(std::int64_t count) { return dim3(blocks_of(ceil_div(count, 256))); }

// sweep(busy) until one leaves busy at 0.
template <class Sweep>
void sweeps(std::int64_t* info, std::int64_t batches, const Sweep& sweep) {
  const Workspace room(4);
  int* const busy = room.as<int>();
  for (int turn = 0; turn < kMostSweeps; ++turn) {
    check(cudaMemsetAsync(busy, 0, 4, stream()), "clearing");
    sweep(busy);
    int found = 0;
    download(&found, busy, 4);
    if (!found) return;
  }
  launch(&not_converged_kernel, covering(batches), dim3(256), 0, info, batches);
}

// Memory for what both keep beside their matrices.
template <class T>
struct Kept {
  Workspace room;
  double* norms;
  std::int64_t* place;
  T *values, *scales;
  Kept(std::int64_t batches, std::int64_t n)
      : room(batches * (8 + 16 + n * 24)),
        norms(room.as<double>()),
        place(reinterpret_cast<std::int64_t*>(norms + batches)),
        values(reinterpret_cast<T*>(place + batches * n)),
        scales(values + batches * n) {}
};

void refuse_many(const char* name, std::int64_t batches) {
  if (batches > 65535) not_implemented(name, "more than 65535 matrices; go through the batch in parts");
}

}  // namespace

void eigh(Out a, Out w, Out vectors, Out info) {
  const std::int64_t batches = a.shape[0], n = a.shape[2], even = (n + 1) / 2 * 2, pairs = even / 2;
  if (batches == 0) return;
  refuse_many("eigh", batches);
  std::int64_t* const failed = info.as<std::int64_t>();
  if (n == 0)
    return check(cudaMemsetAsync(failed, 0, static_cast<std::size_t>(8 * batches), stream()), "clearing");
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const Kept<T> kept(batches, n);
    const Workspace room(batches * (n * n + even) * static_cast<std::int64_t>(sizeof(T)));
    T *const z = vectors ? room.as<T>() : nullptr, *const cs = room.as<T>() + batches * n * n;
    const auto batch_blocks = static_cast<unsigned>(batches);
    launch(&prepare_kernel<T>, dim3(batch_blocks), dim3(kPanelThreads), 0, a.as<T>(), n, true, kept.norms,
           kept.scales, failed);
    if (z) launch(&unit_rows_kernel<T>, covering(batches * n * n), dim3(256), 0, z, n, batches * n * n);
    const dim3 all(blocks_of(ceil_div(pairs, 128)), batch_blocks);
    if (pairs > 65535) not_implemented("eigh", "matrices of more than 131070 rows");
    const dim3 meetings(all.x, static_cast<unsigned>(pairs), batch_blocks);
    if (n > 1)
      sweeps(failed, batches, [&](int* busy) {
        for (std::int64_t step = 0; step < even - 1; ++step) {
          launch(&angles_kernel<T>, all, dim3(128), 0, static_cast<const T*>(a.as<T>()), n, even, step,
                 static_cast<const double*>(kept.norms), static_cast<const std::int64_t*>(failed), cs, busy);
          launch(&rotate_kernel<T>, meetings, dim3(128), 0, a.as<T>(), z, n, even, step,
                 static_cast<const T*>(cs));
        }
      });
    launch(&diagonal_kernel<T>, covering(batches * n), dim3(256), 0, static_cast<const T*>(a.as<T>()), n,
           kept.values, batches * n);
    launch(&order_kernel<T>, covering(batches * n), dim3(256), 0, static_cast<const T*>(kept.values), n,
           false, static_cast<const T*>(kept.scales), w.as<T>(), kept.place, batches * n);
    if (z)
      launch(&place_rows_kernel<T>, dim3(blocks_of(batches * n)), dim3(128), 0, static_cast<const T*>(z),
             static_cast<const std::int64_t*>(kept.place), static_cast<const T*>(nullptr), n,
             vectors.as<T>());
  });
}

void svd(Out a, Out s, Out u, Out v, Out info) {
  const std::int64_t batches = a.shape[0], n = a.shape[2], even = (n + 1) / 2 * 2;
  if (batches == 0) return;
  refuse_many("svd", batches);
  std::int64_t* const failed = info.as<std::int64_t>();
  if (n == 0)
    return check(cudaMemsetAsync(failed, 0, static_cast<std::size_t>(8 * batches), stream()), "clearing");
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    const Kept<T> kept(batches, n);
    const Workspace room(u ? batches * n * n * static_cast<std::int64_t>(sizeof(T)) : 1);
    T *const w = a.as<T>(), *const g = u ? room.as<T>() : nullptr;
    const auto batch_blocks = static_cast<unsigned>(batches);
    launch(&prepare_kernel<T>, dim3(batch_blocks), dim3(kPanelThreads), 0, w, n, false, kept.norms,
           kept.scales, failed);
    if (g) launch(&unit_rows_kernel<T>, covering(batches * n * n), dim3(256), 0, g, n, batches * n * n);
    if (n > 1)
      sweeps(failed, batches, [&](int* busy) {
        for (std::int64_t step = 0; step < even - 1; ++step)
          launch(&orthogonalize_kernel<T>, dim3(blocks_of(even / 2), batch_blocks), dim3(kRowThreads), 0, w,
                 g, n, even, step, static_cast<const double*>(kept.norms),
                 static_cast<const std::int64_t*>(failed), busy);
      });
    const dim3 rows(blocks_of(batches * n));
    launch(&lengths_kernel<T>, rows, dim3(kRowThreads), 0, static_cast<const T*>(w), n, kept.values);
    launch(&order_kernel<T>, covering(batches * n), dim3(256), 0, static_cast<const T*>(kept.values), n, true,
           static_cast<const T*>(kept.scales), s.as<T>(), kept.place, batches * n);
    if (!g) return;
    const std::int64_t* const place = kept.place;
    launch(&place_rows_kernel<T>, rows, dim3(128), 0, static_cast<const T*>(g), place,
           static_cast<const T*>(nullptr), n, u.as<T>());
    launch(&place_rows_kernel<T>, rows, dim3(128), 0, static_cast<const T*>(w), place,
           static_cast<const T*>(kept.values), n, v.as<T>());
    launch(&complete_kernel<T>, dim3(batch_blocks), dim3(kPanelThreads), 0, v.as<T>(),
           static_cast<const T*>(s.as<T>()), n, static_cast<const double*>(kept.norms),
           static_cast<const T*>(kept.scales));
  });
}

}  // namespace ts::cuda
