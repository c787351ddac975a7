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

template <class T>
TS_INLINE Vec<T> load_some(const T* p, std::int64_t n) {
  return n >= Vec<T>::width ? Vec<T>::load(p) : load_lanes(p, Lanes<T>(n));
}
template <class T>
TS_INLINE void store_some(T* p, Vec<T> v, std::int64_t n) {
  if (n >= Vec<T>::width)
    v.store(p);
  else
    store_lanes(p, v, Lanes<T>(n));
}

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
        pieces(N, rows(N, H * GH), 1) {}

  static std::int64_t rows(std::int64_t n, std::int64_t weights) {
    constexpr std::int64_t most = 2 * kMaxRows;
    if (n * weights < 100000) return n;  // less than a microsecond a step
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

// What a cell reads and writes for one row and step. Pointers are to H elements, gates to G H.
template <class T>
struct Row {
  std::int64_t H;
  T* gates;
  const T *hidden, *bias;  // gru: the recurrent part, bias included; others: the bias, or null
  T *extra, *y, *h, *c;
};
template <class T>
struct BackwardRow {
  std::int64_t H;
  const T *dy, *gates, *extra, *y, *h_before, *c_before;
  T *dgates, *dhidden, *dh, *dc;
};

// h' = tanh(a) or relu(a)
template <bool Tanh>
struct Plain {
  static constexpr int gates = 1;
  static constexpr bool has_cell = false, has_hidden = false, has_extra = false;

  template <class T>
  static void forward(const Row<T>& r) {
    for (std::int64_t j = 0; j < r.H; j += Vec<T>::width) {
      const std::int64_t n = r.H - j;
      Vec<T> a = load_some(r.gates + j, n);
      if (r.bias) a = a + load_some(r.bias + j, n);
      const Vec<T> zero(T(0));
      const Vec<T> h = Tanh ? vmath::tanh(a) : select(a < zero, zero, a);
      store_some(r.y + j, h, n), store_some(r.h + j, h, n);
    }
  }
  template <class T>
  static void backward(const BackwardRow<T>& r) {
    for (std::int64_t j = 0; j < r.H; j += Vec<T>::width) {
      const std::int64_t n = r.H - j;
      const Vec<T> y = load_some(r.y + j, n), zero(T(0));
      Vec<T> dh = load_some(r.dh + j, n);
      if (r.dy) dh = dh + load_some(r.dy + j, n);
      store_some(r.dgates + j, Tanh ? dh * fma(-y, y, Vec<T>(T(1))) : select(y > zero, dh, zero), n);
      store_some(r.dh + j, zero, n);
    }
  }
};

// c' = f c + i g, h' = o tanh(c'); gates i f g o (Hochreiter & Schmidhuber 1997, Gers et al. 2000)
struct Lstm {
  static constexpr int gates = 4;
  static constexpr bool has_cell = true, has_hidden = false, has_extra = true;

  template <class T>
  static void forward(const Row<T>& r) {
    for (std::int64_t j = 0; j < r.H; j += Vec<T>::width) {
      const std::int64_t n = r.H - j;
      Vec<T> a[4];
      for (int g = 0; g < 4; ++g) {
        a[g] = load_some(r.gates + g * r.H + j, n);
        if (r.bias) a[g] = a[g] + load_some(r.bias + g * r.H + j, n);
        a[g] = g == 2 ? vmath::tanh(a[g]) : vmath::sigmoid(a[g]);
        store_some(r.gates + g * r.H + j, a[g], n);
      }
      const Vec<T> c = fma(a[1], load_some(r.c + j, n), a[0] * a[2]), h = a[3] * vmath::tanh(c);
      store_some(r.c + j, c, n), store_some(r.extra + j, c, n);
      store_some(r.h + j, h, n), store_some(r.y + j, h, n);
    }
  }
  template <class T>
  static void backward(const BackwardRow<T>& r) {
    for (std::int64_t j = 0; j < r.H; j += Vec<T>::width) {
      const std::int64_t n = r.H - j;
      const auto gate = [&](int g) { return load_some(r.gates + g * r.H + j, n); };
      const Vec<T> i = gate(0), f = gate(1), g = gate(2), o = gate(3), one(T(1));
      const Vec<T> tc = vmath::tanh(load_some(r.extra + j, n));
      Vec<T> dh = load_some(r.dh + j, n);
      if (r.dy) dh = dh + load_some(r.dy + j, n);
      const Vec<T> dc = fma(dh * o, fma(-tc, tc, one), load_some(r.dc + j, n));
      store_some(r.dgates + j, dc * g * (i * (one - i)), n);
      store_some(r.dgates + r.H + j, dc * load_some(r.c_before + j, n) * (f * (one - f)), n);
      store_some(r.dgates + 2 * r.H + j, dc * i * fma(-g, g, one), n);
      store_some(r.dgates + 3 * r.H + j, dh * tc * (o * (one - o)), n);
      store_some(r.dc + j, dc * f, n);
      store_some(r.dh + j, Vec<T>(T(0)), n);
    }
  }
};

// h' = (1 - z) n + z h, n = tanh(a_n + r q); gates r z n, q = W_n h + b_n (Cho et al. 2014)
struct Gru {
  static constexpr int gates = 3;
  static constexpr bool has_cell = false, has_hidden = true, has_extra = true;

  template <class T>
  static void forward(const Row<T>& r) {
    for (std::int64_t j = 0; j < r.H; j += Vec<T>::width) {
      const std::int64_t n = r.H - j;
      const auto part = [&](const T* p, int g) { return load_some(p + g * r.H + j, n); };
      const Vec<T> reset = vmath::sigmoid(part(r.gates, 0) + part(r.hidden, 0));
      const Vec<T> z = vmath::sigmoid(part(r.gates, 1) + part(r.hidden, 1)), q = part(r.hidden, 2);
      const Vec<T> candidate = vmath::tanh(fma(reset, q, part(r.gates, 2)));
      const Vec<T> h = fma(z, load_some(r.h + j, n) - candidate, candidate);
      store_some(r.gates + j, reset, n), store_some(r.gates + r.H + j, z, n);
      store_some(r.gates + 2 * r.H + j, candidate, n), store_some(r.extra + j, q, n);
      store_some(r.h + j, h, n), store_some(r.y + j, h, n);
    }
  }
  template <class T>
  static void backward(const BackwardRow<T>& r) {
    for (std::int64_t j = 0; j < r.H; j += Vec<T>::width) {
      const std::int64_t n = r.H - j;
      const auto gate = [&](int g) { return load_some(r.gates + g * r.H + j, n); };
      const Vec<T> reset = gate(0), z = gate(1), candidate = gate(2), one(T(1));
      Vec<T> dh = load_some(r.dh + j, n);
      if (r.dy) dh = dh + load_some(r.dy + j, n);
      const Vec<T> dn = dh * (one - z) * fma(-candidate, candidate, one);
      const Vec<T> dr = dn * load_some(r.extra + j, n) * (reset * (one - reset));
      const Vec<T> dz = dh * (load_some(r.h_before + j, n) - candidate) * (z * (one - z));
      for (T* const to : {r.dgates, r.dhidden}) {
        store_some(to + j, dr, n), store_some(to + r.H + j, dz, n);
        store_some(to + 2 * r.H + j, to == r.dgates ? dn : dn * reset, n);
      }
      store_some(r.dh + j, dh * z, n);
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
