// A recurrent layer over a whole sequence: a_t = gates_t + W h_{t-1} (+ bias), h_t = cell(a_t, h_{t-1},
// c_{t-1}).
//
// T steps, N rows (sequences), H units, G gates of a cell.
// The weights are packed once for all steps; a piece takes some rows through all steps, so nobody waits for
// anybody: a step is one product of its rows with the panels, the cell's formulas follow while the sums are
// in cache. Sequences shorter than T keep their state beyond their end, and their y is 0 there.
//
// Bits: a row's result depends on itself and the weights alone; a sum is one chain over H.
//
// Cost: 2 T N G H^2 flops; reads the weights once a step and piece, gates and y once.
#include <cstring>

#include "cpu/recurrent.h"

namespace ts::cpu::TS_ISA {
namespace {

template <class T, class C>
void forward(const Sequence& q, const Panels& columns, In bias, Out gates, Out y, Out extra, Out hn, Out cn,
             const T* packed, std::int64_t piece, std::int64_t step0, std::int64_t step1) {
  const std::int64_t n0 = q.pieces.first(piece), rows = q.pieces.width_of(piece), H = q.H, GH = q.GH;
  T* const hidden = static_cast<T*>(scratch());
  const auto zero = [](T* p, std::int64_t n) { std::memset(p, 0, static_cast<std::size_t>(n) * sizeof(T)); };
  for (std::int64_t step = step0; step < step1; ++step) {
    const std::int64_t t = q.time(step), at = t * q.N + n0;
    T* const g = gates.as<T>() + at * GH;
    T* const h = hn.as<T>() + n0 * H;
    if (C::has_hidden) {
      for (std::int64_t i = 0; i < rows; ++i) {
        if (bias)
          std::memcpy(hidden + i * GH, bias.data, static_cast<std::size_t>(GH) * sizeof(T));
        else
          zero(hidden + i * GH, GH);
      }
    }
    multiply_block<T>(rows, columns, H, h, H, 1, packed, 0, H, C::has_hidden ? hidden : g, GH, Start::add);
    for (std::int64_t i = 0; i < rows; ++i) {
      Row<T> row{H,
                 g + i * GH,
                 C::has_hidden ? hidden + i * GH : nullptr,
                 bias.as<T>(),
                 nullptr,
                 y.as<T>() + (at + i) * H,
                 h + i * H,
                 nullptr};
      if (C::has_extra) row.extra = extra.as<T>() + (at + i) * H;
      if (C::has_cell) row.c = cn.as<T>() + (n0 + i) * H;
      if (t < q.length(n0 + i)) {
        C::forward(row);
      } else {
        zero(row.gates, GH), zero(row.y, H);
        if (C::has_extra) zero(row.extra, H);
      }
    }
  }
}

template <class T, class C>
void backward(const Sequence& q, const Panels& columns, In dy, In gates, In extra, In y, In h0, In c0,
              Out dgates, Out dhidden, Out before, Out dh0, Out dc0, const T* packed, std::int64_t piece,
              std::int64_t step0, std::int64_t step1) {
  const std::int64_t n0 = q.pieces.first(piece), rows = q.pieces.width_of(piece), H = q.H, GH = q.GH;
  const auto zero = [](T* p, std::int64_t n) { std::memset(p, 0, static_cast<std::size_t>(n) * sizeof(T)); };
  for (std::int64_t step = step1; step-- > step0;) {
    const std::int64_t t = q.time(step), at = t * q.N + n0;
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t here = at + i, n = n0 + i;
      T* const dg = dgates.as<T>() + here * GH;
      T* const dq = C::has_hidden ? dhidden.as<T>() + here * GH : nullptr;
      T* const started = before.as<T>() + here * H;
      if (t >= q.length(n)) {
        zero(dg, GH), zero(started, H);
        if (dq) zero(dq, GH);
        continue;
      }
      const bool first = q.first(t, n);
      const std::int64_t last = (q.before(t) * q.N + n) * H;
      std::memcpy(started, first ? h0.as<T>() + n * H : y.as<T>() + last,
                  static_cast<std::size_t>(H) * sizeof(T));
      BackwardRow<T> row{H,
                         dy ? dy.as<T>() + here * H : nullptr,
                         gates.as<T>() + here * GH,
                         nullptr,
                         y.as<T>() + here * H,
                         started,
                         nullptr,
                         dg,
                         dq,
                         dh0.as<T>() + n * H,
                         nullptr};
      if (C::has_extra) row.extra = extra.as<T>() + here * H;
      if (C::has_cell) {
        row.c_before = first ? c0.as<T>() + n * H : extra.as<T>() + last;
        row.dc = dc0.as<T>() + n * H;
      }
      C::backward(row);
    }
    multiply_block<T>(rows, columns, GH, (C::has_hidden ? dhidden : dgates).template as<T>() + at * GH, GH, 1,
                      packed, 0, GH, dh0.as<T>() + n0 * H, H, Start::add);
  }
}

// Starts a state from what was given, or from zeros.
template <class T>
void start(Out state, In from) {
  if (!state) return;
  const std::size_t bytes = static_cast<std::size_t>(state.size()) * sizeof(T);
  if (from)
    std::memcpy(state.data, from.data, bytes);
  else
    std::memset(state.data, 0, bytes);
}

}  // namespace

void recurrent(In weight, In bias, In h0, In c0, In lengths, Out gates, Out y, Out extra, Out hn, Out cn,
               Out packed, Recurrent options) {
  const Sequence q(gates, weight.shape[1], lengths, options.reverse);
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    start<T>(hn, h0), start<T>(cn, c0);
    if (q.N == 0 || q.H == 0) return;
    const Panels columns = block_columns<T>(q.pieces.width, q.GH);
    pack_weights<T>(packed.as<T>(), columns, q.H, weight.as<T>(), weight.strides[0], weight.strides[1]);
    with_cell(options.cell, [&]<class C>(C) {
      const std::int64_t stretch = q.stretch();
      for (std::int64_t step = 0; step < q.T; step += stretch)
        parallel_for(q.pieces.count, [&](std::int64_t piece) {
          forward<T, C>(q, columns, bias, gates, y, extra, hn, cn, packed.as<T>(), piece, step,
                        step + stretch < q.T ? step + stretch : q.T);
        });
    });
  });
}

void recurrent_backward(In dy, In dhn, In dcn, In gates, In extra, In y, In weight, In h0, In c0, In lengths,
                        Out dgates, Out dhidden, Out before, Out dh0, Out dc0, Out packed,
                        Recurrent options) {
  const Sequence q(gates, weight.shape[1], lengths, options.reverse);
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    start<T>(dh0, dhn), start<T>(dc0, dcn);
    if (q.N == 0 || q.H == 0) return;
    const Panels columns = block_columns<T>(q.pieces.width, q.H);
    pack_weights<T>(packed.as<T>(), columns, q.GH, weight.as<T>(), weight.strides[1], weight.strides[0]);
    with_cell(options.cell, [&]<class C>(C) {
      const std::int64_t stretch = q.stretch();
      for (std::int64_t end = q.T; end > 0; end -= stretch)
        parallel_for(q.pieces.count, [&](std::int64_t piece) {
          backward<T, C>(q, columns, dy, gates, extra, y, h0, c0, dgates, dhidden, before, dh0, dc0,
                         packed.as<T>(), piece, end > stretch ? end - stretch : 0, end);
        });
    });
  });
}

}  // namespace ts::cpu::TS_ISA
