// The table of this SIMD level: every kernel of kernels.def, by address.
#include "cpu/kernels.h"

namespace ts::cpu {

#define TS_TABLE_baseline kBaselineKernels
#define TS_TABLE_avx2 kAvx2Kernels
#define TS_TABLE_avx512 kAvx512Kernels
#define TS_TABLE_OF(isa) TS_TABLE_##isa
#define TS_TABLE(isa) TS_TABLE_OF(isa)

extern const Kernels TS_TABLE(TS_ISA);
constinit const Kernels TS_TABLE(TS_ISA) = {
#define KERNEL(name, ...) &TS_ISA::name,
#include "core/kernels.def"
};

}  // namespace ts::cpu
