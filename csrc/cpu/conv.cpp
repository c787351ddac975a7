// 2-D convolution, forward: a correlation (conv_tile.h) with negative first offsets.
//
//   y[n, o, p, q] = act(bias[o] + sum over kh, kw, c of
//                       x[n, c, p * stride + kh * dilation - padding, ...] * w[o, c, kh, kw])
#include "cpu/conv_bf16.h"
#include "cpu/conv_views.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

void conv2d(In x, In weight, In bias, Out y, Conv2d conv, Activation activation) {
  if (weight.dtype == DType::bfloat16) return conv2d_bf16(x, weight, bias, y, conv, activation);
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    Correlation<T> k = correlation_of<T>(x, weight, y, conv);
    k.bias = bias ? bias.as<T>() : nullptr, k.bias_stride = bias ? bias.strides[0] : 0;
    k.relu = activation == Activation::relu;
    if (k.narrow() && depthwise(&k, 1)) return;
    if (conv.winograd && winograd(k)) return;
    correlate(k);
  });
}

}  // namespace ts::cpu::TS_ISA
