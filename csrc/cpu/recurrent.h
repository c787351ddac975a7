// What the two passes of a recurrent layer share: its extents, who computes which rows, and the cells.
//
// T steps, N rows (sequences), H units, G gates of a cell.
#pragma once

#include "cpu/block.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/types.h"
#include "math/vmath.h"

namespace ts::cpu::TS_ISA {

// The steps of a layer, and its rows cut among pieces: by N and the weights' size alone.
struct Sequence {
  std::int64_t T, N, H, GH;
  bool reverse;
  const std::int64_t* lengths;
  Panels pieces;

  Sequence(const View& gates, std::int64_t h, In length, bool backwards)
      : T(gates.shape[0]),
        N(gates.shape[1]),
        H(h),
        GH(gates.shape[2]),
        reverse(backwards),
        lengths(length.as<std::int64_t>()),
        pieces(N > 0 ? N : 1, rows(N, H * GH), 1) {}

  static std::int64_t rows(std::int64_t n, std::int64_t weights) {
    constexpr std::int64_t most = 2 * kMaxRows;
    if (n * weights < 100000) return n > 0 ? n : 1;  // less than a microsecond a step
    return n >= 8 && n <= most ? (n + 1) / 2 : most;
  }
  // Steps that a piece takes at a time: some milliseconds.
  std::int64_t stretch() const {
    const double flops = 2.0 * static_cast<double>(pieces.width) * static_cast<double>(H * GH) + 1e4;
    return flops > 5e8 ? 1 : static_cast<std::int64_t>(5e8 / flops);
  }
  TS_INLINE std::int64_t length(std::int64_t n) const { return lengths ? lengths[n] : T; }
  TS_INLINE std::int64_t time(std::int64_t step) const { return reverse ? T - 1 - step : step; }
  TS_INLINE bool first(std::int64_t t, std::int64_t n) const { return t == (reverse ? length(n) - 1 : 0); }
  TS_INLINE std::int64_t before(std::int64_t t) const { return reverse ? t + 1 : t - 1; }
};

// Panels of the weights, packed once for all steps and pieces.
template <class T>
void pack_weights(T* packed, const Panels& columns, std::int64_t depth, const T* w, std::int64_t lane,
                  std::int64_t step) {
  const std::int64_t grain = 1 + 65536 / (columns.width * depth + 1);
  parallel_ranges(columns.count, grain, [&](std::int64_t begin, std::int64_t end) {
    pack<T>(packed + columns.first(begin) * depth, columns.part(begin, end), depth,
            w + columns.first(begin) * lane, lane, step);
  });
}

// What a cell reads and writes for one row and step: units [begin, end), each array as the function of it
// says. g is a gate, n how many units there are from j on. Pointers are to H elements, gates to G H.
template <class T>
struct Row {
  using Element = T;
  std::int64_t H;
  T* gates;
  const T *recurrent, *bias;  // gru: the recurrent part, bias included; others: the bias, or null
  T *extra, *y, *h, *c;
  std::int64_t begin() const { return 0; }
  std::int64_t end() const { return H; }
  TS_INLINE Vec<T> input(int g, std::int64_t j, std::int64_t n) const {
    return load_tail(gates + g * H + j, n);
  }
  TS_INLINE Vec<T> hidden(int g, std::int64_t j, std::int64_t n) const {
    return load_tail(recurrent + g * H + j, n);
  }
  TS_INLINE Vec<T> sum(int g, std::int64_t j,
                       std::int64_t n) const {  // the product has been added to the gates
    const Vec<T> a = input(g, j, n);
    return bias ? a + load_tail(bias + g * H + j, n) : a;
  }
  TS_INLINE void put_gate(int g, std::int64_t j, Vec<T> v, std::int64_t n) const {
    store_tail(gates + g * H + j, v, n);
  }
  TS_INLINE void put_state(std::int64_t j, Vec<T> v, std::int64_t n) const {
    store_tail(h + j, v, n), store_tail(y + j, v, n);
  }
};
template <class T>
struct BackwardRow {
  using Element = T;
  std::int64_t H;
  const T *dy, *gates, *extra, *y, *h_before, *c_before;
  T *dgates, *dhidden, *dh, *dc;
  std::int64_t begin() const { return 0; }
  std::int64_t end() const { return H; }
  TS_INLINE void put(int g, std::int64_t j, Vec<T> v, std::int64_t n) const {
    store_tail(dgates + g * H + j, v, n);
  }
  // Where the recurrent part has gradients of its own.
  TS_INLINE void put(int g, std::int64_t j, Vec<T> v, Vec<T> hidden, std::int64_t n) const {
    store_tail(dgates + g * H + j, v, n), store_tail(dhidden + g * H + j, hidden, n);
  }
};

// h' = tanh(a) or relu(a)
template <bool Tanh>
struct Plain {
  static constexpr int gates = 1;
  static constexpr bool has_cell = false, has_hidden = false, has_extra = false;

  template <class R>
  static void forward(const R& r) {
    using T = typename R::Element;
    for (std::int64_t j = r.begin(); j < r.end(); j += Vec<T>::width) {
      const std::int64_t n = r.end() - j;
      const Vec<T> a = r.sum(0, j, n), zero(T(0));
      r.put_state(j, Tanh ? vmath::tanh(a) : select(a < zero, zero, a), n);
    }
  }
  template <class R>
  static void backward(const R& r) {
    using T = typename R::Element;
    for (std::int64_t j = r.begin(); j < r.end(); j += Vec<T>::width) {
      const std::int64_t n = r.end() - j;
      const Vec<T> y = load_tail(r.y + j, n), zero(T(0));
      Vec<T> dh = load_tail(r.dh + j, n);
      if (r.dy) dh = dh + load_tail(r.dy + j, n);
      r.put(0, j, Tanh ? dh * fma(-y, y, Vec<T>(T(1))) : select(y > zero, dh, zero), n);
      store_tail(r.dh + j, zero, n);
    }
  }
};

// c' = f c + i g, h' = o tanh(c'); gates i f g o (Hochreiter & Schmidhuber 1997, Gers et al. 2000)
struct Lstm {
  static constexpr int gates = 4;
  static constexpr bool has_cell = true, has_hidden = false, has_extra = true;

  template <class R>
  static void forward(const R& r) {
    using T = typename R::Element;
    for (std::int64_t j = r.begin(); j < r.end(); j += Vec<T>::width) {
      const std::int64_t n = r.end() - j;
      Vec<T> a[4];
      for (int g = 0; g < 4; ++g) {
        a[g] = r.sum(g, j, n);
        a[g] = g == 2 ? vmath::tanh(a[g]) : vmath::sigmoid(a[g]);
        r.put_gate(g, j, a[g], n);
      }
      const Vec<T> c = fma(a[1], load_tail(r.c + j, n), a[0] * a[2]), h = a[3] * vmath::tanh(c);
      store_tail(r.c + j, c, n), store_tail(r.extra + j, c, n);
      r.put_state(j, h, n);
    }
  }
  template <class R>
  static void backward(const R& r) {
    using T = typename R::Element;
    for (std::int64_t j = r.begin(); j < r.end(); j += Vec<T>::width) {
      const std::int64_t n = r.end() - j;
      const auto gate = [&](int g) { return load_tail(r.gates + g * r.H + j, n); };
      const Vec<T> i = gate(0), f = gate(1), g = gate(2), o = gate(3), one(T(1));
      const Vec<T> tc = vmath::tanh(load_tail(r.extra + j, n));
      Vec<T> dh = load_tail(r.dh + j, n);
      if (r.dy) dh = dh + load_tail(r.dy + j, n);
      const Vec<T> dc = fma(dh * o, fma(-tc, tc, one), load_tail(r.dc + j, n));
      r.put(0, j, dc * g * (i * (one - i)), n);
      r.put(1, j, dc * load_tail(r.c_before + j, n) * (f * (one - f)), n);
      r.put(2, j, dc * i * fma(-g, g, one), n);
      r.put(3, j, dh * tc * (o * (one - o)), n);
      store_tail(r.dc + j, dc * f, n);
      store_tail(r.dh + j, Vec<T>(T(0)), n);
    }
  }
};

// h' = (1 - z) n + z h, n = tanh(a_n + r q); gates r z n, q = W_n h + b_n (Cho et al. 2014)
struct Gru {
  static constexpr int gates = 3;
  static constexpr bool has_cell = false, has_hidden = true, has_extra = true;

  template <class R>
  static void forward(const R& r) {
    using T = typename R::Element;
    for (std::int64_t j = r.begin(); j < r.end(); j += Vec<T>::width) {
      const std::int64_t n = r.end() - j;
      const Vec<T> reset = vmath::sigmoid(r.input(0, j, n) + r.hidden(0, j, n));
      const Vec<T> z = vmath::sigmoid(r.input(1, j, n) + r.hidden(1, j, n)), q = r.hidden(2, j, n);
      const Vec<T> candidate = vmath::tanh(fma(reset, q, r.input(2, j, n)));
      const Vec<T> h = fma(z, load_tail(r.h + j, n) - candidate, candidate);
      r.put_gate(0, j, reset, n), r.put_gate(1, j, z, n), r.put_gate(2, j, candidate, n);
      store_tail(r.extra + j, q, n);
      r.put_state(j, h, n);
    }
  }
  template <class R>
  static void backward(const R& r) {
    using T = typename R::Element;
    for (std::int64_t j = r.begin(); j < r.end(); j += Vec<T>::width) {
      const std::int64_t n = r.end() - j;
      const auto gate = [&](int g) { return load_tail(r.gates + g * r.H + j, n); };
      const Vec<T> reset = gate(0), z = gate(1), candidate = gate(2), one(T(1));
      Vec<T> dh = load_tail(r.dh + j, n);
      if (r.dy) dh = dh + load_tail(r.dy + j, n);
      const Vec<T> dn = dh * (one - z) * fma(-candidate, candidate, one);
      const Vec<T> dr = dn * load_tail(r.extra + j, n) * (reset * (one - reset));
      const Vec<T> dz = dh * (load_tail(r.h_before + j, n) - candidate) * (z * (one - z));
      r.put(0, j, dr, dr, n), r.put(1, j, dz, dz, n), r.put(2, j, dn, dn * reset, n);
      store_tail(r.dh + j, dh * z, n);
    }
  }
};

template <class F>
void with_cell(Cell cell, F&& f) {
  switch (cell) {
    case Cell::tanh:
      return f(Plain<true>{});
    case Cell::relu:
      return f(Plain<false>{});
    case Cell::lstm:
      return f(Lstm{});
    case Cell::gru:
      return f(Gru{});
  }
}

}  // namespace ts::cpu::TS_ISA
