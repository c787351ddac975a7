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
#include "core/caches.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/product.h"

namespace ts::cpu::TS_ISA {
namespace {

// Packing costs a pass over the operand: worth it where tiles would read it often, or in an order that
// vectors, cache sets or the TLB do not like.
template <class T>
bool worth_packing_a(Matrix<const T> a, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t size = sizeof(T);
  if (m < 4 || n <= 64 || m * k * size <= kLittleA || kMaxRows * k * size > kPackedA) return false;
  return a.col != 1;
}
// A' for few columns of C, read in place, some steps of k at a time: packing it costs a fifth there.
template <class T>
bool worth_steps(Matrix<const T> a, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t size = sizeof(T);
  return a.row == 1 && a.col != 1 && m > kFewRows && n >= 32 && n <= 128 && k > kSteps && k <= kBlock<T> &&
         m * k * size > kLittleA && (n <= 64 || a.col * size <= kNearRows);
}
template <class T>
bool worth_packing_b(Matrix<const T> b, std::int64_t m, std::int64_t n, std::int64_t k) {
  if (b.col != 1 && n > 1) return true;
  const bool little = k * n * static_cast<std::int64_t>(sizeof(T)) <= kLittleB;
  return m > (little ? 4 * kRowsInPlace : 2 * kMaxRows) && k * n > 64 * 64;
}

// Where large pieces, and packing all of their B at once, were measured to gain (L2 of 2 MiB, not of 1).
inline bool wide_l2() { return l2_bytes() >= 2 << 20; }

// Where C is cut: `rows` x `columns` pieces of each matrix, or `together` matrices to a piece. By size, and a
// small one not for a thread alone; no bit depends on it.
// `keep`: along the rows alone, and a thread packs B once for all of its pieces.
struct Cut {
  std::int64_t rows, columns, together, matrices;
  bool keep = false;
  TS_INLINE std::int64_t pieces() const { return rows * columns * ((matrices + together - 1) / together); }
};
inline Cut cut(std::int64_t matrices, std::int64_t m, std::int64_t n, std::int64_t k, bool b_has_rows,
               bool may_keep) {
  // flops: 5 us, 10 us, 5 ms, 11 or 3 ms at 200 GF/s
  constexpr double kTiny = 1e6, kSmall = 2e6, kHalves = 1e9;
  const double kLarge = wide_l2() ? 2.2e9 : 6e8;
  constexpr std::int64_t kAreaMost = std::int64_t{1} << 20;  // elements of C in a piece
  const double dm = static_cast<double>(m), dn = static_cast<double>(n), dk = static_cast<double>(k);
  const double flops =
      2 * dm * dn * dk + 16 * (dm * dk + dk * dn + dm * dn);  // an element read: as long as 16 flops
  Cut c{1, 1, 1, matrices};
  if (flops < (m <= kFewRows ? kSmall : kTiny)) {
    c.together = static_cast<std::int64_t>(kSmall / flops) + 1;
    return c;
  }
  std::int64_t pieces = static_cast<std::int64_t>(flops / kLarge) + 1;
  const std::int64_t least = matrices > 4 || (matrices > 1 && flops < kSmall) ? 1
                             : m <= kFewRows                                  ? 2
                             : flops > 64 * kSmall                            ? 8
                             : flops > 8 * kSmall                             ? 4
                             : num_threads() == 1                             ? 1  // B is packed once
                                                                              : 2;
  if (pieces < least) pieces = least;
  while (m * n / pieces > kAreaMost) pieces *= 2;
  const std::int64_t few = b_has_rows ? 64 : 128;  // rows that do not repay packing B on every thread
  if (may_keep && matrices == 1 && m >= 2 * n && m >= few) {
    c.keep = true;
    c.rows = pieces < m / 32 ? pieces : m / 32;
    return c;
  }
  // Columns first: every column of B is then packed by one piece alone. But the halves of a tall C, and of a
  // C whose operands the cores' own caches nearly hold: each core then reads, and packs, its half of A.
  const bool halves = m >= few && (m >= 2 * n || (2 * m >= n && flops < kHalves));
  const std::int64_t wanted = halves ? (pieces + 1) / 2 : pieces;
  std::int64_t most_columns = n >= 256 ? n / 64 : n >= 64 ? n / 32 : 1;
  // A is read once for each piece of columns: beyond 8, they are wide ones.
  if (wide_l2() && most_columns > 8) most_columns = n / 192 > 8 ? n / 192 : 8;
  c.columns = most_columns < wanted ? most_columns : wanted;
  c.rows = (pieces + c.columns - 1) / c.columns;
  const std::int64_t least_rows = c.columns == 1 ? 16 : halves ? 32 : 64;
  const std::int64_t most_rows = (m + least_rows - 1) / least_rows;
  if (c.rows > most_rows) c.rows = most_rows;
  return c;
}

// One matrix product or a batch of them, vectors along the rows of C.
template <class T>
struct Problem {
  std::int64_t matrices, m, n, k;
  Matrix<const T> a, b, bias;
  Matrix<T> c;
  std::int64_t step_a, step_b, step_c, step_bias;  // from matrix to matrix
  Activation activation;
  bool elementwise;  // C or the bias is finished element by element
  const Epilogue* epilogue = nullptr;
  bool prefetch = false, beyond_l2 = false, large_b = false, onto = false;  // as in Product
  bool steps = false;                                                       // of kSteps
  const T* addend = nullptr;                                                // lies as C does

  // C' = B' A'.
  TS_INLINE void transpose() {
    const Matrix<const T> t = a.transposed();
    a = b.transposed(), b = t, c = c.transposed(), bias = bias.transposed();
    const std::int64_t s = step_a, length = m;
    step_a = step_b, step_b = s, m = n, n = length;
  }

  // C's rows [i, i + height) and columns [j, j + width) of one matrix; `a_packed` as in Product.
  void piece(std::int64_t matrix, std::int64_t i, std::int64_t height, std::int64_t j, std::int64_t width,
             const T* a_packed, int a_height, std::uint64_t key) const {
    Product<T> p{height,   width,    k,     a.at(i, 0), b.at(0, j), c.at(i, j), {bias, activation},
                 a_packed, a_height, false, prefetch,   beyond_l2,  large_b};
    if (key) p.key = key, p.more = m - i - height;
    p.a.p += matrix * step_a, p.b.p += matrix * step_b, p.c.p += matrix * step_c;
    if (bias.p) p.finish.bias.p = bias.at(i, j).p + matrix * step_bias;
    p.pack_b = worth_packing_b(p.b, height, width, k);
    p.onto = onto;
    if (steps) p.steps = kSteps;
    if (addend) p.finish.addend = {addend + matrix * step_c + i * c.row + j, c.row, 1};
    p.epilogue = epilogue, p.row = matrix * m + i, p.column = j;
    const bool forgotten = epilogue && epilogue->forgotten;
    if (!elementwise && !forgotten) return few_rows(p) ? multiply_few(p) : multiply(p);
    T* const sums = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 2;
    const Finish<T> finish = p.finish;
    const Matrix<T> target = p.c;
    p.c = {sums, width, 1};
    if (elementwise) p.finish = {{}, Activation::none};
    few_rows(p) ? multiply_few(p) : multiply(p);
    if (elementwise) finish_elements<T>(height, width, {sums, width, 1}, finish, target);
  }

  void run() {
    constexpr std::int64_t size = sizeof(T);
    const std::int64_t bytes = (m + n) * k * size;
    prefetch = bytes > kFetched, beyond_l2 = bytes > kBeyondL2;
    large_b = n * k * size >= kLargeB && wide_l2();
    steps = !addend && worth_steps(a, m, n, k);  // sums must not lie where the addend may
    const Blocks blocks(k, kBlock<T>);
    if (blocks.count == 1 || matrices > 1 || elementwise || m * n * size > kLittleC ||
        (epilogue && epilogue->forgotten))
      return run_once();
    // A long K over a little C: all pieces take one block of K, then the next, so that A and B are read in
    // the order of memory.
    for (std::int64_t i = 0; i < blocks.count; ++i) {
      Problem part = *this;
      part.k = blocks.depth(i), part.onto = i > 0;
      part.a = a.at(0, blocks.first(i)), part.b = b.at(blocks.first(i), 0);
      if (i + 1 < blocks.count)
        part.bias.p = nullptr, part.activation = Activation::none, part.epilogue = nullptr,
        part.addend = nullptr;
      part.run_once();
    }
  }

  void run_once() const {
    constexpr std::int64_t size = sizeof(T);
    const bool may_keep = !steps && k <= kBlock<T> && k * n * size <= kKeptB && worth_packing_b(b, m, n, k);
    const Cut parts = cut(matrices, m, n, k, b.col == 1, may_keep);
    // Matrices that share B pack it once a thread as well.
    const bool shares = may_keep && matrices > 1 && step_b == 0 && parts.columns == 1;
    const std::uint64_t key = parts.keep || shares ? new_scratch_keys(kWidths) : 0;
    const Panels across(n, (n + parts.columns * 32 - 1) / (parts.columns * 32) * 32, 32);
    if (steps || !worth_packing_a(a, m, n, k)) {
      const Panels down(m, (m + parts.rows - 1) / parts.rows, 1);
      const std::int64_t cuts = down.count * across.count;
      parallel_for((matrices + parts.together - 1) / parts.together * cuts, [&](std::int64_t index) {
        const std::int64_t first = index / cuts * parts.together;
        const std::int64_t end = first + parts.together < matrices ? first + parts.together : matrices;
        const std::int64_t r = index % cuts / across.count, q = index % cuts % across.count;
        for (std::int64_t matrix = first; matrix < end; ++matrix)
          piece(matrix, down.first(r), down.width_of(r), across.first(q), across.lanes(q), nullptr, 0, key);
      });
      return;
    }
    // A is packed once, for all pieces, some MiB of it at a time.
    const int height =
        m * k * size >= kPackedLow && !narrow_panels<T>(across.width) ? kRowsInPlace : kMaxRows;
    T* const packed = static_cast<T*>(scratch()) + kScratchBytes / sizeof(T) / 4;
    const Blocks blocks(k, kBlock<T>);
    std::int64_t most = kPackedA / sizeof(T) / k / kMaxRows * kMaxRows;
    if (most < kMaxRows) most = kMaxRows;
    const Panels chunks(m, most, 1);
    for (std::int64_t matrix = 0; matrix < matrices; ++matrix)
      for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk) {
        const std::int64_t row0 = chunks.first(chunk), rows = chunks.width_of(chunk);
        Matrix<const T> here = a.at(row0, 0);
        here.p += matrix * step_a;
        const Panels down(rows, (rows + parts.rows - 1) / parts.rows, 1);
        const std::int64_t strips = (blocks.deepest + kStrip - 1) / kStrip;
        const std::int64_t groups = (Panels(down.width, height, 1).count + kGroup - 1) / kGroup;
        const std::int64_t each = blocks.count * strips * groups;
        parallel_for(down.count * each, [&](std::int64_t index) {
          const std::int64_t r = index / each;
          index %= each;
          pack_a<T>(packed + down.first(r) * k, here.at(down.first(r), 0), height, down.width_of(r), k,
                    index / groups / strips, index / groups % strips, index % groups);
        });
        parallel_for(down.count * across.count, [&](std::int64_t index) {
          const std::int64_t r = index / across.count, q = index % across.count;
          piece(matrix, row0 + down.first(r), down.width_of(r), across.first(q), across.lanes(q),
                packed + down.first(r) * k, height, key);
        });
      }
  }
};

template <class T>
void gemm_floating(In a, In b, In bias, Out c, Activation activation) {
  Problem<T> p;
  p.matrices = c.shape[0], p.m = c.shape[1], p.n = c.shape[2], p.k = a.shape[2];
  if (p.matrices == 0 || p.m == 0 || p.n == 0) return;
  p.a = {a.as<T>(), a.strides[1], a.strides[2]}, p.b = {b.as<T>(), b.strides[1], b.strides[2]};
  p.c = {c.as<T>(), c.strides[1], c.strides[2]}, p.bias = {bias.as<T>(), 0, 0};
  p.step_a = a.strides[0], p.step_b = b.strides[0], p.step_c = c.strides[0], p.step_bias = 0;
  p.activation = activation;
  if (bias) {
    p.bias.col = bias.strides[bias.ndim - 1];
    if (bias.ndim == 3) p.step_bias = bias.strides[0], p.bias.row = bias.strides[1];
  }
  // A batch that shares B is one product.
  if (p.matrices > 1 && p.step_b == 0 && p.step_a == p.m * p.a.row && p.step_c == p.m * p.c.row &&
      p.step_bias == p.m * p.bias.row) {
    p.m *= p.matrices;
    p.matrices = 1;
  }
  // Vectors run along the rows of C; where only its columns have unit stride, along those. Also where its
  // rows would not fill one vector, and those of A' can be read instead: C is then written by elements.
  const bool narrow = p.n < Vec<T>::width && p.m >= 4 * Vec<T>::width && p.a.row == 1 && p.a.col != 1;
  const bool turned = (p.c.col != 1 && p.c.row == 1 && p.m > 1) || (p.n == 1 && p.m > 1) || narrow;
  if (turned) p.transpose();
  p.elementwise = (p.c.col != 1 && p.n > 1) || (p.bias.p && p.bias.col != 0 && p.bias.col != 1 && p.n > 1);
  if (p.n == 1) p.bias.col = 1;
  if (!turned && !p.elementwise) p.epilogue = take_epilogue();
  if (p.epilogue && p.epilogue->addend)
    p.addend = static_cast<const T*>(p.epilogue->addend), p.epilogue = nullptr;
  p.run();
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
  with_wide(c.dtype, [&]<class T>(Type<T>) {
    if constexpr (std::is_floating_point_v<T>)
      gemm_floating<T>(a, b, bias, c, activation);
    else
      gemm_integer<T>(a, b, bias, c, activation);
  });
}

}  // namespace ts::cpu::TS_ISA
