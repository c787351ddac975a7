// The library's one symbol: the table of kernels and of the runtime's functions.
#include "cuda/kernels.h"
#include "cuda/runtime.h"

namespace ts::cuda {
namespace {

// Stands in the table where no file defines the kernel.
template <Kernel kernel, class... Params>
struct Missing {
  static void run(Params...) {
    static constexpr const char* names[] = {
#define KERNEL(name, ...) #name,
#include "core/kernels.def"
    };
    not_implemented(names[static_cast<int>(kernel)], "it has no CUDA kernel yet; compute it on the CPU");
  }
};
template <Kernel kernel, class... Params>
auto or_missing(void (*f)(Params...)) {
  return f ? f : &Missing<kernel, Params...>::run;
}

}  // namespace
}  // namespace ts::cuda

extern "C" __attribute__((visibility("default"))) const ts::Accelerator* tensorsmith_accelerator() {
  using namespace ts;
  static const Accelerator table = {
      kAbi,
      {
#define KERNEL(name, ...) cuda::or_missing<Kernel::name>(&cuda::name),
#include "core/kernels.def"
      },
      cuda::open,
      cuda::allocate,
      cuda::deallocate,
      cuda::upload,
      cuda::download,
      cuda::synchronize,
      cuda::drain,
      cuda::properties,
      cuda::memory_stats,
      cuda::reset_peak,
      cuda::empty_cache,
      cuda::stream_create,
      cuda::stream_destroy,
      cuda::stream_current,
      cuda::stream_set,
      cuda::stream_synchronize,
      cuda::stream_done,
      cuda::stream_handle,
      cuda::event_create,
      cuda::event_destroy,
      cuda::event_record,
      cuda::event_wait,
      cuda::event_synchronize,
      cuda::event_done,
      cuda::event_elapsed,
      cuda::allocate_pinned,
      cuda::deallocate_pinned,
      cuda::pinned,
      cuda::upload_later,
      cuda::download_later,
      cuda::copy,
      cuda::capture_begin,
      cuda::capture_end,
      cuda::capture_abandon,
      [] { return cuda::capturing() != nullptr; },
      cuda::graph_launch,
      cuda::graph_destroy,
      cuda::set_matmul_precision,
      cuda::matmul_precision,
  };
  return &table;
}
