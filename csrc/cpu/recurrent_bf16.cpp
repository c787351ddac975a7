// A recurrent layer whose products are of bfloat16 numbers: recurrent.cpp with h, the weights and, backward,
// the gates' gradients rounded where they are multiplied. Sums, gates and states are float32.
//
// T steps, N rows (sequences), H units, G gates of a cell.
// The weights are packed once for all steps: into squares of bf16.h, which stay in L2 (512 KiB for the four
// gates of 256 units), or for the engine float32 into panels of float32. A piece takes some rows through all
// steps. A cell writes its h (its gates' gradients) rounded, in the squares that the next product reads; the
// sums of 32 units and all their gates leave the tiles through a buffer in L1, where the cell's formulas meet
// them.
//
// Bits: a row's result depends on itself, the weights and the engine alone. A recurrent sum has the order of
// docs/adr/0006-bfloat16-products.md over H; backward over the gates in turn, each filled up to a multiple
// of 32.
//
// Cost: 2 T N G H^2 flops; reads the weights once a step and 128 rows, gates and y once.
#include <cstring>
#include <utility>

#include "cpu/kernels.h"

#if defined(__AVX512F__)
// Chosen at run time (core/dispatch.cpp) and used by this file alone.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512bf16,amx-tile,amx-bf16")
#endif
#include "cpu/bf16_tile.h"
#endif
#include "cpu/half.h"
#include "cpu/recurrent.h"

namespace ts::cpu::TS_ISA {
namespace {

// The products of a step for the rows of a piece: `inputs` vectors of H numbers a row with `outputs` of H
// sums. Forward reads h and has the gates' sums (1, G), backward reads their gradients and has dh (G, 1).
struct Extents {
  std::int64_t H, inputs, outputs;
  bool forward;
};

// --- the engine float32 ------------------------------------------------------------------------------

// Numbers that are bfloat16 ones, in panels of float32.
class InFloat32 {
 public:
  using Element = float;
  static constexpr std::int64_t row_panel = 1 << 20;  // rows whose sums are computed together

  static Panels columns(const Extents& e, std::int64_t rows) {
    return block_columns<float>(rows, e.outputs * e.H);
  }
  static void pack_all(const Extents& e, void* packed, In weight, std::int64_t rows) {
    pack_weights<float>(static_cast<float*>(packed), columns(e, rows), e.inputs * e.H, weight.as<float>(),
                        weight.strides[e.forward ? 0 : 1], weight.strides[e.forward ? 1 : 0]);
  }

  InFloat32(const Extents& extents, std::int64_t n, const void* packed, std::int64_t tallest)
      : e(extents), rows(n), panels(columns(extents, tallest)), weights(static_cast<const float*>(packed)) {
    now = static_cast<float*>(scratch());
    next = now + rows * depth();
    sums = next + rows * depth();
  }

  std::int64_t unit() const { return e.H; }  // units whose sums are computed together
  float* row(std::int64_t i) const { return next + i * depth(); }
  TS_INLINE void put(float* row, int input, std::int64_t j, Vec<float> v, std::int64_t n) const {
    const Vec<std::uint32_t> bits = rounded_to_bfloat16(v) & Vec<std::uint32_t>(0xffff0000u);
    store_tail(row + input * e.H + j, bit_cast<float>(bits), n);
  }
  void clear(std::int64_t i) const {
    std::memset(row(i), 0, static_cast<std::size_t>(depth()) * sizeof(float));
  }
  void keep(std::int64_t i, std::int64_t, std::int64_t) const {
    std::memcpy(row(i), now + i * depth(), static_cast<std::size_t>(depth()) * sizeof(float));
  }
  void turn() { std::swap(now, next); }
  void multiply(std::int64_t, std::int64_t) const {
    multiply_block<float>(rows, panels, depth(), now, depth(), 1, weights, 0, depth(), sums, e.outputs * e.H,
                          Start::zero);
  }
  const float* sum(std::int64_t i) const { return sums + i * e.outputs * e.H; }
  std::int64_t sum_gate() const { return e.H; }  // how far the sums of the next gate are

 private:
  std::int64_t depth() const { return e.inputs * e.H; }

  Extents e;
  std::int64_t rows;
  Panels panels;
  const float* weights;
  float *now, *next, *sums;
};

// --- tiles --------------------------------------------------------------------------------------------

#if defined(__AVX512F__)

constexpr std::int64_t kTile = kSquare;

template <Bf16Engine engine>
class InTiles {
 public:
  using Element = std::uint16_t;
  static constexpr std::int64_t row_panel = kTile;

  static std::int64_t steps_of(std::int64_t h) { return (h + kSquare - 1) / kSquare; }

  // For each output and 32 of its columns: the squares of each input in turn.
  static void pack_all(const Extents& e, void* packed, In weight, std::int64_t) {
    const std::int64_t steps = steps_of(e.H), gates = e.inputs * e.outputs;
    const std::int64_t lane = weight.strides[e.forward ? 0 : 1], k = weight.strides[e.forward ? 1 : 0];
    auto* const dst = static_cast<std::uint16_t*>(packed);
    parallel_ranges(gates * steps, 1 + 64 / steps, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t index = begin; index < end; ++index) {
        const std::int64_t gate = index / steps, panel = index % steps, first = panel * kTile;
        const std::int64_t input = e.forward ? 0 : gate, output = e.forward ? gate : 0;
        const std::int64_t from = gate * e.H * weight.strides[0] + first * lane;
        const std::int64_t lanes = e.H - first < kTile ? e.H - first : kTile;
        std::uint16_t* const to = dst + ((output * steps + panel) * e.inputs + input) * steps * kArea;
        if (weight.dtype == DType::float32)
          pack_squares<true>(to, weight.as<float>() + from, lane, k, lanes, e.H);
        else
          pack_squares<true>(to, weight.as<Bits16>() + from, lane, k, lanes, e.H);
      }
    });
  }

  InTiles(const Extents& extents, std::int64_t n, const void* packed, std::int64_t)
      : e(extents),
        rows(n),
        steps(steps_of(extents.H)),
        weights(static_cast<const std::uint16_t*>(packed)),
        tiles(engine, n) {
    sums = static_cast<float*>(scratch());
    now = reinterpret_cast<std::uint16_t*>(sums + e.outputs * kArea);
    const std::int64_t size = (rows + kTile - 1) / kTile * panel_size();
    next = now + size;
    std::memset(now, 0, static_cast<std::size_t>(2 * size) * 2);  // what is beyond H and the rows
  }

  std::int64_t unit() const { return kTile; }
  std::uint16_t* row(std::int64_t i) const { return next + i / kTile * panel_size() + i % kTile * kSquare; }
  TS_INLINE void put(std::uint16_t* row, int input, std::int64_t j, Vec<float> v, std::int64_t n) const {
    std::uint16_t* const to = row + (input * steps + j / kSquare) * kArea + j % kSquare;
    const auto h = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v.r));
    if (n >= 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), h);
    else
      _mm256_mask_storeu_epi16(to, static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(n))), h);
  }
  void clear(std::int64_t i) const {
    for (std::int64_t s = 0; s < e.inputs * steps; ++s)
      _mm512_storeu_si512(row(i) + s * kArea, _mm512_setzero_si512());
  }
  // Of h, what is there already.
  void keep(std::int64_t i, std::int64_t begin, std::int64_t) const {
    std::uint16_t* const to = row(i) + begin / kSquare * kArea;
    _mm512_storeu_si512(to, _mm512_loadu_si512(now + (to - next)));
  }
  void turn() { std::swap(now, next); }
  // All outputs of the units from `first` on, for the rows of a panel.
  void multiply(std::int64_t first, std::int64_t panel) const {
    const std::int64_t height = rows - panel * kTile, width = e.H - first;
    for (std::int64_t output = 0; output < e.outputs; ++output) {
      const std::uint16_t* const b = weights + (output * steps + first / kTile) * e.inputs * steps * kArea;
      const std::uint16_t* const a = now + panel * panel_size();
      float* const out = sums + output * kArea;
      if constexpr (engine != Bf16Engine::amx)
        multiply_tile(engine, height, width, e.inputs * steps, {a, kSquare, kArea}, b, true, out);
      else if (width > 16)
        height > 16 ? tile<true, true>(a, b, out) : tile<true, false>(a, b, out);
      else
        height > 16 ? tile<false, true>(a, b, out) : tile<false, false>(a, b, out);
    }
  }
  const float* sum(std::int64_t i) const { return sums + i * kTile; }
  std::int64_t sum_gate() const { return kArea; }

 private:
  std::int64_t panel_size() const { return e.inputs * steps * kArea; }
  template <bool Wide, bool Tall>
  void tile(const std::uint16_t* a, const std::uint16_t* b, float* out) const {
    zero_tile<Wide, Tall>();
    const auto step = [&]() TS_LAMBDA {
      multiply_step<Wide, Tall, true>(a, kSquare, b);
      a += kArea, b += kArea;
    };
    std::int64_t left = e.inputs * steps;
    for (; left >= 4; left -= 4) step(), step(), step(), step();
    for (; left > 0; --left) step();
    store_tile<Wide, Tall>(out);
  }

  Extents e;
  std::int64_t rows, steps;
  const std::uint16_t* weights;
  float* sums;  // of a panel of rows, 32 units and every output
  std::uint16_t *now, *next;
  TilesInUse tiles;
};

#endif

// --- the rows of a step ---------------------------------------------------------------------------------

template <class M>
struct RoundedRow {
  using Element = float;
  std::int64_t H, first, last;  // units [first, last)
  float* gates;
  const float *sums, *bias;  // sums: of unit `first`
  std::int64_t sum_gate;
  float *extra, *y, *h, *c;
  const M& m;
  typename M::Element* rounded;
  std::int64_t begin() const { return first; }
  std::int64_t end() const { return last; }
  TS_INLINE Vec<float> input(int g, std::int64_t j, std::int64_t n) const {
    return load_tail(gates + g * H + j, n);
  }
  TS_INLINE Vec<float> hidden(int g, std::int64_t j, std::int64_t n) const {
    const Vec<float> a = load_tail(sums + g * sum_gate + (j - first), n);
    return bias ? a + load_tail(bias + g * H + j, n) : a;
  }
  TS_INLINE Vec<float> sum(int g, std::int64_t j, std::int64_t n) const {
    return input(g, j, n) + hidden(g, j, n);
  }
  TS_INLINE void put_gate(int g, std::int64_t j, Vec<float> v, std::int64_t n) const {
    store_tail(gates + g * H + j, v, n);
  }
  TS_INLINE void put_state(std::int64_t j, Vec<float> v, std::int64_t n) const {
    store_tail(h + j, v, n), store_tail(y + j, v, n), m.put(rounded, 0, j, v, n);
  }
};

TS_INLINE void put_some(BFloat16* p, Vec<float> v, std::int64_t n) {
  if (n >= Vec<float>::width)
    put(p, v, All{});
  else
    put(p, v, First{n});
}

template <class M>
struct RoundedBackwardRow {
  using Element = float;
  std::int64_t H;
  const float *dy, *gates, *extra, *y, *h_before, *c_before;
  BFloat16 *dgates, *dhidden;
  float *dh, *dc;
  const M& m;
  typename M::Element* rounded;
  std::int64_t begin() const { return 0; }
  std::int64_t end() const { return H; }
  TS_INLINE void put(int g, std::int64_t j, Vec<float> v, std::int64_t n) const {
    put_some(dgates + g * H + j, v, n), m.put(rounded, g, j, v, n);
  }
  TS_INLINE void put(int g, std::int64_t j, Vec<float> v, Vec<float> hidden, std::int64_t n) const {
    put_some(dgates + g * H + j, v, n), put_some(dhidden + g * H + j, hidden, n);
    m.put(rounded, g, j, hidden, n);
  }
};

void zero(float* p, std::int64_t n) { std::memset(p, 0, static_cast<std::size_t>(n) * sizeof(float)); }
void zero(BFloat16* p, std::int64_t n) { std::memset(p, 0, static_cast<std::size_t>(n) * 2); }

// --- steps [step0, step1) of a piece ----------------------------------------------------------------------

template <class M, class C>
void forward(const Sequence& q, In bias, Out gates, Out y, Out extra, Out hn, Out cn, const void* packed,
             std::int64_t piece, std::int64_t step0, std::int64_t step1) {
  const std::int64_t n0 = q.pieces.first(piece), rows = q.pieces.width_of(piece), H = q.H, GH = q.GH;
  M m({H, 1, C::gates, true}, rows, packed, q.pieces.width);
  const auto round_rows = [&]() {
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < H; j += Vec<float>::width)
        m.put(m.row(i), 0, j, load_tail(hn.as<float>() + (n0 + i) * H + j, H - j), H - j);
    m.turn();
  };
  // What a row some rows later reads and writes: two lines of many places, which no prefetcher follows.
  const auto ask = [&](std::int64_t here, std::int64_t first, std::int64_t i) TS_LAMBDA {
    constexpr std::int64_t ahead = 4;
    if (rows - i <= ahead) here -= rows, first += m.unit();
    if (m.unit() >= H || first >= H) return;
    const std::int64_t there = here + ahead;
    const auto lines = [&](const float* p) TS_LAMBDA {
      __builtin_prefetch(p, 0, 2);
      __builtin_prefetch(p + 16, 0, 2);
    };
    for (int g = 0; g < C::gates; ++g) lines(gates.as<float>() + there * GH + g * H + first);
    lines(y.as<float>() + there * H + first);
    if (C::has_extra) lines(extra.as<float>() + there * H + first);
  };
  round_rows();
  for (std::int64_t step = step0; step < step1; ++step) {
    const std::int64_t t = q.time(step), at = t * q.N + n0;
    for (std::int64_t first = 0; first < H; first += m.unit()) {
      const std::int64_t last = first + m.unit() < H ? first + m.unit() : H;
      for (std::int64_t i0 = 0; i0 < rows; i0 += M::row_panel) {
        m.multiply(first, i0 / M::row_panel);
        const std::int64_t i1 = i0 + M::row_panel < rows ? i0 + M::row_panel : rows;
        for (std::int64_t i = i0; i < i1; ++i) {
          const std::int64_t here = at + i;
          ask(here, first, i);
          RoundedRow<M> row{H,
                            first,
                            last,
                            gates.as<float>() + here * GH,
                            m.sum(i - i0),
                            bias.as<float>(),
                            m.sum_gate(),
                            nullptr,
                            y.as<float>() + here * H,
                            hn.as<float>() + (n0 + i) * H,
                            nullptr,
                            m,
                            m.row(i)};
          if (C::has_extra) row.extra = extra.as<float>() + here * H;
          if (C::has_cell) row.c = cn.as<float>() + (n0 + i) * H;
          if (t < q.length(n0 + i)) {
            C::forward(row);
            continue;
          }
          for (int g = 0; g < C::gates; ++g) zero(row.gates + g * H + first, last - first);
          zero(row.y + first, last - first);
          if (C::has_extra) zero(row.extra + first, last - first);
          m.keep(i, first, last);
        }
      }
    }
    m.turn();
  }
}

template <class M, class C>
void backward(const Sequence& q, In dy, In gates, In extra, In y, In h0, In c0, Out dgates, Out dhidden,
              Out before, Out dh0, Out dc0, const void* packed, std::int64_t piece, std::int64_t step0,
              std::int64_t step1) {
  const std::int64_t n0 = q.pieces.first(piece), rows = q.pieces.width_of(piece), H = q.H, GH = q.GH;
  M m({H, C::gates, 1, false}, rows, packed, q.pieces.width);
  for (std::int64_t step = step1; step-- > step0;) {
    const std::int64_t t = q.time(step), at = t * q.N + n0;
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t here = at + i, n = n0 + i;
      BFloat16* const dg = dgates.as<BFloat16>() + here * GH;
      BFloat16* const dq = C::has_hidden ? dhidden.as<BFloat16>() + here * GH : nullptr;
      BFloat16* const started = before.as<BFloat16>() + here * H;
      if (t >= q.length(n)) {
        zero(dg, GH), zero(started, H);
        if (dq) zero(dq, GH);
        m.clear(i);
        continue;
      }
      const bool first = q.first(t, n);
      const std::int64_t last = (q.before(t) * q.N + n) * H;
      const float* const h_before = first ? h0.as<float>() + n * H : y.as<float>() + last;
      for (std::int64_t j = 0; j < H; j += Vec<float>::width)
        put_some(started + j, load_tail(h_before + j, H - j), H - j);
      RoundedBackwardRow<M> row{H,
                                dy ? dy.as<float>() + here * H : nullptr,
                                gates.as<float>() + here * GH,
                                nullptr,
                                y.as<float>() + here * H,
                                h_before,
                                nullptr,
                                dg,
                                dq,
                                dh0.as<float>() + n * H,
                                nullptr,
                                m,
                                m.row(i)};
      if (C::has_extra) row.extra = extra.as<float>() + here * H;
      if (C::has_cell) {
        row.c_before = first ? c0.as<float>() + n * H : extra.as<float>() + last;
        row.dc = dc0.as<float>() + n * H;
      }
      C::backward(row);
    }
    m.turn();
    for (std::int64_t first = 0; first < H; first += m.unit()) {
      const std::int64_t width = first + m.unit() < H ? m.unit() : H - first;
      for (std::int64_t i0 = 0; i0 < rows; i0 += M::row_panel) {
        m.multiply(first, i0 / M::row_panel);
        const std::int64_t i1 = i0 + M::row_panel < rows ? i0 + M::row_panel : rows;
        for (std::int64_t i = i0; i < i1; ++i) {
          float* const dh = dh0.as<float>() + (n0 + i) * H + first;
          const float* const sum = m.sum(i - i0);
          for (std::int64_t j = 0; j < width; j += Vec<float>::width) {
            const std::int64_t n = width - j;
            store_tail(dh + j, load_tail(dh + j, n) + load_tail(sum + j, n), n);
          }
        }
      }
    }
  }
}

template <class F>
void with_engine(Bf16Engine engine, F&& f) {
  switch (engine) {
#if defined(__AVX512F__)
    case Bf16Engine::amx:
      return f.template operator()<InTiles<Bf16Engine::amx>>();
    case Bf16Engine::avx512_bf16:
      return f.template operator()<InTiles<Bf16Engine::avx512_bf16>>();
#endif
    default:
      return f.template operator()<InFloat32>();
  }
}

// Rows of a piece. Bits do not depend on the cut: so as many as the threads, at most 128 of them, and few
// enough for the scratch memory.
Panels pieces_of(const Sequence& q) {
  const std::int64_t most = q.GH <= 16384 ? 128 : 32, threads = num_threads();
  if (q.N * q.H * q.GH < 100000) return Panels(q.N, most, 1);  // less than a microsecond a step
  const std::int64_t rounds = (q.N + most * threads - 1) / (most * threads), count = rounds * threads;
  return Panels(q.N, (q.N + count - 1) / count, 1);
}
// Steps that a piece takes at a time: some milliseconds.
std::int64_t stretch_of(const Sequence& q, Bf16Engine engine) {
  return q.stretch() * (engine == Bf16Engine::amx ? 8 : 1);
}

// Starts a state from what was given, or from zeros.
void start(Out state, In from) {
  if (!state) return;
  const std::size_t bytes = static_cast<std::size_t>(state.size()) * sizeof(float);
  if (from)
    std::memcpy(state.data, from.data, bytes);
  else
    std::memset(state.data, 0, bytes);
}

}  // namespace

void recurrent_bf16(In weight, In bias, In h0, In c0, In lengths, Out gates, Out y, Out extra, Out hn, Out cn,
                    Out packed, Recurrent options, Bf16Engine engine) {
  Sequence q(gates, weight.shape[1], lengths, options.reverse);
  start(hn, h0), start(cn, c0);
  if (q.N == 0 || q.H == 0 || q.T == 0) return;
  q.pieces = pieces_of(q);
  with_engine(engine, [&]<class M>() {
    M::pack_all({q.H, 1, q.GH / q.H, true}, packed.data, weight, q.pieces.width);
    with_cell(options.cell, [&]<class C>(C) {
      const std::int64_t stretch = stretch_of(q, engine);
      for (std::int64_t step = 0; step < q.T; step += stretch)
        parallel_for(q.pieces.count, [&](std::int64_t piece) {
          forward<M, C>(q, bias, gates, y, extra, hn, cn, packed.data, piece, step,
                        step + stretch < q.T ? step + stretch : q.T);
        });
    });
  });
}

void recurrent_bf16_backward(In dy, In dhn, In dcn, In gates, In extra, In y, In weight, In h0, In c0,
                             In lengths, Out dgates, Out dhidden, Out before, Out dh0, Out dc0, Out packed,
                             Recurrent options, Bf16Engine engine) {
  Sequence q(gates, weight.shape[1], lengths, options.reverse);
  start(dh0, dhn), start(dc0, dcn);
  if (q.N == 0 || q.H == 0 || q.T == 0) return;
  q.pieces = pieces_of(q);
  with_engine(engine, [&]<class M>() {
    M::pack_all({q.H, q.GH / q.H, 1, false}, packed.data, weight, q.pieces.width);
    with_cell(options.cell, [&]<class C>(C) {
      const std::int64_t stretch = stretch_of(q, engine);
      for (std::int64_t end = q.T; end > 0; end -= stretch)
        parallel_for(q.pieces.count, [&](std::int64_t piece) {
          backward<M, C>(q, dy, gates, extra, y, h0, c0, dgates, dhidden, before, dh0, dc0, packed.data,
                         piece, end > stretch ? end - stretch : 0, end);
        });
    });
  });
}

}  // namespace ts::cpu::TS_ISA

#if defined(__AVX512F__) && defined(__clang__)
#pragma clang attribute pop
#endif
