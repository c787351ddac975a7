// 3-D convolution and its gradients: correlations whose windows reach through several slices (conv_tile.h).
//
//   y[n, o, s, p, q] = bias[o] + sum over kd, kh, kw, c of
//                      x[n, c, s * stride + kd * dilation - padding, ...] * w[o, c, kd, kh, kw]
//
// The images of a correlation are the slices of y; what their rows and columns see is conv2d's.
#include "cpu/conv_views.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

namespace {

// Views of (N, C, D, H, W), or filters, without their third axis.
struct Flat {
  std::int64_t shape[4], strides[4];
  View view;
  explicit Flat(const View& v) : view(v) {
    for (int i = 0; i < 4; ++i) shape[i] = v.shape[i + (i > 1)], strides[i] = v.strides[i + (i > 1)];
    view.shape = shape, view.strides = strides, view.ndim = 4;
  }
  Flat(const Flat&) = delete;
};

Conv2d of_slices(const Conv3d& conv) {
  return {{conv.stride[1], conv.stride[2]},
          {conv.padding[1], conv.padding[2]},
          {conv.dilation[1], conv.dilation[2]},
          conv.groups,
          0};
}

}  // namespace

void conv3d(In x, In weight, In bias, Out y, Conv3d conv) {
  const Flat flat_x(x), flat_w(weight), flat_y(y);
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    Correlation<T> k = correlation_of<T>(flat_x.view, flat_w.view, flat_y.view, of_slices(conv));
    k.bias = bias ? bias.as<T>() : nullptr, k.bias_stride = bias ? bias.strides[0] : 0;
    k.z = {x.shape[2],       y.shape[2],   conv.stride[0], weight.shape[2],  -conv.padding[0],
           conv.dilation[0], x.strides[2], y.strides[2],   weight.strides[2]};
    k.N *= k.z.S;
    if (k.z.S > 0) correlate(k);
  });
}

// As in two dimensions, one correlation of dy with the flipped filters for each phase of the stride.
void conv3d_input_backward(In dy, In weight, Out dx, Conv3d conv) {
  const Flat flat_dy(dy), flat_w(weight), flat_dx(dx);
  with_floating(dy.dtype, [&]<class T>(Type<T>) {
    for (std::int64_t phase = 0; phase < least(conv.stride[0], dx.shape[2]); ++phase) {
      const Phase f =
          phase_of(phase, dx.shape[2], weight.shape[2], conv.stride[0], conv.padding[0], conv.dilation[0]);
      for_each_phase<T>(flat_dy.view, flat_w.view, flat_dx.view, of_slices(conv),
                        [&](const Correlation<T>& plane) {
                          Correlation<T> k = plane;
                          k.z = {dy.shape[2],
                                 f.size,
                                 1,
                                 f.taps,
                                 f.first,
                                 f.spread,
                                 dy.strides[2],
                                 conv.stride[0] * dx.strides[2],
                                 -f.between * weight.strides[2]};
                          k.N *= f.size;
                          k.w += f.last * weight.strides[2];
                          k.y += phase * dx.strides[2];
                          correlate(k);
                        });
    }
  });
}

// One tap of the depth after the other, over the slices of dy that meet it.
void conv3d_weight_backward(In dy, In x, Out dweight, Out dbias, Conv3d conv) {
  const Flat flat_dy(dy), flat_x(x), flat_w(dweight);
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    const Correlation<T> all = correlation_of<T>(flat_x.view, flat_w.view, flat_dy.view, of_slices(conv));
    const std::int64_t S = dy.shape[2], D = x.shape[2], stride = conv.stride[0];
    T* db = dbias ? dbias.as<T>() : nullptr;
    const std::int64_t db_stride = dbias ? dbias.strides[0] : 0;
    const auto slices = [&](std::int64_t begin, std::int64_t end, std::int64_t first) {
      Correlation<T> k = all;
      k.z = {D, end - begin, stride, 1, begin * stride + first, 1, x.strides[2], dy.strides[2], 0};
      k.y += begin * dy.strides[2];
      k.N *= end - begin;
      return k;
    };
    for (std::int64_t tap = 0; tap < dweight.shape[2]; ++tap) {
      const std::int64_t first = tap * conv.dilation[0] - conv.padding[0];
      const std::int64_t begin = least(S, first < 0 ? ceil_div(-first, stride) : 0);
      const std::int64_t end = most(begin, least(S, first < D ? ceil_div(D - first, stride) : 0));
      Correlation<T> k = slices(begin, end, first);
      if (k.z.S == 0) k.N = 0, k.z.S = 1;
      leave_out_pixels(k);
      const bool every = begin == 0 && end == S;  // so dbias comes with it
      weight_gradient(k, dweight.as<T>() + tap * dweight.strides[2], every ? db : nullptr, db_stride);
      if (every) db = nullptr;
    }
    if (!db) return;
    Correlation<T> k = slices(0, S, 0);  // no tap meets all of dy: dbias by itself
    k.C = 0, k.z.D = S * stride;
    weight_gradient<T>(k, nullptr, db, db_stride);
  });
}

}  // namespace ts::cpu::TS_ISA
