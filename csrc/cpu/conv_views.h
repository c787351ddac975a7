// The views of a convolution as the correlations that it and its gradients are (legend in conv_tile.h).
#pragma once

#include "cpu/conv_tile.h"

namespace ts::cpu::TS_ISA {

// Of x with the filters, without bias; the weight gradient reads y = dy.
template <class T>
Correlation<T> correlation_of(const View& x, const View& weight, const View& y, const Conv2d& conv) {
  Correlation<T> k;
  k.N = x.shape[0], k.G = conv.groups, k.C = weight.shape[1], k.O = weight.shape[0] / conv.groups;
  k.H = x.shape[2], k.W = x.shape[3], k.P = y.shape[2], k.Q = y.shape[3];
  k.step = {conv.stride[0], conv.stride[1]};
  k.taps = {weight.shape[2], weight.shape[3]};
  k.first = {-conv.padding[0], -conv.padding[1]};
  k.spread = {conv.dilation[0], conv.dilation[1]};
  k.x = static_cast<const T*>(x.data), k.xs = {x.strides[0], x.strides[1], x.strides[2], x.strides[3]};
  k.w = static_cast<const T*>(weight.data);
  k.wo = weight.strides[0], k.wc = weight.strides[1], k.wg = k.O * k.wo;
  k.ws = {weight.strides[2], weight.strides[3]};
  k.y = static_cast<T*>(y.data), k.ys = {y.strides[0], y.strides[1], y.strides[2], y.strides[3]};
  k.bias = nullptr, k.bias_stride = 0, k.relu = false;
  return k;
}

// One axis of one phase of an input gradient: the taps that meet it, last tap first so that the rows of dy
// ascend.
struct Phase {
  std::int64_t size;                 // rows of dx
  std::int64_t taps, last, between;  // of the kernel
  std::int64_t first, spread;        // of dy
};
Phase phase_of(std::int64_t phase, std::int64_t extent, std::int64_t kernel, std::int64_t stride,
               std::int64_t padding, std::int64_t dilation);

// Calls run(correlation) for each phase of the stride that dx has rows and columns of, which is one of dy
// with the flipped filters (conv_backward.cpp).
template <class T, class Run>
void for_each_phase(const View& dy, const View& weight, const View& dx, const Conv2d& conv, const Run& run) {
  for (std::int64_t ph = 0; ph < least(conv.stride[0], dx.shape[2]); ++ph)
    for (std::int64_t pw = 0; pw < least(conv.stride[1], dx.shape[3]); ++pw) {
      const Phase fh =
          phase_of(ph, dx.shape[2], weight.shape[2], conv.stride[0], conv.padding[0], conv.dilation[0]);
      const Phase fw =
          phase_of(pw, dx.shape[3], weight.shape[3], conv.stride[1], conv.padding[1], conv.dilation[1]);
      Correlation<T> k;
      k.N = dx.shape[0], k.G = conv.groups, k.C = weight.shape[0] / conv.groups, k.O = weight.shape[1];
      k.H = dy.shape[2], k.W = dy.shape[3], k.P = fh.size, k.Q = fw.size;
      k.step = {1, 1};
      k.taps = {fh.taps, fw.taps};
      k.first = {fh.first, fw.first};
      k.spread = {fh.spread, fw.spread};
      k.x = static_cast<const T*>(dy.data);
      k.xs = {dy.strides[0], dy.strides[1], dy.strides[2], dy.strides[3]};
      k.w = static_cast<const T*>(weight.data) + fh.last * weight.strides[2] + fw.last * weight.strides[3];
      k.wo = weight.strides[1], k.wc = weight.strides[0], k.wg = k.C * k.wc;
      k.ws = {-fh.between * weight.strides[2], -fw.between * weight.strides[3]};
      // In bytes: dx may be wider than T (conv_bf16.cpp).
      k.y = reinterpret_cast<T*>(static_cast<char*>(dx.data) +
                                 (ph * dx.strides[2] + pw * dx.strides[3]) * itemsize(dx.dtype));
      k.ys = {dx.strides[0], dx.strides[1], conv.stride[0] * dx.strides[2], conv.stride[1] * dx.strides[3]};
      k.bias = nullptr, k.bias_stride = 0, k.relu = false;
      run(k);
    }
}

}  // namespace ts::cpu::TS_ISA
