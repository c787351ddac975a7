// A recurrent layer over a whole sequence: a_t = gates_t + W h_{t-1} (+ bias), h_t = cell(a_t, h_{t-1},
// c_{t-1}).
//
// T steps, N rows (sequences), H units, G gates of a cell. A step is one product (gemm_tile.h) and one pass
// of the cell's formulas, those of cpu/recurrent.h, a thread a unit. Sequences shorter than T keep their
// state beyond their end, and their y is 0 there.
#include "cuda/gemm_tile.h"
#include "cuda/kernels.h"
#include "cuda/types.h"
#include "math/vmath.h"

namespace ts::cuda {
namespace {

struct Sequence {
  std::int64_t T, N, H, GH;
  bool reverse;
  const std::int64_t* lengths;

  Sequence(const View& gates, std::int64_t h, const In& length, bool backwards)
      : T(gates.shape[0]),
        N(gates.shape[1]),
        H(h),
        GH(gates.shape[2]),
        reverse(backwards),
        lengths(length.as<std::int64_t>()) {}
  TS_INLINE std::int64_t length(std::int64_t n) const { return lengths ? lengths[n] : T; }
  std::int64_t time(std::int64_t step) const { return reverse ? T - 1 - step : step; }
  TS_INLINE bool first(std::int64_t t, std::int64_t n) const { return t == (reverse ? length(n) - 1 : 0); }
  TS_INLINE std::int64_t before(std::int64_t t) const { return reverse ? t + 1 : t - 1; }
};

// y = (bias or y) + the product.
template <class T>
struct Added {
  T* data;
  const T* bias;
  bool fresh;  // y holds nothing yet
  std::int64_t row;
  TS_INLINE void shift(std::int64_t, std::int64_t) {}
  TS_INLINE void store(std::int64_t i, std::int64_t j, T value) const {
    T& y = data[i * row + j];
    y = (Vec<T>(fresh ? bias ? bias[j] : T(0) : y) + Vec<T>(value)).r;
  }
};

// What a cell reads and writes for one unit: gate g lies at g * H.
template <class T>
struct Unit {
  std::int64_t H;
  T* gates;
  const T *hidden, *bias;  // gru: the recurrent part, bias included; others: the bias, or null
  T *extra, *y, *h, *c;
  TS_INLINE Vec<T> sum(int g) const {
    const Vec<T> a(gates[g * H]);
    return bias ? a + Vec<T>(bias[g * H]) : a;
  }
};
template <class T>
struct BackwardUnit {
  std::int64_t H;
  Vec<T> dh;  // of y and of the next step
  const T *gates, *extra, *y;
  T h_before, c_before;
  T *dgates, *dhidden, *to_h, *dc;
};

template <bool kTanh>
struct Plain {
  static constexpr bool has_cell = false, has_hidden = false, has_extra = false;
  template <class T>
  TS_INLINE static void forward(const Unit<T>& u) {
    const Vec<T> a = u.sum(0), zero(T(0));
    *u.y = *u.h = (kTanh ? vmath::tanh(a) : select(a < zero, zero, a)).r;
  }
  template <class T>
  TS_INLINE static void backward(const BackwardUnit<T>& u) {
    const Vec<T> y(*u.y), zero(T(0));
    *u.dgates = (kTanh ? u.dh * fma(-y, y, Vec<T>(T(1))) : select(y > zero, u.dh, zero)).r;
    *u.to_h = 0;
  }
};

// c' = f c + i g, h' = o tanh(c'); gates i f g o (Hochreiter & Schmidhuber 1997, Gers et al. 2000)
struct Lstm {
  static constexpr bool has_cell = true, has_hidden = false, has_extra = true;
  template <class T>
  TS_INLINE static void forward(const Unit<T>& u) {
    Vec<T> a[4];
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      a[g] = g == 2 ? vmath::tanh(u.sum(g)) : vmath::sigmoid(u.sum(g));
      u.gates[g * u.H] = a[g].r;
    }
    const Vec<T> c = fma(a[1], Vec<T>(*u.c), a[0] * a[2]);
    *u.c = *u.extra = c.r;
    *u.h = *u.y = (a[3] * vmath::tanh(c)).r;
  }
  template <class T>
  TS_INLINE static void backward(const BackwardUnit<T>& u) {
    const Vec<T> i(u.gates[0]), f(u.gates[u.H]), g(u.gates[2 * u.H]), o(u.gates[3 * u.H]), one(T(1));
    const Vec<T> tc = vmath::tanh(Vec<T>(*u.extra));
    const Vec<T> dc = fma(u.dh * o, fma(-tc, tc, one), Vec<T>(*u.dc));
    u.dgates[0] = (dc * g * (i * (one - i))).r;
    u.dgates[u.H] = (dc * Vec<T>(u.c_before) * (f * (one - f))).r;
    u.dgates[2 * u.H] = (dc * i * fma(-g, g, one)).r;
    u.dgates[3 * u.H] = (u.dh * tc * (o * (one - o))).r;
    *u.dc = (dc * f).r;
    *u.to_h = 0;
  }
};

// h' = (1 - z) n + z h, n = tanh(a_n + r q); gates r z n, q = W_n h + b_n (Cho et al. 2014)
struct Gru {
  static constexpr bool has_cell = false, has_hidden = true, has_extra = true;
  template <class T>
  TS_INLINE static void forward(const Unit<T>& u) {
    const auto sum = [&](int g) { return Vec<T>(u.gates[g * u.H]) + Vec<T>(u.hidden[g * u.H]); };
    const Vec<T> reset = vmath::sigmoid(sum(0)), z = vmath::sigmoid(sum(1)), q(u.hidden[2 * u.H]);
    const Vec<T> candidate = vmath::tanh(fma(reset, q, Vec<T>(u.gates[2 * u.H])));
    u.gates[0] = reset.r, u.gates[u.H] = z.r, u.gates[2 * u.H] = candidate.r;
    *u.extra = q.r;
    *u.h = *u.y = fma(z, Vec<T>(*u.h) - candidate, candidate).r;
  }
  template <class T>
  TS_INLINE static void backward(const BackwardUnit<T>& u) {
    const Vec<T> reset(u.gates[0]), z(u.gates[u.H]), candidate(u.gates[2 * u.H]), one(T(1));
    const Vec<T> dn = u.dh * (one - z) * fma(-candidate, candidate, one);
    const Vec<T> dr = dn * Vec<T>(*u.extra) * (reset * (one - reset));
    const Vec<T> dz = u.dh * (Vec<T>(u.h_before) - candidate) * (z * (one - z));
    u.dgates[0] = u.dhidden[0] = dr.r;
    u.dgates[u.H] = u.dhidden[u.H] = dz.r;
    u.dgates[2 * u.H] = dn.r, u.dhidden[2 * u.H] = (dn * reset).r;
    *u.to_h = (u.dh * z).r;
  }
};

template <class T, class C>
__global__ void forward_kernel(const Sequence q, std::int64_t t, const T* bias, const T* hidden, T* gates,
                               T* y, T* extra, T* h, T* c) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= q.N * q.H) return;
  const std::int64_t n = i / q.H, j = i % q.H, at = (t * q.N + n) * q.H + j, gate = n * q.GH + j;
  T* const g = gates + t * q.N * q.GH + gate;
  if (t >= q.length(n)) {
    for (std::int64_t k = 0; k < q.GH; k += q.H) g[k] = 0;
    y[at] = 0;
    if constexpr (C::has_extra) extra[at] = 0;
    return;
  }
  C::forward(Unit<T>{q.H, g, C::has_hidden ? hidden + gate : nullptr, bias ? bias + j : nullptr,
                     C::has_extra ? extra + at : nullptr, y + at, h + i, C::has_cell ? c + i : nullptr});
}

template <class T, class C>
__global__ void backward_kernel(const Sequence q, std::int64_t t, const T* dy, const T* gates, const T* extra,
                                const T* y, const T* h0, const T* c0, T* dgates, T* dhidden, T* before, T* dh,
                                T* dc) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= q.N * q.H) return;
  const std::int64_t n = i / q.H, j = i % q.H, at = (t * q.N + n) * q.H + j, gate = (t * q.N + n) * q.GH + j;
  if (t >= q.length(n)) {
    for (std::int64_t k = 0; k < q.GH; k += q.H) {
      dgates[gate + k] = 0;
      if constexpr (C::has_hidden) dhidden[gate + k] = 0;
    }
    before[at] = 0;
    return;
  }
  const bool first = q.first(t, n);
  const std::int64_t last = (q.before(t) * q.N + n) * q.H + j;
  const T started = first ? h0[i] : y[last];
  before[at] = started;
  Vec<T> d(dh[i]);
  if (dy) d = d + Vec<T>(dy[at]);
  BackwardUnit<T> u{q.H,     d,    gates + gate,  C::has_extra ? extra + at : nullptr,      y + at,
                    started, T(0), dgates + gate, C::has_hidden ? dhidden + gate : nullptr, dh + i,
                    nullptr};
  if constexpr (C::has_cell) u.c_before = first ? c0[i] : extra[last], u.dc = dc + i;
  C::backward(u);
}

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

// Starts a state from what was given, or from zeros.
void start(const View& state, const View& from) {
  if (!state || state.size() == 0) return;
  const auto bytes = static_cast<std::size_t>(state.size() * itemsize(state.dtype));
  if (from)
    check(cudaMemcpyAsync(state.data, from.data, bytes, cudaMemcpyDeviceToDevice, stream()), "a copy");
  else
    check(cudaMemsetAsync(state.data, 0, bytes, stream()), "clearing memory");
}

}  // namespace

void recurrent(In weight, In bias, In h0, In c0, In lengths, Out gates, Out y, Out extra, Out hn, Out cn, Out,
               Recurrent options) {
  const Sequence q(gates, weight.shape[1], lengths, options.reverse);
  start(hn, h0), start(cn, c0);
  if (q.N == 0 || q.H == 0) return;
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    with_cell(options.cell, [&]<class C>(C) {
      const Workspace hidden(C::has_hidden ? q.N * q.GH * static_cast<std::int64_t>(sizeof(T)) : 0);
      const Matrix<T> w{weight.as<T>(),    0,    weight.strides[0],
                        weight.strides[1], q.GH, weight.strides[1] == 1};
      for (std::int64_t step = 0; step < q.T; ++step) {
        const std::int64_t t = q.time(step);
        const Added<T> sums{C::has_hidden ? hidden.as<T>() : gates.as<T>() + t * q.N * q.GH, bias.as<T>(),
                            C::has_hidden, q.GH};
        product<T>(Matrix<T>{hn.as<T>(), 0, q.H, 1, q.N, true}, w, sums, q.N, q.GH, q.H, 1);
        launch(&forward_kernel<T, C>, dim3(blocks_of(ceil_div(q.N * q.H, 256))), dim3(256), 0, q, t,
               bias.as<T>(), static_cast<const T*>(hidden.as<T>()), gates.as<T>(), y.as<T>(), extra.as<T>(),
               hn.as<T>(), cn.as<T>());
      }
    });
  });
}

void recurrent_backward(In dy, In dhn, In dcn, In gates, In extra, In y, In weight, In h0, In c0, In lengths,
                        Out dgates, Out dhidden, Out before, Out dh0, Out dc0, Out, Recurrent options) {
  const Sequence q(gates, weight.shape[1], lengths, options.reverse);
  start(dh0, dhn), start(dc0, dcn);
  if (q.N == 0 || q.H == 0) return;
  with_floating(y.dtype, [&]<class T>(Type<T>) {
    with_cell(options.cell, [&]<class C>(C) {
      const Matrix<T> w{weight.as<T>(), 0, weight.strides[1], weight.strides[0], q.H, weight.strides[0] == 1};
      for (std::int64_t step = q.T; step-- > 0;) {
        const std::int64_t t = q.time(step);
        launch(&backward_kernel<T, C>, dim3(blocks_of(ceil_div(q.N * q.H, 256))), dim3(256), 0, q, t,
               dy.as<T>(), gates.as<T>(), extra.as<T>(), y.as<T>(), h0.as<T>(), c0.as<T>(), dgates.as<T>(),
               dhidden.as<T>(), before.as<T>(), dh0.as<T>(), dc0.as<T>());
        const T* const d = (C::has_hidden ? dhidden : dgates).template as<T>() + t * q.N * q.GH;
        product<T>(Matrix<T>{d, 0, q.GH, 1, q.N, true}, w, Added<T>{dh0.as<T>(), nullptr, false, q.H}, q.N,
                   q.H, q.GH, 1);
      }
    });
  });
}

}  // namespace ts::cuda
