// Random numbers: y[i] is a function of the state and of i, and of nothing else (math/philox.h); see
// cpu/random.cpp for which words a value takes. A thread a block of four words. y is contiguous and written
// once.
#include "cuda/random.h"

#include <cmath>

#include "cuda/kernels.h"
#include "cuda/types.h"
#include "math/box_muller.h"

namespace ts::cuda {
namespace {

__global__ void advance_kernel(std::uint64_t* state, std::uint64_t blocks) { state[1] += blocks; }

// make(words, out): the values of one block.
template <class T, int kValues, class Make>
__global__ void fill_kernel(const Generator generator, T* y, std::int64_t n, const Make make) {
  const std::int64_t block = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, first = block * kValues;
  if (first >= n) return;
  std::uint32_t w[4];
  generator.words(block, w);
  T out[kValues];
  make(w, out);
  for (int j = 0; j < kValues; ++j)
    if (first + j < n) y[first + j] = out[j];
}
template <class T, int kValues, class Make>
void fill(const View& state, const View& y, const Make& make) {
  const std::int64_t n = y.size(), blocks = ceil_div(n, kValues);
  if (n == 0) return;
  launch(&fill_kernel<T, kValues, Make>, dim3(blocks_of(ceil_div(blocks, 256))), dim3(256), 0,
         Generator{static_cast<const std::uint64_t*>(state.data)}, static_cast<T*>(y.data), n, make);
  advance(state, blocks);
}

TS_INLINE std::uint64_t pair(std::uint32_t low, std::uint32_t high) {
  return std::uint64_t{low} | std::uint64_t{high} << 32;
}

struct Bits {
  TS_INLINE void operator()(const std::uint32_t (&w)[4], std::uint32_t* out) const {
    for (int j = 0; j < 4; ++j) out[j] = w[j];
  }
};
template <class T>
struct Uniform {
  T base, scale, last;
  TS_INLINE void operator()(const std::uint32_t (&w)[4], T* out) const {
    const auto put = [&](Vec<T> u) { return min(fma(u, Vec<T>(scale), Vec<T>(base)), Vec<T>(last)).r; };
    if constexpr (sizeof(T) == 4) {
      for (int j = 0; j < 4; ++j) out[j] = put(to_float_24(Vec<std::uint32_t>(w[j])));
    } else {
      for (int j = 0; j < 2; ++j)
        out[j] = put(to_double_53(Vec<std::uint64_t>(pair(w[2 * j], w[2 * j + 1]))));
    }
  }
};
template <class T>
struct Normal {
  T shift, scale;
  TS_INLINE void operator()(const std::uint32_t (&w)[4], T* out) const {
    const auto put = [&](Vec<T> z) { return fma(z, Vec<T>(scale), Vec<T>(shift)).r; };
    Vec<T> z0, z1;
    if constexpr (sizeof(T) == 4) {
      for (int j = 0; j < 4; j += 2) {
        BoxMuller<T>::pair(Vec<std::uint32_t>(w[j]), Vec<std::uint32_t>(w[j + 1]), z0, z1);
        out[j] = put(z0), out[j + 1] = put(z1);
      }
    } else {
      BoxMuller<T>::pair(Vec<std::uint64_t>(pair(w[0], w[1])), Vec<std::uint64_t>(pair(w[2], w[3])), z0, z1);
      out[0] = put(z0), out[1] = put(z1);
    }
  }
};
template <class T>
struct Exponential {
  T half;  // of the scale
  TS_INLINE void operator()(const std::uint32_t (&w)[4], T* out) const {
    using Word = typename BoxMuller<T>::Word;
    const auto put = [&](Word word) {
      return (BoxMuller<T>::minus_two_log(BoxMuller<T>::open(Vec<Word>(word))) * Vec<T>(half)).r;
    };
    if constexpr (sizeof(T) == 4) {
      for (int j = 0; j < 4; ++j) out[j] = put(w[j]);
    } else {
      for (int j = 0; j < 2; ++j) out[j] = put(pair(w[2 * j], w[2 * j + 1]));
    }
  }
};
struct Bernoulli {
  std::uint64_t threshold;
  TS_INLINE void operator()(const std::uint32_t (&w)[4], std::uint8_t* out) const {
    for (int j = 0; j < 4; ++j) out[j] = w[j] < threshold;
  }
};
// high word · range + (low word · range >> 32), >> 32: two values a block.
struct Integers {
  std::uint64_t range, base;
  TS_INLINE void operator()(const std::uint32_t (&w)[4], std::uint64_t* out) const {
    for (int j = 0; j < 2; ++j) out[j] = ((w[2 * j + 1] * range + (w[2 * j] * range >> 32)) >> 32) + base;
  }
};
// The same with 128 bits of word and 64 of range: one value a block.
struct LongIntegers {
  std::uint64_t range, base;
  TS_INLINE void operator()(const std::uint32_t (&w)[4], std::uint64_t* out) const {
    const std::uint64_t low = pair(w[0], w[1]), high = pair(w[2], w[3]);
    const std::uint64_t carry = __umul64hi(low, range), product = high * range;
    out[0] = __umul64hi(high, range) + (product + carry < product) + base;
  }
};

// Fisher and Yates from the inside out, as on the CPU; one thread, because each step needs the last one's
// result.
__global__ void permutation_kernel(const Generator generator, std::int64_t* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += 2) {
    std::uint32_t w[4];
    generator.words(i / 2, w);
    for (std::int64_t k = i; k < i + 2 && k < n; ++k) {
      const std::uint64_t word = pair(w[2 * (k - i)], w[2 * (k - i) + 1]);
      const std::int64_t j = static_cast<std::int64_t>(__umul64hi(word, static_cast<std::uint64_t>(k + 1)));
      y[k] = y[j];
      y[j] = k;
    }
  }
}

}  // namespace

void advance(const View& state, std::int64_t blocks) {
  launch(&advance_kernel, dim3(1), dim3(1), 0, static_cast<std::uint64_t*>(state.data),
         static_cast<std::uint64_t>(blocks));
}

void random_bits(Out state, Out y) { fill<std::uint32_t, 4>(state, y, Bits{}); }

void random_uniform(Out state, Out y, double low, double high) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    const T lo = static_cast<T>(low), hi = static_cast<T>(high);
    fill<T, 16 / sizeof(T)>(
        state, y,
        Uniform<T>{lo, static_cast<T>((high - low) * (sizeof(T) == 4 ? 0x1p-24 : 0x1p-53)),
                   lo < hi ? std::nextafter(hi, lo) : lo});
  });
}

void random_normal(Out state, Out y, double mean, double std) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    fill<T, 16 / sizeof(T)>(state, y, Normal<T>{static_cast<T>(mean), static_cast<T>(std)});
  });
}

void random_exponential(Out state, Out y, double scale) {
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    fill<T, 16 / sizeof(T)>(state, y, Exponential<T>{static_cast<T>(scale / 2)});
  });
}

void random_bernoulli(Out state, Out y, double p) {
  fill<std::uint8_t, 4>(state, y, Bernoulli{static_cast<std::uint64_t>(p * 0x1p32 + 0.5)});
}

void random_integers(Out state, Out y, std::int64_t low, std::int64_t high) {
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  const std::uint64_t base = static_cast<std::uint64_t>(low);
  if (range >> 32 == 0)
    fill<std::uint64_t, 2>(state, y, Integers{range, base});
  else
    fill<std::uint64_t, 1>(state, y, LongIntegers{range, base});
}

void random_permutation(Out state, Out y) {
  const std::int64_t n = y.size();
  if (n == 0) return;
  launch(&permutation_kernel, dim3(1), dim3(1), 0, Generator{state.as<std::uint64_t>()}, y.as<std::int64_t>(),
         n);
  advance(state, (n + 1) / 2);
}

}  // namespace ts::cuda
