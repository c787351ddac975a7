// 2-D convolution, forward: a correlation (conv_tile.h) with negative first offsets.
//
//   y[n, o, p, q] = act(bias[o] + sum over kh, kw, c of
//                       x[n, c, p * stride + kh * dilation - padding, ...] * w[o, c, kh, kw])
#include "core/conv_algorithm.h"
#include "cpu/conv_bf16.h"
#include "cpu/conv_tile.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

void conv2d(In x, In weight, In bias, Out y, Conv2d conv, Activation activation) {
  if (weight.dtype == DType::bfloat16) return conv2d_bf16(x, weight, bias, y, conv, activation);
  const bool fast = conv_algorithm() == ConvAlgorithm::winograd;
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    Correlation<T> k;
    k.N = x.shape[0], k.G = conv.groups, k.C = weight.shape[1],
    k.O = conv.groups ? weight.shape[0] / conv.groups : 0;
    k.H = x.shape[2], k.W = x.shape[3], k.P = y.shape[2], k.Q = y.shape[3];
    k.step = {conv.stride[0], conv.stride[1]};
    k.taps = {weight.shape[2], weight.shape[3]};
    k.first = {-conv.padding[0], -conv.padding[1]};
    k.spread = {conv.dilation[0], conv.dilation[1]};
    k.x = x.as<T>(), k.xs = {x.strides[0], x.strides[1], x.strides[2], x.strides[3]};
    k.w = weight.as<T>(), k.wo = weight.strides[0], k.wc = weight.strides[1], k.wg = k.O * k.wo;
    k.ws = {weight.strides[2], weight.strides[3]};
    k.y = y.as<T>(), k.ys = {y.strides[0], y.strides[1], y.strides[2], y.strides[3]};
    k.bias = bias ? bias.as<T>() : nullptr, k.bias_stride = bias ? bias.strides[0] : 0;
    k.relu = activation == Activation::relu;
    if (k.narrow() && depthwise(&k, 1)) return;
    if (fast && winograd(k)) return;
    correlate(k);
  });
}

}  // namespace ts::cpu::TS_ISA
