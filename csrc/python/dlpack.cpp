// DLPack 1.0 both ways: memory that another library sees, and memory of another library as ours.
//
// Export: a capsule holds the array until its consumer calls the deleter. Import: the storage holds the
// managed tensor and calls its deleter when the last view is gone. The structs are those of the DLPack
// specification.
#include "python/dlpack.h"

#include "core/dispatch.h"
#include "core/watch.h"
#include "python/autograd.h"
#include "python/convert.h"

namespace ts::python {

namespace {

struct DLDevice {
  std::int32_t type, id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
struct DLPackVersion {
  std::uint32_t major, minor;
};
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor tensor;
};

constexpr std::int32_t kCpu = 1, kCuda = 2;
constexpr std::uint64_t kReadOnly = 1, kCopied = 2;
constexpr std::uint8_t kInt = 0, kUnsigned = 1, kFloat = 2, kBrainFloat = 4, kComplex = 5, kBool = 6;

constexpr const char* kName = "dltensor";
constexpr const char* kUsed = "used_dltensor";
constexpr const char* kVersionedName = "dltensor_versioned";
constexpr const char* kUsedVersioned = "used_dltensor_versioned";

DLDataType describe(DType d) {
  const auto bits = static_cast<std::uint8_t>(8 * itemsize(d));
  switch (kind(d)) {
    case Kind::boolean:
      return {kBool, bits, 1};
    case Kind::unsigned_integer:
      return {kUnsigned, bits, 1};
    case Kind::signed_integer:
      return {kInt, bits, 1};
    case Kind::floating:
      return {d == DType::bfloat16 ? kBrainFloat : kFloat, bits, 1};
    default:
      return {kComplex, bits, 1};
  }
}

DType dtype_of(DLDataType t) {
  for (int i = 0; i < kDTypes; ++i) {
    const auto d = static_cast<DType>(i);
    const DLDataType ours = describe(d);
    if (ours.code == t.code && ours.bits == t.bits && t.lanes == 1) return d;
  }
  buffer_error("from_dlpack: elements of type code ", int{t.code}, " with ", int{t.bits}, " bits and ",
               t.lanes, " lanes have no dtype here");
}

// Before memory of the GPU goes back to whom it belongs: what either library has given any stream may still
// use it.
void wait_for(std::int32_t device_type) noexcept {
  if (device_type != kCuda) return;
  try {
    accelerator(Device::cuda).drain();
  } catch (...) {  // no library: it could not be loaded
  }
}

// An exported tensor: what the capsule points to, and what keeps it alive.
template <class Managed>
struct Export {
  Managed managed{};
  Array array;
  Shape shape, strides;
};

template <class Managed>
Managed* make_export(const Array& x) {
  auto* e = new Export<Managed>{{}, x, x.shape(), x.strides()};
  DLTensor& t = e->managed.tensor;
  t.data = x.data();
  t.device = {x.device() == Device::cpu ? kCpu : kCuda, 0};
  t.ndim = x.ndim();
  t.dtype = describe(x.dtype());
  t.shape = e->shape.data();
  t.strides = e->strides.data();
  t.byte_offset = 0;
  e->managed.context = e;
  e->managed.deleter = [](Managed* m) {
    wait_for(m->tensor.device.type);
    delete static_cast<Export<Managed>*>(m->context);
  };
  return &e->managed;
}

// Nobody took the capsule's tensor: it goes with the capsule.
template <class Managed>
void destroy_capsule(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (m->deleter) m->deleter(m);
}

// Calls the deleter, on whichever thread drops the last view.
template <class Managed>
void release_managed(void* owner) {
  if (!Py_IsInitialized()) return;
  auto* m = static_cast<Managed*>(owner);
  wait_for(m->tensor.device.type);
  const PyGILState_STATE state = PyGILState_Ensure();
  if (m->deleter) m->deleter(m);
  PyGILState_Release(state);
}

template <class Managed>
Array adopt(Managed* m, bool read_only) {
  const DLTensor& t = m->tensor;
  if ((t.device.type != kCpu && t.device.type != kCuda) || t.device.id != 0)
    buffer_error("from_dlpack: the memory is on device ", t.device.id, " of DLPack type ", t.device.type,
                 "; memory of the CPU (type 1) and of the first GPU (type 2) is taken over");
  const Device device = t.device.type == kCpu ? Device::cpu : Device::cuda;
  if (device == Device::cuda) accelerator(device);  // an error where there is none
  const DType dtype = dtype_of(t.dtype);
  if (t.ndim < 0 || t.ndim > kMaxRank)
    buffer_error("from_dlpack: ", t.ndim, " dimensions; at most ", kMaxRank, " are allowed");
  Shape shape(t.ndim), strides(t.ndim);
  for (int i = 0; i < t.ndim; ++i) {
    shape[i] = t.shape[i];
    if (shape[i] < 0) buffer_error("from_dlpack: dimension ", i, " is ", shape[i]);
  }
  const std::int64_t item = itemsize(dtype), size = checked_size("from_dlpack", shape, item);
  std::int64_t dense = 1, low = 0, high = 0;
  for (int i = t.ndim - 1; i >= 0; --i) {
    strides[i] = t.strides ? t.strides[i] : dense;
    dense *= shape[i];
    if (size > 0) (strides[i] < 0 ? low : high) += (shape[i] - 1) * strides[i];
  }
  char* const first = static_cast<char*>(t.data) + t.byte_offset;
  // The GPU loads whole numbers.
  const std::int64_t alignment = is_complex(dtype) && device == Device::cpu ? item / 2 : item;
  if (size > 0 && reinterpret_cast<std::uintptr_t>(first) % static_cast<std::uintptr_t>(alignment) != 0)
    buffer_error("from_dlpack: the memory is not aligned to the ", alignment, " bytes of ", name(dtype));
  Storage* storage = Storage::adopt(first + low * item, size > 0 ? (high - low + 1) * item : 0, read_only, m,
                                    release_managed<Managed>, device);
  return Array(StorageRef(storage), dtype, shape, strides, -low);
}

}  // namespace

// _to_dlpack(tensor, versioned, copied): a capsule.
PyObject* to_dlpack(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&]() -> PyObject* {
    if (count != 3 || !is_tensor(args[0])) type_error("to_dlpack(tensor, versioned, copied)");
    const Array& x = array_of(args[0]);
    if (tracks_gradient(args[0]) && g_grad_enabled)
      buffer_error(
          "__dlpack__: the tensor carries a gradient, which another library would lose; use .detach()");
    host_read("__dlpack__", x.storage());
    as_tensor(args[0])->shares_storage = true;
    if (args[1] == Py_True) {
      auto* m = make_export<DLManagedTensorVersioned>(x);
      m->version = {1, 0};
      m->flags = (x.read_only() ? kReadOnly : 0) | (args[2] == Py_True ? kCopied : 0);
      PyObject* capsule = PyCapsule_New(m, kVersionedName, [](PyObject* c) {
        destroy_capsule<DLManagedTensorVersioned>(c, kVersionedName);
      });
      if (!capsule) m->deleter(m);
      return capsule;
    }
    if (x.read_only())
      buffer_error("__dlpack__: read-only memory needs a versioned capsule; ask with max_version=(1, 0)");
    auto* m = make_export<DLManagedTensor>(x);
    PyObject* capsule =
        PyCapsule_New(m, kName, [](PyObject* c) { destroy_capsule<DLManagedTensor>(c, kName); });
    if (!capsule) m->deleter(m);
    return capsule;
  });
}

// _from_dlpack(capsule): (tensor, whether the producer copied).
PyObject* from_dlpack(PyObject*, PyObject* capsule) {
  return guarded([&]() -> PyObject* {
    if (!PyCapsule_CheckExact(capsule))
      type_error("from_dlpack: expected a DLPack capsule, got ", Py_TYPE(capsule)->tp_name);
    Ref tensor;
    bool copied = false;
    if (PyCapsule_IsValid(capsule, kVersionedName)) {
      auto* m = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, kVersionedName));
      if (m->version.major != 1)
        buffer_error("from_dlpack: DLPack version ", m->version.major, ".", m->version.minor,
                     " is not known here; 1.x is");
      copied = m->flags & kCopied;
      Array array = adopt(m, m->flags & kReadOnly);
      PyCapsule_SetName(capsule, kUsedVersioned);
      tensor = make_tensor(std::move(array));
    } else if (PyCapsule_IsValid(capsule, kName)) {
      auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, kName));
      Array array = adopt(m, false);
      PyCapsule_SetName(capsule, kUsed);
      tensor = make_tensor(std::move(array));
    } else {
      const char* name = PyCapsule_GetName(capsule);
      if (!name) PyErr_Clear();
      buffer_error("from_dlpack: the capsule is named '", name ? name : "",
                   "'; a capsule can be consumed once");
    }
    // The producer may write at any time.
    as_tensor(tensor.get())->shares_storage = true;
    return Py_BuildValue("(NO)", tensor.release(), copied ? Py_True : Py_False);
  });
}

}  // namespace ts::python
