#include "core/dispatch.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/launch.h"

namespace ts {

namespace cpu {
// Weak: a build may leave levels out (TENSORSMITH_LEVELS), and their tables are null then.
[[gnu::weak]] extern const Kernels kBaselineKernels, kAvx2Kernels, kAvx512Kernels;
}  // namespace cpu

namespace {

struct Level {
  const char* name;
  const Kernels* table;
  bool supported;
  const char* missing;
};

// __builtin_cpu_supports asks CPUID and XGETBV, so a level that the system does not save is not offered.
const Level* levels() {
  static const Level all[] = {
      {"avx512", &cpu::kAvx512Kernels,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"),
       "AVX-512 F, BW, DQ and VL"},
      {"avx2", &cpu::kAvx2Kernels,
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"),
       "AVX2, FMA and BMI2"},
      {"baseline", &cpu::kBaselineKernels, true, ""},
  };
  return all;
}

struct Choice {
  SimdLevel level;
  const Kernels* table;
};

Choice choose() {
  const Level* all = levels();
  if (const char* wanted = std::getenv("TENSORSMITH_ISA"); wanted && *wanted) {
    for (int i = 0; i < 3; ++i) {
      if (std::string(wanted) != all[i].name) continue;
      if (!all[i].table) value_error("TENSORSMITH_ISA=", wanted, ": this build left that level out");
      if (!all[i].supported) value_error("TENSORSMITH_ISA=", wanted, ": this machine lacks ", all[i].missing);
      return {{all[i].name, "pinned by TENSORSMITH_ISA"}, all[i].table};
    }
    value_error("TENSORSMITH_ISA must be baseline, avx2 or avx512, got '", wanted, "'");
  }
  for (int i = 0; i < 3; ++i)
    if (all[i].table && all[i].supported)
      return {{all[i].name, i == 0   ? "the CPU has AVX-512 F, BW, DQ and VL"
                            : i == 1 ? "the CPU has AVX2 and FMA, not all of AVX-512 F, BW, DQ and VL"
                                     : "the CPU lacks AVX2 or FMA"},
              all[i].table};
  runtime_error("this build has no SIMD level that this machine supports");
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

constexpr const char* kNames[] = {
#define KERNEL(name, ...) #name,
#include "core/kernels.def"
};

// --- the accelerator's library -----------------------------------------------------------------------

const Host kHost = {
    [](const char* message) { memory_error(message); },
    [](const char* message) { runtime_error(message); },
    [](const char* message) { not_implemented_error(message); },
};

struct Loaded {
  const Accelerator* library = nullptr;  // null: `reason` says why
  std::string reason;
};

// Beside the extension module, or where TENSORSMITH_CUDA_LIBRARY says.
std::string library_path() {
  if (const char* path = std::getenv("TENSORSMITH_CUDA_LIBRARY"); path && *path) return path;
  Dl_info self;
  if (!dladdr(&kHost, &self) || !self.dli_fname) return "libtensorsmith_cuda.so";
  const std::string module = self.dli_fname;
  return module.substr(0, module.rfind('/') + 1) + "libtensorsmith_cuda.so";
}

Loaded load_library() {
  const std::string path = library_path();
  if (access(path.c_str(), R_OK) != 0)
    return {nullptr, "this build has CPU kernels only: there is no " + path};
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return {nullptr, std::string("the library does not load: ") + dlerror()};
  const auto entry = reinterpret_cast<AcceleratorEntry>(dlsym(handle, kAcceleratorSymbol));
  if (!entry) return {nullptr, path + " is not a library of tensorsmith's: it lacks " + kAcceleratorSymbol};
  const Accelerator* library = entry();
  if (library->abi != kAbi)
    return {nullptr, path + " was built from other sources than this core; build both again"};
  if (const char* missing = library->open(&kHost)) return {nullptr, missing};
  DeviceProperties device;
  library->properties(&device);
  return {library, std::string(device.name) + ", compute capability " + std::to_string(device.major) + "." +
                       std::to_string(device.minor)};
}

const Loaded& loaded() {
  static const Loaded result = [] {
    try {
      return load_library();
    } catch (const std::exception& e) {
      return Loaded{nullptr, e.what()};
    }
  }();
  return result;
}

}  // namespace

const SimdLevel& simd_level() { return choice().level; }

const Kernels& kernels(Device device) {
  return device == Device::cpu ? *choice().table : accelerator(device).kernels;
}

const Accelerator& accelerator(Device device) {
  const Loaded& cuda = loaded();
  if (!cuda.library) runtime_error("device ", name(device), " is not available: ", cuda.reason);
  return *cuda.library;
}

AcceleratorState accelerator_state() {
  const Loaded& cuda = loaded();
  return {cuda.library != nullptr, cuda.reason.c_str()};
}

const Kernels& detail::table_of(unsigned devices, Kernel kernel) {
  if (devices != 1u << static_cast<int>(Device::cuda))
    runtime_error(name(kernel), ": some operands are on cpu, others on cuda; move them with .to()");
  return kernels(Device::cuda);
}

const char* name(Kernel kernel) { return kNames[static_cast<int>(kernel)]; }

}  // namespace ts
