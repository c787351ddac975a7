// What convolution and pooling share: options that are given for each axis, and the extents of windows that
// slide over images.
#pragma once

#include "ops/check.h"

namespace ts::ops {

// One integer or (height, width), for volumes (depth, height, width), each in [least, 2^31); ValueError
// otherwise.
template <int Axes>
void read_axes(const char* operation, const char* argument, const Shape& value, std::int64_t least,
               std::int64_t (&out)[Axes]) {
  static_assert(Axes == 2 || Axes == 3);
  if (value.rank() != 1 && value.rank() != Axes)
    value_error(operation, ": ", argument, " must be one integer or ",
                Axes == 2 ? "two (height, width)" : "three (depth, height, width)", ", got ", value);
  for (int i = 0; i < Axes; ++i) {
    out[i] = value[value.rank() == 1 ? 0 : i];
    if (out[i] < least) {
      if (value.rank() == 1)
        value_error(operation, ": ", argument, " must be >= ", least, ", got ", value[0]);
      value_error(operation, ": ", argument, " must be >= ", least, ", got ", value);
    }
    if (out[i] > 0x7fffffff) value_error(operation, ": ", argument, " must be < 2**31, got ", out[i]);
  }
}

// Images of `rank` 4, or one image of rank 3, which is seen as a batch of one.
inline Array as_batch(const char* operation, const char* argument, const Array& x) {
  if (x.ndim() == 3) return x.expand_dims(0);
  if (x.ndim() != 4)
    value_error(operation, ": ", argument, " must have 4 dimensions (N, C, H, W) or 3 (C, H, W), got shape ",
                x.shape());
  return x;
}
inline Array like_batch(const Array& given, const Array& result) {
  return given.ndim() == 3 ? result.squeeze(0) : result;
}

// The number of places a window takes on an axis of `input` elements; `axis` is for the message.
inline std::int64_t window_places(const char* operation, int axis, std::int64_t input, std::int64_t kernel,
                                  std::int64_t stride, std::int64_t padding, std::int64_t dilation,
                                  bool ceil_mode) {
  // Every factor is below 2^31, so nothing here can wrap.
  const std::int64_t extent = dilation * (kernel - 1) + 1, padded = input + 2 * padding;
  if (extent > padded && !(ceil_mode && extent - padded < stride))
    value_error(operation, ": kernel_size ", kernel, dilation > 1 ? " (dilated to " : "",
                dilation > 1 ? std::to_string(extent) + ")" : "", " is larger than the padded input ", padded,
                " (dimension ", axis, ")");
  std::int64_t places = (padded - extent + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  // The last window must start inside the image or its left padding; so the first one may hang over the end.
  if (ceil_mode && (places - 1) * stride >= input + padding) --places;
  return places;
}

}  // namespace ts::ops
