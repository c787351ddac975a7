#include "ops/device.h"

#include "core/launch.h"
#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

// Both dense and of one order.
void upload(In x, Out y) { accelerator(Device::cuda).upload(y.data, x.data, x.size() * itemsize(x.dtype)); }

}  // namespace

Array to_device(const Array& x, Device device) {
  if (x.device() == device) return x;
  if (device == Device::cpu) host_read("moving a tensor to the CPU", x.storage());
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
    perform("upload", &upload, source, y);
  return y;
}

OnHost::OnHost(const View& x) : data_(x.data) {
  if (!x.storage || x.storage->device() == Device::cpu) return;
  copy_.resize(static_cast<std::size_t>(x.size() * itemsize(x.dtype)));
  if (!copy_.empty())
    accelerator(x.storage->device()).download(copy_.data(), x.data, static_cast<std::int64_t>(copy_.size()));
  data_ = copy_.data();
}

bool is_pinned(const Array& x) {
  return x.device() == Device::cpu && accelerator_state().available &&
         accelerator(Device::cuda).pinned(x.storage()->data());
}

Array pin(const Array& x) {
  const char* operation = "pin_memory";
  if (x.device() != Device::cpu) value_error(operation, ": x must be on cpu, got one on ", name(x.device()));
  if (is_pinned(x)) return x;
  const Accelerator& device = accelerator(Device::cuda);
  const Array order = ts::empty_like(operation, x, x.dtype());  // its shape and strides
  void* block = device.allocate_pinned(x.nbytes());
  Storage* storage = Storage::adopt(block, x.nbytes(), false, block,
                                    [](void* p) { accelerator(Device::cuda).deallocate_pinned(p); });
  Array y = Array(StorageRef(storage), x.dtype(), order.shape(), order.strides(), 0);
  copy_into(operation, Operand(x), y);
  return y;
}

void copy_async(Array& target, const Array& x) {
  const char* operation = "copy_async";
  check_same_dtype(operation, "x", x, target.dtype());
  check_shape(operation, "x", x, target.shape());
  if (x.device() == target.device())
    value_error(operation, ": one of target and x must be on cpu and one on cuda, got both on ",
                name(x.device()));
  const bool up = x.device() == Device::cpu;
  if (!is_pinned(up ? x : target))
    value_error(
        operation, ": ", up ? "x" : "target",
        " must be in page-locked memory (see ts.cuda.pin_memory): from other memory no copy is asynchronous");
  bool same = target.is_dense() && x.is_dense();
  for (int i = 0; i < x.ndim(); ++i)
    same &= x.shape(i) <= 1 || x.size() == 0 || x.stride(i) == target.stride(i);
  if (!same)
    value_error(operation, ": target and x must lie in memory alike and without gaps, got strides ",
                target.strides(), " and ", x.strides());
  host_read("copy_async", x.storage());
  const Out out = target;  // refuses read-only memory, and tells backward of the write
  const In in = x;
  if (x.size() == 0) return;
  const Accelerator& device = accelerator(Device::cuda);
  (up ? device.upload_later : device.download_later)(out.data, in.data, x.nbytes());
}

}  // namespace ts::ops
