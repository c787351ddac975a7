// Products of bfloat16 numbers summed in float32: C[b] = act(A[b] B[b] + bias), rounded once where C is
// bfloat16.
//
//   c[i, j] = act( sum over blocks of k of ( sum over k in the block of a[i, k] b[k, j] ) + bias[j] )
//
// M N K = rows of A and C, columns of B and C, depth. Operands are bfloat16, or float32 that is rounded while
// it is packed. docs/adr/0006-bfloat16-products.md has the order of the sums: by K and the engine alone.
//
// A piece packs the columns of B that L2 holds, then for each group of rows of A and each block of K the
// rows, which stay in L1 while the panels of B stream past it from L2. A tile of 32 x 32 sums leaves its
// registers through a buffer in L1; while a later tile is computed, the buffer is added to the blocks before
// it, finished and rounded.
//
// Cost: 2 M N K flops; packs B once per piece of rows, A once per group of columns.
#include "cpu/kernels.h"

#if defined(__AVX512F__)
// Chosen at run time (core/dispatch.cpp) and used by this file alone.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,amx-tile,amx-bf16")
#endif
#include "cpu/bf16_tile.h"
#include "cpu/parallel.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kDeepest = 2048;     // k whose columns of B are packed together
constexpr std::int64_t kPackedB = 5 << 18;  // bytes of packed B; what has AMX has 2 MiB of L2
constexpr std::int64_t kGroup = 128;        // rows of A packed together, where memory has its columns
constexpr std::int64_t kPackedA = kGroup * 512 * 2;
constexpr std::int64_t kTile = 32;     // rows and columns
constexpr int kTiles = 3;              // in L1: one being written, two on their way to C
constexpr std::int64_t kLengthy = 12;  // steps

TS_INLINE std::int64_t squares(std::int64_t k) { return (k + kSquare - 1) / kSquare; }

// How K is cut for an engine. A sum that goes to memory and back costs an AMX tile as much as three steps;
// 512 k of 32 rows leave little room in L1 for anything else.
TS_INLINE std::int64_t blocks_of(std::int64_t steps, bool amx) {
  const std::int64_t whole = amx ? 16 : 8, part = amx ? 14 : 8;
  return steps <= whole ? 1 : (steps + part - 1) / part;
}

// --- what becomes of a tile's sums -----------------------------------------------------------------

struct Finished {
  const float* tile = nullptr;  // 32 x 32
  std::int64_t rows = 0, columns = 0;
  const float* bias = nullptr;  // at the first column
  Activation activation = Activation::none;
  void* c = nullptr;
  std::int64_t c_row = 0;
};

// A field, loaded alone. Two that were stored one by one and are loaded as a vector do not come from the
// store buffer, but wait in line behind the tiles.
template <class T>
TS_INLINE T scalar(const T& field) {
  T x = field;
  asm volatile("" : "+r"(x));
  return x;
}

// What a tile does beside its products: nothing, or rows of an earlier one that go to a C of this kind.
enum class Beside { nothing, narrow, wide };

// Rows [begin, end), as far as they exist.
template <Beside beside>
TS_INLINE void finish_rows(const Finished& f, std::int64_t begin, std::int64_t end) {
  if constexpr (beside == Beside::nothing) return;
  const std::int64_t rows = scalar(f.rows), c_row = scalar(f.c_row);
  const float *const tile = scalar(f.tile), *const bias = scalar(f.bias);
  void* const c = scalar(f.c);
  const bool relu = f.activation == Activation::relu;
  if (begin < 0) begin = 0;
  if (end > rows) end = rows;
  const unsigned lanes = _bzhi_u32(~0u, static_cast<unsigned>(scalar(f.columns)));
  const auto low = static_cast<__mmask16>(lanes), high = static_cast<__mmask16>(lanes >> 16);
  for (std::int64_t row = begin; row < end; ++row) {
    __m512 x = _mm512_loadu_ps(tile + row * kTile), y = _mm512_loadu_ps(tile + row * kTile + 16);
    if (bias) {
      x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(low, bias));
      y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(high, bias + 16));
    }
    if (relu) {  // NaN stays
      const __m512 zero = _mm512_setzero_ps();
      x = _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ), zero);
      y = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(y, zero, _CMP_LT_OQ), zero);
    }
    if constexpr (beside == Beside::narrow) {
      _mm512_mask_storeu_epi16(static_cast<std::uint16_t*>(c) + row * c_row, lanes,
                               reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y, x)));
    } else {
      float* const to = static_cast<float*>(c) + row * c_row;
      _mm512_mask_storeu_ps(to, low, x);
      _mm512_mask_storeu_ps(to + 16, high, y);
    }
  }
}

// --- the tiles: out = from + a b over `steps` squares (from null: 0) ----------------------------------

// What goes on beside a tile's steps.
struct Meanwhile {
  // Memory that will be packed soon: `touch` lines of it are fetched in each step.
  const char* p;
  std::int64_t left, lines;  // of this row; of a row
  std::int64_t jump;         // bytes from a row's end to the next row
  std::int64_t touch;
  // The earlier tile: so many of its rows in each step but the first `wait`.
  std::int64_t rows, wait;
};

template <Beside beside>
void tile_amx(std::int64_t steps, const std::uint16_t* a, const std::uint16_t* b, const float* from,
              float* out, const Finished& earlier, Meanwhile& meanwhile) {
  const char* p = scalar(meanwhile.p);
  std::int64_t left = scalar(meanwhile.left);
  const std::int64_t lines = scalar(meanwhile.lines), jump = scalar(meanwhile.jump),
                     touch = scalar(meanwhile.touch), rows = scalar(meanwhile.rows);
  asm volatile("" ::: "memory");
  if (from)
    load_tile<true>(from);
  else
    zero_tile<true>();
  std::int64_t row = -scalar(meanwhile.wait) * rows;
  // B passes by L1; loads and `finish` fit beside the products.
  const auto step = [&]() TS_LAMBDA {
    multiply_step<true, true, true>(a, kSquare, b);
    a += kArea, b += kArea;
    for (std::int64_t n = touch; n > 0; --n) {
      __builtin_prefetch(p, 0, 2);
      p += 64;
      if (--left == 0) left = lines, p += jump;
    }
    finish_rows<beside>(earlier, row, row + rows);
    row += rows;
  };
  // Unrolled: the end of a loop of 8 is foretold, that of a long one is not, and costs a thousand cycles.
  for (; steps >= 4; steps -= 4) {
    step();
    step();
    step();
    step();
  }
  for (; steps > 0; --steps) {
    step();
  }
  store_tile<true>(out);
  finish_rows<beside>(earlier, row, kTile);
  meanwhile.p = p, meanwhile.left = left;
}

template <Beside beside>
void tile_avx512(std::int64_t steps, const std::uint16_t* a, const std::uint16_t* b, const float* from,
                 float* out, const Finished& earlier, Meanwhile&) {
  finish_rows<beside>(earlier, 0, kTile);
  constexpr int R = 8;  // 16 chains
  for (std::int64_t i = 0; i < kTile; i += R) {
    __m512 sum[R][2];
    unroll<R>([&]<int r>() TS_LAMBDA {
      sum[r][0] = from ? _mm512_loadu_ps(from + (i + r) * kTile) : _mm512_setzero_ps();
      sum[r][1] = from ? _mm512_loadu_ps(from + (i + r) * kTile + 16) : _mm512_setzero_ps();
    });
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::uint16_t *pa = a + (step * kSquare + i) * kSquare, *pb = b + step * kArea;
      for (std::int64_t k = 0; k < kSquare; k += 2, pa += 2, pb += kSquare) {
        const auto b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(pb));
        const auto b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(pb + kArea / 2));
        unroll<R>([&]<int r>() TS_LAMBDA {
          std::int32_t pair;
          std::memcpy(&pair, pa + r * kSquare, 4);
          const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
          sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, b0);
          sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, b1);
        });
      }
    }
    unroll<R>([&]<int r>() TS_LAMBDA {
      _mm512_storeu_ps(out + (i + r) * kTile, sum[r][0]);
      _mm512_storeu_ps(out + (i + r) * kTile + 16, sum[r][1]);
    });
  }
}

using TileFunction = void (*)(std::int64_t, const std::uint16_t*, const std::uint16_t*, const float*, float*,
                              const Finished&, Meanwhile&);
constexpr TileFunction kTileTable[2][3] = {
    {tile_avx512<Beside::nothing>, tile_avx512<Beside::narrow>, tile_avx512<Beside::wide>},
    {tile_amx<Beside::nothing>, tile_amx<Beside::narrow>, tile_amx<Beside::wide>}};

// --- one piece of C on one thread ---------------------------------------------------------------------

// A matrix of bfloat16, or of float32 (`wide`), with strides in elements.
struct Operand {
  const char* p;
  std::int64_t row, col;
  bool wide;
  TS_INLINE std::int64_t item() const { return wide ? 4 : 2; }
  TS_INLINE Operand at(std::int64_t i, std::int64_t j) const {
    return {p + (i * row + j * col) * item(), row, col, wide};
  }
  // Packed: `lanes` of them, `lane_stride` apart.
  template <bool Pairs>
  TS_INLINE void pack(std::uint16_t* dst, std::int64_t lane_stride, std::int64_t k_stride, std::int64_t lanes,
                      std::int64_t depth) const {
    if (wide)
      pack_squares<Pairs>(dst, reinterpret_cast<const float*>(p), lane_stride, k_stride, lanes, depth);
    else
      pack_squares<Pairs>(dst, reinterpret_cast<const Bits16*>(p), lane_stride, k_stride, lanes, depth);
  }
};

// Columns of n whose panels of a K (or of its first kDeepest) fit: about the same in each group.
TS_INLINE std::int64_t columns_at_once(std::int64_t n, std::int64_t k, bool amx) {
  const std::int64_t depth = least(squares(k) * kSquare, kDeepest);
  if (depth == 0) return std::int64_t{1} << 20;
  const std::int64_t fit = (amx ? kPackedB : 1 << 20) / 2 / depth / kTile * kTile,
                     groups = (n + fit - 1) / fit;
  return ((n + groups - 1) / groups + kTile - 1) / kTile * kTile;
}

// `rows` rows of A and `depth` k, that tiles of `steps` steps altogether are to fetch.
TS_INLINE Meanwhile fetch(const Operand& a, std::int64_t rows, std::int64_t depth, std::int64_t steps) {
  const bool along = a.col == 1;
  const std::int64_t lines = ((along ? depth : rows) * a.item() + 63) / 64, down = along ? rows : depth;
  const std::int64_t touch = steps ? (lines * down + steps - 1) / steps : 0;
  return {a.p, lines, lines, (along ? a.row : a.col) * a.item() - 64 * lines, least(touch, 4), kTile, 0};
}

struct Product {
  std::int64_t m, n, k;
  Operand a, b;
  const float* bias;  // contiguous, or null
  char* c;
  std::int64_t c_row;
  bool narrow;
  Activation activation;
  Bf16Engine engine;

  void run() const {
    const bool amx = engine == Bf16Engine::amx;
    if (amx) {
      const TileConfig config;
      _tile_loadconfig(&config);
    }
    char* const memory = static_cast<char*>(scratch());
    float* const tiles = reinterpret_cast<float*>(memory);
    auto* const rows = reinterpret_cast<std::uint16_t*>(memory + (64 << 10));
    auto* const panels = reinterpret_cast<std::uint16_t*>(memory + (64 << 10) + kPackedA);
    float* const sums = reinterpret_cast<float*>(memory + (64 << 10) + kPackedA + kPackedB);

    const std::int64_t columns_once = columns_at_once(n, k, amx);
    const Beside kind = narrow ? Beside::narrow : Beside::wide;
    const std::int64_t item = narrow ? 2 : 4, area = kTile * kTile;
    // Of columns in memory each line is 32 rows, and several lines in a row are had at once.
    const std::int64_t group = a.col == 1 ? kTile : kGroup;
    // Sums on their way to C. They are not in memory before a while has passed: a tile is finished beside the
    // next but one, or beside the later steps of the next where these are many, which leaves more of L1.
    const std::int64_t longest = least(squares(k), kDeepest / kSquare);
    const bool lengthy = amx && longest >= kLengthy * blocks_of(longest, amx);
    const int ring = lengthy ? kTiles - 1 : kTiles;
    Finished finished[kTiles];
    std::int64_t born[kTiles] = {}, now = 0;
    int newest = 0, waiting = 0;
    for (std::int64_t j0 = 0; j0 < n; j0 += columns_once) {
      const std::int64_t width = least(columns_once, n - j0), count = (width + kTile - 1) / kTile;
      std::int64_t k0 = 0;
      do {  // also for K = 0
        const std::int64_t depth = least(k - k0, kDeepest), all = squares(depth),
                           blocks = blocks_of(all, amx);
        const std::int64_t each = (all + blocks - 1) / blocks;
        b.at(k0, j0).pack<true>(panels, b.col, b.row, width, depth);
        for (std::int64_t i0 = 0; i0 < m; i0 += group) {
          const std::int64_t tall = least(group, m - i0);
          std::int64_t at = 0;  // steps
          do {
            const std::int64_t steps = least(each, all - at), here = k0 + at * kSquare;
            const bool first = here == 0, end = at + steps == all, last = end && k0 + depth == k;
            a.at(i0, here).pack<false>(rows, a.row, a.col, tall, least(steps * kSquare, k - here));
            const std::int64_t ahead = steps * count * ((tall + kTile - 1) / kTile);
            Meanwhile meanwhile = !end ? fetch(a.at(i0, here + steps * kSquare), tall, steps * kSquare, ahead)
                                  : i0 + group < m ? fetch(a.at(i0 + group, k0), least(group, m - i0 - group),
                                                           each * kSquare, ahead)
                                                   : fetch(a, 0, 0, 0);
            if (steps > 0) {
              meanwhile.wait = lengthy && steps >= kLengthy ? 4 : 0;
              meanwhile.rows = (kTile + steps - meanwhile.wait - 1) / (steps - meanwhile.wait);
            }
            for (std::int64_t i = i0; i < i0 + tall; i += kTile) {
              const std::uint16_t* const panel = rows + (i - i0) / kTile * steps * kArea;
              // The sums so far: of all rows where B is packed in parts, else of the rows in hand.
              float* const so_far = sums + (k > kDeepest ? i : i - i0) / kTile * count * area;
              for (std::int64_t q = 0; q < count; ++q, ++now) {
                const std::int64_t j = j0 + q * kTile;
                float* const sum = so_far + q * area;
                const int oldest = (newest + ring - waiting + 1) % ring;
                const bool due = waiting > 0 && now - born[oldest] >= ring - 1;
                const int mine = (newest + 1) % ring;
                float* const out = last ? tiles + mine * area : sum;
                kTileTable[amx][due ? static_cast<int>(kind) : 0](
                    steps, panel, panels + (q * all + at) * kArea, first ? nullptr : sum, out,
                    finished[oldest], meanwhile);
                waiting -= due;
                if (!last) continue;
                Finished& f = finished[mine];
                f.tile = out;
                f.rows = least(kTile, m - i), f.columns = least(kTile, n - j);
                f.bias = bias ? bias + j : nullptr, f.activation = activation;
                f.c = c + (i * c_row + j) * item, f.c_row = c_row;
                born[mine] = now, newest = mine, ++waiting;
              }
            }
            at += steps;
          } while (at < all);
        }
        k0 += kDeepest;
      } while (k0 < k);
    }
    for (; waiting > 0; --waiting) {
      const Finished& f = finished[(newest + ring - waiting + 1) % ring];
      narrow ? finish_rows<Beside::narrow>(f, 0, kTile) : finish_rows<Beside::wide>(f, 0, kTile);
    }
    if (amx) _tile_release();
  }
};

// --- how C is cut ----------------------------------------------------------------------------------------

// rows x columns pieces of each matrix, or `together` matrices to a piece. What a piece packs is lost to the
// others, and bits do not depend on the cut: so they are as many as the threads, but none longer than 1 ms.
struct Cut {
  std::int64_t rows, columns, together;
};
inline Cut cut(std::int64_t matrices, std::int64_t m, std::int64_t n, std::int64_t k, bool amx) {
  constexpr double kShort = 12e3, kLong = 1e6;  // ns
  const double dm = static_cast<double>(m), dn = static_cast<double>(n), dk = static_cast<double>(k);
  const double time = dm * dn * dk / 1000 + (dm * dk + dk * dn + dm * dn) / 10;  // 2 Tflop/s, 20 GB/s
  if (time < kShort) return {1, 1, static_cast<std::int64_t>(kShort / (time + 50)) + 1};
  std::int64_t pieces = static_cast<std::int64_t>(time / kLong) + 1;
  const std::int64_t wanted =
      matrices >= 8 ? 1 : least(num_threads(), static_cast<std::int64_t>(time / kShort) + 1);
  if (pieces < wanted) pieces = wanted;
  // Of all ways to cut, the one that packs least: A for each group of columns, B for each row of pieces.
  Cut best{1, 1, 1};
  double least_packed = 1e300;
  for (std::int64_t rows = 1; rows <= pieces; ++rows) {
    const std::int64_t columns = (pieces + rows - 1) / rows;
    if ((rows > 1 && rows * kTile > m) || (columns > 1 && columns * kTile > n)) continue;
    const std::int64_t once = columns_at_once(n / columns, k, amx),
                       groups = columns * ((n / columns + once - 1) / once);
    const double packed = static_cast<double>(groups) * dm * dk + static_cast<double>(rows) * dk * dn;
    if (packed < least_packed) least_packed = packed, best = {rows, columns, 1};
  }
  constexpr std::int64_t kTallest = 8192;  // rows whose sums the scratch holds
  if (best.rows * kTallest < m) best.rows = (m + kTallest - 1) / kTallest;
  return best;
}

}  // namespace

void gemm_bf16(In a, In b, In bias, Out c, Activation activation, Bf16Engine engine) {
  std::int64_t matrices = c.shape[0], m = c.shape[1];
  const std::int64_t n = c.shape[2], k = a.shape[2];
  if (matrices == 0 || m == 0 || n == 0) return;
  const auto operand = [](const In& x) {
    return Operand{static_cast<const char*>(x.data), x.strides[1], x.strides[2], x.dtype == DType::float32};
  };
  Product whole{m,
                n,
                k,
                operand(a),
                operand(b),
                static_cast<const float*>(bias.data),
                static_cast<char*>(c.data),
                c.strides[1],
                c.dtype == DType::bfloat16,
                activation,
                engine};
  const std::int64_t item = itemsize(c.dtype);
  // A batch that shares B is one product.
  if (matrices > 1 && b.strides[0] == 0 && a.strides[0] == m * a.strides[1] &&
      c.strides[0] == m * c.strides[1]) {
    m = whole.m = m * matrices;
    matrices = 1;
  }
  const Cut parts = cut(matrices, m, n, k, engine == Bf16Engine::amx);
  const Panels down(m, (m + parts.rows * kTile - 1) / (parts.rows * kTile) * kTile, kTile);
  const Panels across(n, (n + parts.columns * kTile - 1) / (parts.columns * kTile) * kTile, kTile);
  const std::int64_t cuts = down.count * across.count;
  parallel_for((matrices + parts.together - 1) / parts.together * cuts, [&](std::int64_t index) {
    const std::int64_t first = index / cuts * parts.together, end = least(first + parts.together, matrices);
    const std::int64_t q = index % cuts / down.count, r = index % down.count;
    for (std::int64_t matrix = first; matrix < end; ++matrix) {
      Product p = whole;
      const std::int64_t i = down.first(r), j = across.first(q);
      p.m = down.lanes(r), p.n = across.lanes(q);
      p.a = whole.a.at(i, 0), p.b = whole.b.at(0, j);
      p.a.p += matrix * a.strides[0] * p.a.item(), p.b.p += matrix * b.strides[0] * p.b.item();
      if (p.bias) p.bias += j;
      p.c += (matrix * c.strides[0] + i * p.c_row + j) * item;
      p.run();
    }
  });
}

}  // namespace ts::cpu::TS_ISA

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace ts::cpu::TS_ISA {

// csrc/ops multiplies in float32 where no engine for bfloat16 is to be had, which is so on this level.
void gemm_bf16(In, In, In, Out, Activation, Bf16Engine) { __builtin_trap(); }

}  // namespace ts::cpu::TS_ISA
#endif
