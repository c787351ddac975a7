// The iteration engine of the pointwise kernels: y[i] = f(x[i], ...) over any shape and strides.
//
// Axes are sorted by the output's strides and joined where all operands allow. What is contiguous then goes
// by 16-byte accesses; anything else by a division per axis, neighbouring threads on neighbouring outputs. A
// scalar of the host travels in the launch. One read of each operand, one write.
#pragma once

#include "core/view.h"
#include "cuda/divider.h"
#include "cuda/simd.h"

namespace ts::cuda {

constexpr int kMapDims = 8;  // axes that a launch takes; more are looped over on the host
constexpr int kMapThreads = 256;
constexpr int kMaxInputs = 3;

enum class Path : std::int32_t { vector, flat, strided };

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
  Path path;
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

// Where item j of this thread lies: its first element, and every operand's offset.
struct Item {
  std::int64_t index;
  bool inside;
};

template <class T, int kItems>
TS_INLINE void load_items(const Places& p, int k, const Item* items, const std::int64_t* offsets, Vec<T>* x) {
  if (p.constant[k]) {
    T value;
    memcpy(&value, &p.value[k], sizeof(T));
    for (int j = 0; j < kItems; ++j) x[j] = Vec<T>(value);
  } else if (p.path == Path::vector && p.stride[k][0] != 0 && items[kItems - 1].inside) {
    const auto pack = *reinterpret_cast<const Pack<Lane<T>, kItems>*>(p.at<const T>(k) + items[0].index);
#pragma unroll
    for (int j = 0; j < kItems; ++j) x[j] = Vec<T>(pack.value[j]);
  } else {
#pragma unroll
    for (int j = 0; j < kItems; ++j) {
      const std::int64_t at = p.path == Path::strided ? offsets[j] : items[j].index * p.stride[k][0];
      x[j] = items[j].inside ? Vec<T>::load(p.at<const T>(k) + at) : Vec<T>(Lane<T>{});
    }
  }
}

// y = F(a), F(a, b) or F(a, b, c); R is y's element type, absent inputs are None.
template <class F, class R, class A, class B, class C, int kItems>
__global__ void __launch_bounds__(kMapThreads) map_kernel(const Places p) {
  constexpr bool two = !std::is_same_v<B, None>, three = !std::is_same_v<C, None>;
  constexpr int kInputs = 1 + two + three;
  const std::int64_t first = std::int64_t{blockIdx.x} * (kMapThreads * kItems);
  Item items[kItems];
  std::int64_t offsets[1 + kInputs][kItems];
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    items[j].index = first + (p.path == Path::vector ? static_cast<int>(threadIdx.x) * kItems + j
                                                     : j * kMapThreads + static_cast<int>(threadIdx.x));
    items[j].inside = items[j].index < p.count;
    if (p.path == Path::strided) {
#pragma unroll
      for (int k = 0; k <= kInputs; ++k) offsets[k][j] = 0;
      std::uint32_t rest = static_cast<std::uint32_t>(items[j].index);
      for (int d = 0; d < p.ndim; ++d) {
        const std::uint32_t q = p.size[d].quotient(rest), r = rest - q * p.size[d].divisor;
#pragma unroll
        for (int k = 0; k <= kInputs; ++k) offsets[k][j] += p.stride[k][d] * r;
        rest = q;
      }
    }
  }
  Vec<A> a[kItems];
  load_items<A, kItems>(p, 1, items, offsets[1], a);
  [[maybe_unused]] Vec<std::conditional_t<two, B, A>> b[kItems];
  [[maybe_unused]] Vec<std::conditional_t<three, C, A>> c[kItems];
  if constexpr (two) load_items<B, kItems>(p, 2, items, offsets[2], b);
  if constexpr (three) load_items<C, kItems>(p, 3, items, offsets[3], c);
  Pack<Lane<R>, kItems> y;
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    R* const out = reinterpret_cast<R*>(&y.value[j]);
    if constexpr (three)
      put(F::apply(a[j], b[j], c[j]), out);
    else if constexpr (two)
      put(F::apply(a[j], b[j]), out);
    else
      put(F::apply(a[j]), out);
  }
  if (p.path == Path::vector && items[kItems - 1].inside) {
    *reinterpret_cast<Pack<Lane<R>, kItems>*>(p.at<R>(0) + items[0].index) = y;
    return;
  }
#pragma unroll
  for (int j = 0; j < kItems; ++j)
    if (items[j].inside)
      p.at<Lane<R>>(0)[p.path == Path::strided ? offsets[0][j] : items[j].index] = y.value[j];
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
        launch(&map_kernel<F, R, A, B, C, kItems>, dim3(blocks_of(ceil_div(p.count, kMapThreads * kItems))),
               dim3(kMapThreads), 0, p);
      },
      kItems, y, in, static_cast<int>(sizeof...(x)));
}

}  // namespace ts::cuda
