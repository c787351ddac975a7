#include "core/dispatch.h"

#include <cstdlib>
#include <string>

#include "core/error.h"

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

}  // namespace

const SimdLevel& simd_level() { return choice().level; }

const Kernels& kernels(Device device) {
  if (device != Device::cpu) runtime_error("device cuda: this build has no CUDA backend");
  return *choice().table;
}

const char* name(Kernel kernel) { return kNames[static_cast<int>(kernel)]; }

}  // namespace ts
