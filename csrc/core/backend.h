// A backend is a table of kernels: a struct of function pointers, one per line of kernels.def.
//
// Safe to include from every SIMD level: plain data only.
#pragma once

#include <cstdint>

#include "core/view.h"

namespace ts {

enum class Activation : std::uint8_t { none, relu };

struct Conv2d {
  std::int64_t stride[2], padding[2], dilation[2], groups;
};
struct Pool2d {
  std::int64_t kernel[2], stride[2], padding[2], dilation[2];
  bool count_include_pad;  // average only
  std::int64_t divisor;    // average only; 0: the size of the window
};

// Options that do not change between steps; rates and step counts are in `hyper`.
struct Sgd {
  bool nesterov, maximize, has_momentum;
};
struct Adam {
  bool decoupled, amsgrad, maximize;
};
struct RmsProp {
  bool centered, maximize, has_momentum;
};
struct Adagrad {
  bool maximize;
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

}  // namespace ts
