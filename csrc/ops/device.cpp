#include "ops/device.h"

#include "core/dispatch.h"
#include "core/watch.h"
#include "ops/elementwise.h"

namespace ts::ops {

Array to_device(const Array& x, Device device) {
  if (x.device() == device) return x;
  host_read("moving a tensor between devices", x.storage());
  Array source = x;
  if (!x.is_dense()) {
    const DeviceScope there(x.device());
    source = contiguous(x);
  }
  const DeviceScope scope(device);
  Array y = ts::empty_like("to_device", source, x.dtype());
  if (y.size() == 0) return y;
  if (device == Device::cpu)
    accelerator(x.device()).download(y.data(), source.data(), y.nbytes());
  else
    accelerator(device).upload(y.data(), source.data(), y.nbytes());
  return y;
}

}  // namespace ts::ops
