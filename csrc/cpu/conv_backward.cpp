// The gradient of a 2-D convolution with respect to its input: again a correlation, of dy with the flipped
// weights, one for each phase of the stride.
//
//   dx[n, c, h, w] = sum over (kh, kw, o) with (h + padding - kh * dilation) = stride * p:  dy[n, o, p, q] *
//   w[o, c, kh, kw]
//
// Rows h = phase + stride * i meet the same taps at constant offsets, so every phase is a correlation of
// stride 1.
#include "cpu/conv_bf16.h"
#include "cpu/conv_views.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

Phase phase_of(std::int64_t phase, std::int64_t extent, std::int64_t kernel, std::int64_t stride,
               std::int64_t padding, std::int64_t dilation) {
  Phase f{phase < extent ? ceil_div(extent - phase, stride) : 0, 0, 0, 1, 0, 0};
  // The residues of k * dilation repeat after stride / gcd(stride, dilation) taps.
  std::int64_t a = stride, b = dilation;
  while (b != 0) {
    const std::int64_t r = a % b;
    a = b, b = r;
  }
  f.between = stride / a;
  for (std::int64_t k = 0; k < least(kernel, f.between); ++k)
    if ((phase + padding - k * dilation) % stride == 0) {
      f.taps = ceil_div(kernel - k, f.between);
      f.last = k + (f.taps - 1) * f.between;
      f.first = (phase + padding - f.last * dilation) / stride;
      f.spread = f.between * dilation / stride;
    }
  return f;
}

void conv2d_input_backward(In dy, In weight, Out dx, Conv2d conv) {
  if (weight.dtype == DType::bfloat16) return conv2d_input_backward_bf16(dy, weight, dx, conv);
  with_floating(dy.dtype, [&]<class T>(Type<T>) {
    Correlation<T> phases[kMaxPhases];
    int count = 0;
    const auto flush = [&] {
      if (count == 0 || (phases[0].narrow() && depthwise(phases, count))) return void(count = 0);
      for (int i = 0; i < count; ++i)
        if (!(conv.winograd && winograd(phases[i]))) correlate(phases[i]);
      count = 0;
    };
    for_each_phase<T>(dy, weight, dx, conv, [&](const Correlation<T>& phase) {
      phases[count++] = phase;
      if (count == kMaxPhases) flush();
    });
    flush();
  });
}

}  // namespace ts::cpu::TS_ISA
