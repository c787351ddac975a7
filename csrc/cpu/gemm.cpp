// Matrix products: C[b] = act(A[b] B[b] + bias), any strides.
//
//   c[i, j] = act( sum over blocks of KC of ( sum over k in the block of a[i, k] b[k, j] ) + bias )
//
// M N K = rows of A and C, columns of B and C, depth. MR, NR = rows and columns of the register tile
// (microkernel.h).
//
// An element's bits depend on its own row of A, its own column of B and K, on nothing else: inside a block
// one chain of FMAs in ascending k that starts from 0, blocks added in ascending order, bias and activation
// last. The paths below differ in what they copy, never in that order; C is cut along M and N only, so
// threads do not change it.
//
// Cost: 2 M N K flops; packed operands are read once per piece of C that uses them, C once per block of K.
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class T>
constexpr std::int64_t kBlock =
    2048 / static_cast<std::int64_t>(sizeof(T));  // KC; blocks of one K differ by at most 1

// A matrix with strides, in elements.
template <class T>
struct Matrix {
  T* p;
  std::int64_t row, col;
  TS_INLINE Matrix at(std::int64_t i, std::int64_t j) const { return {p + i * row + j * col, row, col}; }
  TS_INLINE Matrix transposed() const { return {p, col, row}; }
};

// What happens to a finished sum. bias is null, or read along the rows of C (col 1) or across them (col 0).
template <class T>
struct Finish {
  Matrix<const T> bias;
  Activation activation;
  TS_INLINE Finish at(std::int64_t i, std::int64_t j) const {
    return {bias.p ? bias.at(i, j) : bias, activation};
  }
  TS_INLINE bool nothing() const { return !bias.p && activation == Activation::none; }
};

// One tile and one block of K: c = a b, or c += a b, then `finish` where it is given. c has unit column
// stride.
template <class T, int MR, int NV, bool Masked>
void tile(std::int64_t depth, const T* a, std::int64_t a_row, std::int64_t a_depth, const T* b,
          std::int64_t b_depth, T* c, std::int64_t c_row, std::int64_t columns, bool add,
          const Finish<T>* finish) {
  const Lanes<T> lanes(columns - (NV - 1) * Vec<T>::width);
  Tile<T, MR, NV> t;
  t.zero();
  t.template multiply<Masked>(depth, a, a_row, a_depth, b, b_depth, lanes);
  if (add) t.add(c, c_row, lanes);
  if (finish) {
    if (finish->bias.p) t.add_bias(finish->bias.p, finish->bias.row, finish->bias.col == 0, lanes);
    if (finish->activation == Activation::relu) t.relu();
  }
  t.store(c, c_row, lanes);
}

template <class T>
using TileFunction = void (*)(std::int64_t, const T*, std::int64_t, std::int64_t, const T*, std::int64_t, T*,
                              std::int64_t, std::int64_t, bool, const Finish<T>*);

// tiles<T>.of[MR - 1][NV - 1][Masked]; null where the registers do not suffice.
template <class T>
struct Tiles {
  TileFunction<T> of[kMaxRows][kMaxVectors][2];
};
template <class T, int MR, int NV, int Masked>
constexpr TileFunction<T> tile_function() {
  if constexpr (NV > tile_vectors(MR))
    return nullptr;
  else
    return tile < T, MR, NV, kMasksAreFree || Masked > ;
}
template <class T, int... I>
constexpr Tiles<T> make_tiles(std::integer_sequence<int, I...>) {
  return {{tile_function<T, I / (2 * kMaxVectors) + 1, I / 2 % kMaxVectors + 1, I % 2>()...}};
}
template <class T>
constexpr Tiles<T> kTiles = make_tiles<T>(std::make_integer_sequence<int, kMaxRows * kMaxVectors * 2>{});

// C (m x n) = finish(A B) on one thread; c.col == 1.
template <class T>
struct Product {
  std::int64_t m, n, k;
  Matrix<const T> a, b;
  Matrix<T> c;
  Finish<T> finish;
  bool pack_a, pack_b;
};

constexpr std::int64_t kRowsBlock = 18 * 14;  // MC

template <class T>
void multiply(const Product<T>& p) {
  constexpr std::int64_t W = Vec<T>::width;
  T* const a_packed = static_cast<T*>(scratch());
  const Panels rows(p.m, kMaxRows, 1);
  const Panels columns(p.n, tile_vectors(static_cast<int>(rows.width)) * W, W);
  const std::int64_t blocks = p.k > kBlock<T> ? (p.k + kBlock<T> - 1) / kBlock<T> : 1;
  const std::int64_t depth_most = (p.k + blocks - 1) / blocks;
  const std::int64_t shorter = depth_most * blocks - p.k;  // this many blocks at the end have one step less
  // Whole panels of A, as many as L2 holds.
  const std::int64_t panels_once = p.pack_a ? kRowsBlock / kMaxRows : rows.count;
  T* const b_packed =
      a_packed + (p.pack_a ? (packed_size<T>(panels_once * rows.width, depth_most) + 63) / 64 * 64 : 0);

  for (std::int64_t block = 0, k0 = 0; block < blocks; ++block) {
    const std::int64_t depth = depth_most - (block >= blocks - shorter);
    const bool last = block == blocks - 1;
    if (p.pack_b) pack<T>(b_packed, columns, depth, p.b.p + k0 * p.b.row, p.b.col, p.b.row);
    for (std::int64_t panel0 = 0; panel0 < rows.count; panel0 += panels_once) {
      const std::int64_t panel1 = panel0 + panels_once < rows.count ? panel0 + panels_once : rows.count;
      const std::int64_t row0 = rows.first(panel0);
      if (p.pack_a) {
        pack<T>(a_packed, rows.part(panel0, panel1), depth, p.a.p + row0 * p.a.row + k0 * p.a.col, p.a.row,
                p.a.col);
      }
      for (std::int64_t q = 0; q < columns.count; ++q) {
        const std::int64_t j = columns.first(q), n = columns.lanes(q);
        const int nv = static_cast<int>(columns.width_of(q) / W);
        const bool masked = !p.pack_b && n % W != 0;
        const T* b = p.pack_b ? b_packed + j * depth : p.b.p + k0 * p.b.row + j;
        const std::int64_t b_depth = p.pack_b ? nv * W : p.b.row;
        for (std::int64_t r = panel0; r < panel1; ++r) {
          const std::int64_t i = rows.first(r), h = rows.width_of(r);
          const T* a = p.pack_a ? a_packed + (i - row0) * depth : p.a.p + i * p.a.row + k0 * p.a.col;
          const Finish<T> finish = p.finish.at(i, j);
          kTiles<T>.of[h - 1][nv - 1][masked](depth, a, p.pack_a ? 1 : p.a.row, p.pack_a ? h : p.a.col, b,
                                              b_depth, p.c.p + i * p.c.row + j, p.c.row, n, block > 0,
                                              last ? &finish : nullptr);
        }
      }
    }
    k0 += depth;
  }
}

// c = finish(sums) where strides allow no vectors: C or its bias with no unit stride.
template <class T>
void finish_elements(std::int64_t m, std::int64_t n, Matrix<const T> sums, Finish<T> finish, Matrix<T> c) {
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      T x = *sums.at(i, j).p;
      if (finish.bias.p) x = x + *finish.bias.at(i, j).p;
      if (finish.activation == Activation::relu && x < T(0)) x = T(0);
      *c.at(i, j).p = x;
    }
}

// Packing costs a pass over the operand: worth it where tiles would read it often, or in an order that
// vectors, cache sets or the TLB do not like.
template <class T>
bool worth_packing_a(const Product<T>& p) {
  const std::int64_t row_bytes = p.a.row * static_cast<std::int64_t>(sizeof(T));
  if (p.m < 4 || p.n <= 64) return false;
  return p.m * p.k > 256 * 256 || (p.n > 128 && row_bytes % 1024 == 0);
}
template <class T>
bool worth_packing_b(const Product<T>& p) {
  if (p.b.col != 1) return true;
  return p.m > 4 * kMaxRows && p.k * p.n > 64 * 64;
}

// Where C is cut: `rows` x `columns` pieces of each matrix, or `together` matrices to a piece. By size alone.
struct Cut {
  std::int64_t rows, columns, together, matrices;
  TS_INLINE std::int64_t pieces() const { return rows * columns * ((matrices + together - 1) / together); }
};
inline Cut cut(std::int64_t matrices, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr double kSmall = 2e6, kLarge = 3e8;  // flops: 10 us and 1.5 ms at 200 GF/s
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k + 8);
  Cut c{1, 1, 1, matrices};
  if (flops < kSmall) {
    c.together = static_cast<std::int64_t>(kSmall / flops) + 1;
    return c;
  }
  std::int64_t pieces = static_cast<std::int64_t>(flops / kLarge) + 1;
  const std::int64_t least = matrices > 4 ? 1 : flops > 8 * kSmall ? 4 : flops > 2 * kSmall ? 2 : 1;
  if (pieces < least) pieces = least;
  // Halve the longer side, so that packed panels serve as many tiles as they can.
  while (c.rows * c.columns < pieces) {
    const std::int64_t h = m / c.rows, w = n / c.columns;
    if (h > w && h >= 2 * kMaxRows)
      c.rows *= 2;
    else if (w >= 64)
      c.columns *= 2;
    else if (h >= 16)
      c.rows *= 2;
    else
      break;
  }
  return c;
}

template <class T>
void gemm_floating(In a, In b, In bias, Out c, Activation activation) {
  std::int64_t matrices = c.shape[0], m = c.shape[1], n = c.shape[2];
  const std::int64_t k = a.shape[2];
  if (matrices == 0 || m == 0 || n == 0) return;
  Matrix<const T> ma{a.as<T>(), a.strides[1], a.strides[2]}, mb{b.as<T>(), b.strides[1], b.strides[2]};
  Matrix<T> mc{c.as<T>(), c.strides[1], c.strides[2]};
  Matrix<const T> mbias{bias.as<T>(), 0, 0};
  std::int64_t step_a = a.strides[0], step_b = b.strides[0], step_c = c.strides[0], step_bias = 0;
  if (bias) {
    mbias.col = bias.strides[bias.ndim - 1];
    if (bias.ndim == 3) step_bias = bias.strides[0], mbias.row = bias.strides[1];
  }
  // A batch that shares B is one product.
  if (matrices > 1 && step_b == 0 && step_a == m * ma.row && step_c == m * mc.row &&
      step_bias == m * mbias.row) {
    m *= matrices;
    matrices = 1;
  }
  // Vectors run along the rows of C. Where only its columns have unit stride: C' = B' A'.
  if ((mc.col != 1 && mc.row == 1 && m > 1) || (n == 1 && m > 1)) {
    const Matrix<const T> t = ma.transposed();
    ma = mb.transposed(), mb = t, mc = mc.transposed(), mbias = mbias.transposed();
    const std::int64_t s = step_a, length = m;
    step_a = step_b, step_b = s, m = n, n = length;
  }
  const bool elementwise = (mc.col != 1 && n > 1) || (mbias.p && mbias.col != 0 && mbias.col != 1 && n > 1);
  if (n == 1 && mbias.p) mbias.col = 1;

  const Cut parts = cut(matrices, m, n, k);
  const std::int64_t height = (m + parts.rows - 1) / parts.rows;
  const std::int64_t width = ((n + parts.columns - 1) / parts.columns + 31) / 32 * 32;
  parallel_for(parts.pieces(), [&](std::int64_t piece) {
    const std::int64_t i = piece % parts.rows * height;
    const std::int64_t j = piece / parts.rows % parts.columns * width;
    const std::int64_t first = piece / (parts.rows * parts.columns) * parts.together;
    const std::int64_t end = first + parts.together < matrices ? first + parts.together : matrices;
    Product<T> p{
        height < m - i ? height : m - i, width < n - j ? width : n - j, k, {}, {}, {}, {}, false, false};
    if (p.m <= 0 || p.n <= 0) return;
    p.a = ma.at(i, 0), p.b = mb.at(0, j);
    p.pack_a = worth_packing_a(p), p.pack_b = worth_packing_b(p);
    for (std::int64_t matrix = first; matrix < end; ++matrix) {
      p.a.p = ma.at(i, 0).p + matrix * step_a;
      p.b.p = mb.at(0, j).p + matrix * step_b;
      const Matrix<T> target{mc.at(i, j).p + matrix * step_c, mc.row, mc.col};
      const Finish<T> finish{
          mbias.p ? Matrix<const T>{mbias.at(i, j).p + matrix * step_bias, mbias.row, mbias.col} : mbias,
          activation};
      if (!elementwise) {
        p.c = target, p.finish = finish;
        multiply(p);
      } else {
        T* const sums = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
        p.c = {sums, p.n, 1};
        multiply(p);
        finish_elements<T>(p.m, p.n, {sums, p.n, 1}, finish, target);
      }
    }
  });
}

// Integers wrap around. One row of C at a time, a block of its columns at a time.
template <class T>
void gemm_integer(In a, In b, In bias, Out c, Activation activation) {
  using U = std::make_unsigned_t<T>;
  using Sum = std::conditional_t<(sizeof(T) < 4), std::uint32_t, U>;  // no promotion to a signed int
  const std::int64_t m = c.shape[1], n = c.shape[2], k = a.shape[2];
  constexpr std::int64_t kColumns = 256;
  const std::int64_t grain = 1 + 1000000 / (n * k + 16);
  parallel_ranges(c.shape[0] * m, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t matrix = row / m, i = row % m;
      const T* pa = a.as<T>() + matrix * a.strides[0] + i * a.strides[1];
      T* pc = c.as<T>() + matrix * c.strides[0] + i * c.strides[1];
      for (std::int64_t j0 = 0; j0 < n; j0 += kColumns) {
        const std::int64_t width = n - j0 < kColumns ? n - j0 : kColumns;
        Sum sum[kColumns] = {};
        for (std::int64_t l = 0; l < k; ++l) {
          const Sum x = static_cast<Sum>(pa[l * a.strides[2]]);
          const T* pb = b.as<T>() + matrix * b.strides[0] + l * b.strides[1] + j0 * b.strides[2];
          if (b.strides[2] == 1)
            for (std::int64_t j = 0; j < width; ++j) sum[j] += x * static_cast<Sum>(pb[j]);
          else
            for (std::int64_t j = 0; j < width; ++j) sum[j] += x * static_cast<Sum>(pb[j * b.strides[2]]);
        }
        for (std::int64_t j = 0; j < width; ++j) {
          Sum x = sum[j];
          if (bias && bias.ndim == 1) x += static_cast<Sum>(bias.as<T>()[(j0 + j) * bias.strides[0]]);
          if (bias && bias.ndim == 3)
            x += static_cast<Sum>(
                bias.as<T>()[matrix * bias.strides[0] + i * bias.strides[1] + (j0 + j) * bias.strides[2]]);
          const T y = static_cast<T>(x);
          pc[(j0 + j) * c.strides[2]] = activation == Activation::relu && y < T(0) ? T(0) : y;
        }
      }
    }
  });
}

}  // namespace

void gemm(In a, In b, In bias, Out c, Activation activation) {
  with_numeric(c.dtype, [&]<class T>(Type<T>) {
    if constexpr (std::is_floating_point_v<T>)
      gemm_floating<T>(a, b, bias, c, activation);
    else
      gemm_integer<T>(a, b, bias, c, activation);
  });
}

}  // namespace ts::cpu::TS_ISA
