// The iteration engine of the pointwise kernels: y[i] = f(x[i], ...) over any shape and strides.
//
// Axes are sorted by the output's strides and joined where all operands allow. Where the innermost is
// contiguous (or broadcast) in every operand, a thread has a pack of 16 bytes; otherwise elements,
// neighbouring threads on neighbouring outputs. Where more axes are left their places come from a
// multiplication per axis. A scalar of the host travels in the launch. One read of each operand, one write.
#pragma once

#include "core/view.h"
#include "cuda/divider.h"
#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kMapDims = 8;  // axes that a launch takes; more are looped over on the host
constexpr int kMapThreads = 256;
constexpr int kMaxInputs = 3;

struct alignas(16) Value {
  std::uint64_t words[2];
};
// Operand 0 is the output.
struct Places {
  char* data[1 + kMaxInputs];
  std::int64_t stride[1 + kMaxInputs][kMapDims];  // elements, innermost first
  Divider size[kMapDims];
  std::int64_t count;
  std::int32_t ndim;
  bool packed;  // packs of neighbours lie at multiples of 16 bytes, or are one element, in every operand
  bool constant[1 + kMaxInputs];  // the operand is `value`
  Value value[1 + kMaxInputs];

  template <class T>
  TS_INLINE T* at(int k) const {
    return reinterpret_cast<T*>(data[k]);
  }
};

struct None {};

template <class T, int N>
struct alignas(sizeof(T) * N <= 16 ? sizeof(T) * N : 16) Pack {
  T value[N];
};

template <class T>
TS_INLINE void put(Vec<T> y, T* p) {
  *reinterpret_cast<Lane<T>*>(p) = y.r;
}
template <class T>
TS_INLINE void put(Mask<T> y, bool* p) {
  *p = y.r;
}

// Packs that a thread has on their way: two where there is one input, of which one pack a thread leaves the
// memory idle.
template <class A, bool kOneInput>
constexpr int map_packs() {
  return kOneInput && sizeof(A) <= 4 ? 2 : 1;
}

// The offset of every operand at a place in y's order.
template <int kOperands>
TS_INLINE void find_offsets(const Places& p, std::int64_t index, std::int64_t (&offset)[kOperands]) {
#pragma unroll
  for (int k = 0; k < kOperands; ++k) offset[k] = index * p.stride[k][0];
  if (p.ndim == 1) return;
  std::uint32_t rest = static_cast<std::uint32_t>(index);
#pragma unroll
  for (int k = 0; k < kOperands; ++k) offset[k] = 0;
#pragma unroll 1
  for (int d = 0; d < p.ndim; ++d) {
    const std::uint32_t q = p.size[d].quotient(rest), r = rest - q * p.size[d].divisor;
#pragma unroll
    for (int k = 0; k < kOperands; ++k) offset[k] += p.stride[k][d] * r;
    rest = q;
  }
}

template <class T>
TS_INLINE Vec<T> constant_of(const Places& p, int k) {
  T value;
  memcpy(&value, &p.value[k], sizeof(T));
  return Vec<T>(value);
}
template <class T>
TS_INLINE Vec<T> load_item(const Places& p, int k, std::int64_t at) {
  return p.constant[k] ? constant_of<T>(p, k) : Vec<T>::load(p.at<const T>(k) + at);
}
// kItems neighbours of operand k, or its one element for all of them.
template <class T, int kItems>
TS_INLINE void load_pack(const Places& p, int k, std::int64_t at, Vec<T>* x) {
  if (p.constant[k] || p.stride[k][0] == 0) {
    const Vec<T> same = load_item<T>(p, k, at);
#pragma unroll
    for (int j = 0; j < kItems; ++j) x[j] = same;
    return;
  }
  const auto pack = *reinterpret_cast<const Pack<Lane<T>, kItems>*>(p.at<const T>(k) + at);
#pragma unroll
  for (int j = 0; j < kItems; ++j) x[j] = Vec<T>(pack.value[j]);
}

// y = F(a), F(a, b) or F(a, b, c); R is y's element type, absent inputs are None.
template <class F, class R, class A, class B, class C, int kItems>
__global__ void __launch_bounds__(kMapThreads) map_kernel(const Places p) {
  constexpr bool two = !std::is_same_v<B, None>, three = !std::is_same_v<C, None>;
  constexpr int kOperands = 2 + two + three, kPacks = map_packs<A, !two>(), kAll = kItems * kPacks;
  const std::int64_t first = std::int64_t{blockIdx.x} * (kMapThreads * kAll);
  const int thread = static_cast<int>(threadIdx.x);
  const bool packed = p.packed && first + kMapThreads * kAll <= p.count;
  std::int64_t to[kPacks];
  Vec<A> a[kAll];
  [[maybe_unused]] Vec<std::conditional_t<two, B, A>> b[kAll];
  [[maybe_unused]] Vec<std::conditional_t<three, C, A>> c[kAll];
  if (packed) {
#pragma unroll
    for (int u = 0; u < kPacks; ++u) {
      std::int64_t at[kOperands];
      find_offsets(p, first + (u * kMapThreads + thread) * kItems, at);
      to[u] = at[0];
      load_pack<A, kItems>(p, 1, at[1], a + u * kItems);
      if constexpr (two) load_pack<B, kItems>(p, 2, at[2], b + u * kItems);
      if constexpr (three) load_pack<C, kItems>(p, 3, at[3], c + u * kItems);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kAll; ++j) {
      const std::int64_t index = first + j * kMapThreads + thread;
      std::int64_t at[kOperands];
      find_offsets(p, index < p.count ? index : first, at);  // the last block's reads stay inside
      a[j] = load_item<A>(p, 1, at[1]);
      if constexpr (two) b[j] = load_item<B>(p, 2, at[2]);
      if constexpr (three) c[j] = load_item<C>(p, 3, at[3]);
    }
  }
  Pack<Lane<R>, kItems> y[kPacks];
#pragma unroll
  for (int j = 0; j < kAll; ++j) {
    R* const out = reinterpret_cast<R*>(&y[j / kItems].value[j % kItems]);
    if constexpr (three)
      put(F::apply(a[j], b[j], c[j]), out);
    else if constexpr (two)
      put(F::apply(a[j], b[j]), out);
    else
      put(F::apply(a[j]), out);
  }
  if (packed) {
#pragma unroll
    for (int u = 0; u < kPacks; ++u) *reinterpret_cast<Pack<Lane<R>, kItems>*>(p.at<R>(0) + to[u]) = y[u];
    return;
  }
#pragma unroll
  for (int j = 0; j < kAll; ++j) {
    const std::int64_t index = first + j * kMapThreads + thread;
    if (index >= p.count) break;
    std::int64_t at[1];
    find_offsets(p, index, at);
    p.at<Lane<R>>(0)[at[0]] = y[j / kItems].value[j % kItems];
  }
}

// The same with type-erased launches, so that the planning is compiled once.
using LaunchPlaces = void (*)(const Places&);
void map_places(LaunchPlaces go, int items, const View& y, const View* const* x, int inputs);

template <class F, class R, class A, class B = None, class C = None, class... Inputs>
void map(const View& y, const Inputs&... x) {
  constexpr int kItems = 16 / static_cast<int>(sizeof(R) > sizeof(A) ? sizeof(R) : sizeof(A)) < 8
                             ? 16 / static_cast<int>(sizeof(R) > sizeof(A) ? sizeof(R) : sizeof(A))
                             : 8;
  const View* in[] = {&x...};
  map_places(
      [](const Places& p) {
        constexpr int kAll = kItems * map_packs<A, std::is_same_v<B, None>>();
        launch(&map_kernel<F, R, A, B, C, kItems>, dim3(blocks_of(ceil_div(p.count, kMapThreads * kAll))),
               dim3(kMapThreads), 0, p);
      },
      kItems, y, in, static_cast<int>(sizeof...(x)));
}

// A copy whose rows of neighbours lie across those that it reads: x + r x_row + c goes to y + c y_column + r,
// for every place of the other axes.
struct Transposition {
  const void* x;
  void* y;
  std::int64_t rows, columns, x_row, y_column;  // elements
  std::int64_t size[kMapDims], x_stride[kMapDims], y_stride[kMapDims];
  std::int64_t batches;
  std::int32_t ndim;
  bool x_aligned, y_aligned;  // every row begins at a multiple of 16 bytes
};
// False if the copy y = x is not one, or too narrow to gain.
bool plan_transposition(const View& y, const View& x, Transposition& t);
// The copy, if it is one.
bool transpose(const View& y, const View& x);

}  // namespace ts::cuda
