// Plane rotations of the rows of a matrix, put off and carried out together.
//
// The steps of an eigenvalue iteration need nothing but the diagonals; the vectors only follow. So rotations
// are collected, and then each strip of columns takes all of them in turn while it lies in cache, a strip a
// piece.
//
// Cost: 6 flops an element of both rows, which are read from and written to the second-level cache.
#pragma once

#include "cpu/linalg.h"

namespace ts::cpu::TS_ISA {

template <class T>
class Rotations {
 public:
  static constexpr std::int64_t kMost = 16384;
  struct One {
    std::int64_t row;
    T c, s;
  };
  static constexpr std::int64_t kBytes = kMost * static_cast<std::int64_t>(sizeof(One));

  // z: n x n, or null: then there is nothing to follow. memory: kBytes.
  Rotations(T* z, std::int64_t n, void* memory) : z_(z), n_(n), all_(static_cast<One*>(memory)) {}

  // Rows `row` and `row` + 1: (x, y) <- (c x + s y, c y - s x)
  TS_INLINE void add(std::int64_t row, double c, double s) {
    if (!z_) return;
    if (count_ == kMost) flush();
    all_[count_++] = {row, static_cast<T>(c), static_cast<T>(s)};
  }

  void flush() {
    constexpr int W = Vec<T>::width, NV = 8;
    constexpr std::int64_t strip = NV * W;
    if (count_ == 0) return;
    parallel_for((n_ + strip - 1) / strip, [&](std::int64_t piece) {
      // A copy of the strip, whose rows begin at lines of cache and are whole registers.
      T* const copy = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
      T* const z = z_ + piece * strip;
      const std::int64_t columns = n_ - piece * strip < strip ? n_ - piece * strip : strip;
      for (std::int64_t i = 0; i < n_; ++i)
        for (std::int64_t j = 0; j < columns; j += W)
          load_tail(z + i * n_ + j, columns - j).store(copy + i * strip + j);
      for (std::int64_t i = 0; i < count_; ++i) {
        const Vec<T> c(all_[i].c), s(all_[i].s);
        T *const x = copy + all_[i].row * strip, *const y = x + strip;
        unroll<NV>([&]<int v>() TS_LAMBDA {
          const Vec<T> a = Vec<T>::load(x + v * W), b = Vec<T>::load(y + v * W);
          fma(c, a, s * b).store(x + v * W);
          fma(c, b, -(s * a)).store(y + v * W);
        });
      }
      for (std::int64_t i = 0; i < n_; ++i)
        for (std::int64_t j = 0; j < columns; j += W)
          store_tail(z + i * n_ + j, Vec<T>::load(copy + i * strip + j), columns - j);
    });
    count_ = 0;
  }

 private:
  T* const z_;
  const std::int64_t n_;
  One* const all_;
  std::int64_t count_ = 0;
};

}  // namespace ts::cpu::TS_ISA
