#include "core/dispatch.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <sys/syscall.h>
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

// --- bfloat16 -----------------------------------------------------------------------------------------

bool has_avx512_bf16() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

// AMX tiles and their bfloat16 products in the CPU, saved by the system (XCR0), and granted to this process:
// Linux hands out the 8 KiB of state a thread only to those that ask.
bool has_amx() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 22 & 1)) return false;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // OSXSAVE
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low >> 17 & 3) != 3) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Bf16Choice choose_bf16() {
  constexpr Bf16Choice kFloat32{Bf16Engine::float32, "float32", ""},
      kAvx512{Bf16Engine::avx512_bf16, "avx512_bf16", ""}, kAmx{Bf16Engine::amx, "amx", ""};
  const auto because = [](Bf16Choice c, const char* reason) {
    c.reason = reason;
    return c;
  };
  const bool level = std::string(choice().level.name) == "avx512";
  if (const char* wanted = std::getenv("TENSORSMITH_BF16"); wanted && *wanted) {
    const std::string engine = wanted;
    constexpr const char* kPinned = "pinned by TENSORSMITH_BF16";
    if (engine == kFloat32.name) return because(kFloat32, kPinned);
    if (engine != kAvx512.name && engine != kAmx.name)
      value_error("TENSORSMITH_BF16 must be float32, avx512_bf16 or amx, got '", wanted, "'");
    if (!level)
      value_error("TENSORSMITH_BF16=", wanted, " needs the SIMD level avx512; this is ", choice().level.name);
    if (!has_avx512_bf16()) value_error("TENSORSMITH_BF16=", wanted, ": this machine lacks AVX512_BF16");
    if (engine == kAvx512.name) return because(kAvx512, kPinned);
    if (!has_amx()) value_error("TENSORSMITH_BF16=amx: this machine lacks AMX, or its system withholds it");
    return because(kAmx, kPinned);
  }
  if (!level) return because(kFloat32, "the SIMD level is below avx512");
  if (!has_avx512_bf16()) return because(kFloat32, "the CPU lacks AVX512_BF16");
  if (!has_amx())
    return because(kAvx512, "the CPU has AVX512_BF16; AMX is missing or withheld by the system");
  return because(kAmx, "the CPU has AMX and the system grants it");
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
    [](const char* message) { index_error(message); },
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

const Bf16Choice& bf16_engine() {
  static const Bf16Choice chosen = choose_bf16();
  return chosen;
}

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
