// A backend is a table of kernels: a struct of function pointers, one per line of kernels.def.
//
// Safe to include from every SIMD level: plain data only.
#pragma once

#include <cstdint>

#include "core/view.h"

namespace ts {

enum class Activation : std::uint8_t { none, relu };

// What multiplies bfloat16 numbers: AMX tiles, vdpbf16ps, or float32 after a conversion.
enum class Bf16Engine : std::uint8_t { float32, avx512_bf16, amx };

enum class Combine : std::uint8_t { product, maximum, minimum };

// Where a point outside of the image reads: nowhere, at the border, or mirrored at it.
enum class GridPadding : std::uint8_t { zeros, border, reflection };
struct GridSample {
  bool nearest;  // else bilinear
  GridPadding padding;
  bool align;  // -1 and 1 are the centres of the outer pixels, not their edges
};

struct Conv2d {
  std::int64_t stride[2], padding[2], dilation[2], groups;
  std::int64_t winograd;  // 1: 3 x 3 filters of many channels by it, where the kernel can
};
struct Conv3d {
  std::int64_t stride[3], padding[3], dilation[3], groups;
};
struct Pool2d {
  std::int64_t kernel[2], stride[2], padding[2], dilation[2];
  bool count_include_pad;  // average only
  std::int64_t divisor;    // average only; 0: the size of the window
};

struct Attention {
  double scale, dropout;
  std::int64_t left, right;  // keys seen before and after a query's own position; -1: all
  Bf16Engine engine;         // of bfloat16 operands on the CPU; never float32 there
};
// Keys are cut into this many chunks of backward work, whose shares of dq are added in order. By S alone.
constexpr std::int64_t attention_chunks(std::int64_t s) {
  return s > 8192 ? 8 : s > 1024 ? (s + 1023) / 1024 : 1;
}

// The keys of bfloat16 operands that backward packs at once, beside their gradients in L2. By features alone.
constexpr std::int64_t attention_keys_bf16(std::int64_t d, std::int64_t e) {
  const std::int64_t fit = (1 << 20) / ((d + 31) / 32 * 256 + (e + 31) / 32 * 192) / 128 * 128;
  return fit < 128 ? 128 : fit > 1024 ? 1024 : fit;
}

enum class Cell : std::uint8_t { tanh, relu, lstm, gru };
struct Recurrent {
  Cell cell;
  bool reverse;  // from the last step to the first
};
// Bytes that recurrent_bf16 packs a weight of G gates into: squares of 32 x 32 bfloat16 numbers, or panels of
// float32.
constexpr std::int64_t recurrent_bf16_workspace(std::int64_t gates, std::int64_t h) {
  const std::int64_t padded = (h + 31) / 32 * 32, float32 = (h + 16) * (gates * h + 16) * 4;
  return gates * padded * padded * 2 > float32 ? gates * padded * padded * 2 : float32;
}

// Options that do not change between steps; rates and step counts are in `hyper`.
struct Sgd {
  bool nesterov, maximize, has_momentum;
};
struct Adam {
  bool decoupled, amsgrad, maximize, plain_eps;
};
struct Adamax {
  bool maximize;
};
struct NAdam {
  bool decoupled, maximize;
};
struct RAdam {
  bool decoupled, maximize;
};
struct Lamb {
  bool maximize;
};
struct RmsProp {
  bool centered, maximize, has_momentum;
};
struct Adagrad {
  bool maximize;
};
struct Adadelta {
  bool maximize;
};
struct Lion {
  bool maximize;
};
struct Rprop {
  bool maximize;
};
struct Asgd {
  bool maximize;
};

// The transform of a row of `length` complex numbers in passes of these radices. A real row (even length) is
// half as many complex numbers.
struct Fft {
  enum Kind : std::uint8_t { complex, from_real, to_real } kind;
  bool inverse;
  std::int32_t passes;
  std::int64_t length, ends;  // ends: where the roots of a real row begin in the twiddle table
  double scale;
  std::uint8_t radix[64];
};

struct Kernels {
#define KERNEL(name, ...) void (*name)(__VA_ARGS__);
#include "core/kernels.def"
};

enum class Kernel : std::uint16_t {
#define KERNEL(name, ...) name,
#include "core/kernels.def"
  count
};

const char* name(Kernel kernel);

// Which line of kernels.def a member is: the table holds nothing but pointers of one size.
template <class Pointer>
Kernel id(Pointer Kernels::*member) {
  return static_cast<Kernel>(__builtin_bit_cast(std::intptr_t, member) /
                             static_cast<std::intptr_t>(sizeof(Pointer)));
}

// --- an accelerator's library ------------------------------------------------------------------------

struct DeviceProperties {
  char name[256];
  std::int32_t major, minor;  // compute capability
  std::int32_t multiprocessors;
  std::int32_t driver, runtime;                  // CUDA versions, 1000 major + 10 minor
  std::int64_t memory, l2_cache, shared_memory;  // bytes; shared: the most that a block can have
};
struct DeviceMemory {
  std::int64_t live_bytes, peak_bytes, cached_bytes, system_bytes, live_blocks, allocations;
  std::int64_t pinned_bytes;  // page-locked memory of the host, live or cached
};

// How float32 products are computed on the accelerator. ieee: every product and sum rounded as float32
// (fused); split: operands as sums of bfloat16 numbers on the tensor cores, no less exact; tf32: operands
// rounded to 11 bits; bfloat16: to 8.
enum class MatmulPrecision : std::uint8_t { ieee, split, tf32, bfloat16 };

// What the library calls in the core: each throws, through the library's frames.
struct Host {
  void (*memory_error)(const char* message);
  void (*runtime_error)(const char* message);
  void (*not_implemented_error)(const char* message);
  void (*index_error)(const char* message);
};

// The table that the library's only symbol, `tensorsmith_accelerator`, returns. Work is ordered by the
// current stream, which is one of each thread's; `upload` and `download` return when the memory may be
// touched. Handles of streams, events and graphs are the library's; a null stream is the one that `open`
// made.
struct Accelerator {
  std::uint64_t abi;  // kAbi of the headers that it was compiled with
  Kernels kernels;
  // Called once, before anything else: null, or why there is no device to compute on.
  const char* (*open)(const Host* host);
  void* (*allocate)(std::int64_t bytes);
  void (*deallocate)(void* block, std::int64_t bytes) noexcept;
  void (*upload)(void* to, const void* from, std::int64_t bytes);
  void (*download)(void* to, const void* from, std::int64_t bytes);
  void (*synchronize)();
  void (*drain)() noexcept;  // synchronize that tells of nothing, and does nothing within a capture
  void (*properties)(DeviceProperties* out);
  void (*memory)(DeviceMemory* out);
  void (*reset_peak)();
  void (*empty_cache)();

  void* (*stream_create)(bool urgent);
  void (*stream_destroy)(void* stream) noexcept;  // waits for it
  void* (*stream_current)();
  void (*stream_set)(void* stream);  // this thread's, from now on
  void (*stream_synchronize)(void* stream);
  bool (*stream_done)(void* stream);
  void* (*stream_handle)(void* stream);  // the driver's

  void* (*event_create)(bool timing);
  void (*event_destroy)(void* event) noexcept;
  void (*event_record)(void* event, void* stream);
  void (*event_wait)(void* event, void* stream);  // what the stream gets later waits for the event
  void (*event_synchronize)(void* event);
  bool (*event_done)(void* event);
  double (*event_elapsed)(void* begin, void* end);  // milliseconds

  // Page-locked memory, and copies that return at once: the caller keeps both ends until the stream is there.
  void* (*allocate_pinned)(std::int64_t bytes);
  void (*deallocate_pinned)(void* block) noexcept;
  bool (*pinned)(const void* block);
  void (*upload_later)(void* to, const void* from, std::int64_t bytes);
  void (*download_later)(void* to, const void* from, std::int64_t bytes);
  void (*copy)(void* to, const void* from, std::int64_t bytes);  // both on the device

  // Between begin and end this thread's launches, copies and allocations on its current stream are recorded,
  // not made; a download is an error. Memory allocated between them stays the graph's until it is destroyed.
  void (*capture_begin)();
  void* (*capture_end)();  // the graph
  void (*capture_abandon)() noexcept;
  bool (*capturing)();                // this thread, between begin and end
  void (*graph_launch)(void* graph);  // on the current stream
  void (*graph_destroy)(void* graph) noexcept;

  void (*set_matmul_precision)(MatmulPrecision precision);
  MatmulPrecision (*matmul_precision)();
};
using AcceleratorEntry = const Accelerator* (*)();
constexpr const char* kAcceleratorSymbol = "tensorsmith_accelerator";

// A hash of every kernel's signature and of the shapes that cross the border.
consteval std::uint64_t abi_stamp() {
  const char* signatures[] = {
#define KERNEL(name, ...) #name "(" #__VA_ARGS__ ")",
#include "core/kernels.def"
  };
  std::uint64_t hash = 14695981039346656037ull;
  for (const char* text : signatures)
    for (; *text; ++text) hash = (hash ^ static_cast<unsigned char>(*text)) * 1099511628211ull;
  const std::uint64_t sizes[] = {
      sizeof(View),        sizeof(Conv2d),           sizeof(Pool2d),      sizeof(Sgd), sizeof(Adam),
      sizeof(RmsProp),     sizeof(Adagrad),          sizeof(Attention),   sizeof(Fft), sizeof(Host),
      sizeof(Accelerator), sizeof(DeviceProperties), sizeof(DeviceMemory)};
  for (std::uint64_t size : sizes) hash = (hash ^ size) * 1099511628211ull;
  return hash;
}
constexpr std::uint64_t kAbi = abi_stamp();

}  // namespace ts
