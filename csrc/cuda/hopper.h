// What Hopper (compute capability 9.0, compiled for sm_90a) adds: barriers in shared memory that count bytes,
// copies of tiles by the copy engine (TMA), and products of warpgroups (wgmma).
//
// Compiled for anything else the functions do nothing: kernels that use them are not launched there. The
// tests' host build has a header of the same name and contents in plain C++.
#pragma once

#include "cuda/device.h"
#include "cuda/driver.h"

namespace ts::cuda {

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TS_HOPPER_PTX(...) asm volatile(__VA_ARGS__)
#else
#define TS_HOPPER_PTX(...)
#endif

// --- barriers ------------------------------------------------------------------------------------------

// Its phase ends when `arrivals` have come and all bytes that they announced; phases are told apart by
// parity, beginning with 0.
struct Barrier {
  std::uint64_t state;
};
__device__ __forceinline__ void barrier_start(Barrier* b, int arrivals) {
  TS_HOPPER_PTX("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(b)), "r"(arrivals)
                : "memory");
}
// After barrier_start and before __syncthreads: the copy engine sees them.
__device__ __forceinline__ void barriers_started() {
  TS_HOPPER_PTX("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(Barrier* b) {
  TS_HOPPER_PTX("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(b)) : "memory");
}
// Arrives, and announces bytes that copies will bring.
__device__ __forceinline__ void barrier_expect(Barrier* b, int bytes) {
  TS_HOPPER_PTX("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(b)),
                "r"(bytes)
                : "memory");
}
// Until the phase of this parity has ended.
__device__ __forceinline__ void barrier_wait(Barrier* b, int parity) {
  int done = 1;
  do {
    TS_HOPPER_PTX(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(shared_address(b)), "r"(parity)
        : "memory");
  } while (!done);
}

// --- the copy engine -----------------------------------------------------------------------------------

// A tensor of up to four axes and the box that one copy takes from it, the contiguous axis first.
struct alignas(64) TensorMap {
  std::uint64_t words[16];
};

// In boxes of 128 bytes x `rows` with the 128-byte swap: the 16-byte pieces of a row of 128 bytes
// are swapped by the row's number modulo 8. Elements outside are zeros. Strides (of axes 1 to 3, in bytes)
// and the address are multiples of 16. False where the driver does not take it.
inline bool encode_tensor_map(TensorMap& map, const void* data, DType number, const std::int64_t (&shape)[4],
                              const std::int64_t (&strides)[3], int rows) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  if (!encode) return false;
  cuuint64_t extents[4], pitches[3];
  std::int64_t bytes = shape[0] * itemsize(number);
  for (int i = 0; i < 4; ++i) extents[i] = static_cast<cuuint64_t>(shape[i]);
  for (int i = 0; i < 3; ++i) {
    pitches[i] = static_cast<cuuint64_t>(strides[i]);
    bytes += (shape[i + 1] - 1) * strides[i];
  }
  const cuuint32_t box[4] = {static_cast<cuuint32_t>(128 / itemsize(number)), static_cast<cuuint32_t>(rows),
                             1, 1},
                   steps[4] = {1, 1, 1, 1};
  const CUtensorMapDataType type = number == DType::bfloat16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                   : number == DType::float16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                              : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  CUtensorMap made;
  static_assert(sizeof made == sizeof map);
  if (encode(&made, type, 4, const_cast<void*>(data), extents, pitches, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    return false;
  memcpy(&map, &made, sizeof map);
  // Drivers up to 13.1 set a bit too many for small tensors.
  static const int driver = [] {
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
  }();
  if (driver <= 13010 && bytes < 131072) map.words[1] &= ~(std::uint64_t{1} << 21);
  return true;
}

__device__ __forceinline__ void prefetch_map(const TensorMap* map) {
  TS_HOPPER_PTX("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
}
// The box at (x, y, z, w), to 1024-byte aligned shared memory; its bytes arrive at the barrier.
__device__ __forceinline__ void copy_box(void* shared, const TensorMap* map, Barrier* b, int x, int y, int z,
                                         int w) {
  TS_HOPPER_PTX(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2];\n" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

// Whether a kernel has more than the empty body that other architectures get: a GPU of compute capability 9.0
// may be running code that was compiled for plain sm_90.
template <class... Params>
bool compiled_for_hopper(void (*kernel)(Params...)) {
  cudaFuncAttributes found;
  if (cudaFuncGetAttributes(&found, kernel) == cudaSuccess) return found.numRegs >= 64;
  cudaGetLastError();
  return false;
}

// --- products of warpgroups ----------------------------------------------------------------------------

// A tile in shared memory with the 128-byte swap, for wgmma: where a group of 8 rows of 128 bytes follows
// another one (1024 bytes), and for rows along M or N how far it is to the next 64 of them.
__device__ __forceinline__ std::uint64_t matrix_descriptor(const void* tile, int to_next_64) {
  return static_cast<std::uint64_t>((shared_address(tile) & 0x3ffff) >> 4) |
         static_cast<std::uint64_t>(to_next_64 >> 4) << 16 | std::uint64_t{1024 >> 4} << 32 |
         std::uint64_t{1} << 62;
}
// Before the first product of a group, and after registers of d were written: the products see them.
__device__ __forceinline__ void products_begin() {
  TS_HOPPER_PTX("wgmma.fence.sync.aligned;\n" ::: "memory");
}
// Those since the last commit are a group.
__device__ __forceinline__ void products_commit() {
  TS_HOPPER_PTX("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int kLeft>
__device__ __forceinline__ void products_wait() {
  TS_HOPPER_PTX("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kLeft) : "memory");
}
// Keeps the compiler from moving what it does with d across.
template <int kCount>
__device__ __forceinline__ void hold(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) TS_HOPPER_PTX("" : "+f"(d[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void hold(std::uint32_t (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) TS_HOPPER_PTX("" : "+r"(d[i])::"memory");
}

// d = a b, or d + a b where `add` is not 0, on 64 x N numbers, 32 bytes deep, by the four warps of a group:
// warp w has the rows 16 w on, laid out as the 16 x 8 fragments of mma.sync, d[4 j ...] the columns 8 j on.
// kTurn: the operand lies along M (N), as tf32 cannot.
#define TS_D8(i)                                                                              \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define TS_WGMMA_64(name, types, turns)                                                               \
  template <int kTurnA, int kTurnB>                                                                   \
  __device__ __forceinline__ void name(float(&d)[32], std::uint64_t a, std::uint64_t b, int add) {    \
    TS_HOPPER_PTX(                                                                                    \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                                  \
        "wgmma.mma_async.sync.aligned.m64n64" types                                                   \
        " "                                                                                           \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "                               \
        "%32, %33, p, 1, 1" turns ";\n}\n"                                                            \
        : TS_D8(0), TS_D8(8), TS_D8(16), TS_D8(24)                                                    \
        : "l"(a), "l"(b), "r"(add), "n"(kTurnA), "n"(kTurnB));                                        \
  }
#define TS_WGMMA_128(name, types, turns)                                                              \
  template <int kTurnA, int kTurnB>                                                                   \
  __device__ __forceinline__ void name(float(&d)[64], std::uint64_t a, std::uint64_t b, int add) {    \
    TS_HOPPER_PTX(                                                                                    \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                                  \
        "wgmma.mma_async.sync.aligned.m64n128" types                                                  \
        " "                                                                                           \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "  \
        "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "  \
        "%56, %57, %58, %59, %60, %61, %62, %63}, "                                                   \
        "%64, %65, p, 1, 1" turns ";\n}\n"                                                            \
        : TS_D8(0), TS_D8(8), TS_D8(16), TS_D8(24), TS_D8(32), TS_D8(40), TS_D8(48), TS_D8(56)        \
        : "l"(a), "l"(b), "r"(add), "n"(kTurnA), "n"(kTurnB));                                        \
  }
#define TS_WGMMA_192(name, types, turns)                                                                   \
  template <int kTurnA, int kTurnB>                                                                        \
  __device__ __forceinline__ void name(float(&d)[96], std::uint64_t a, std::uint64_t b, int add) {         \
    TS_HOPPER_PTX(                                                                                         \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"                                                       \
        "wgmma.mma_async.sync.aligned.m64n192" types                                                       \
        " "                                                                                                \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "  \
        "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, "  \
        "%59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, "  \
        "%78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "      \
        "%96, %97, p, 1, 1" turns ";\n}\n"                                                                 \
        : TS_D8(0), TS_D8(8), TS_D8(16), TS_D8(24), TS_D8(32), TS_D8(40), TS_D8(48), TS_D8(56), TS_D8(64), \
          TS_D8(72), TS_D8(80), TS_D8(88)                                                                  \
        : "l"(a), "l"(b), "r"(add), "n"(kTurnA), "n"(kTurnB));                                             \
  }
#define TS_WGMMA_256(name, types, turns)                                                                   \
  template <int kTurnA, int kTurnB>                                                                        \
  __device__ __forceinline__ void name(float(&d)[128], std::uint64_t a, std::uint64_t b, int add) {        \
    TS_HOPPER_PTX(                                                                                         \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                                      \
        "wgmma.mma_async.sync.aligned.m64n256" types                                                       \
        " "                                                                                                \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "      \
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "       \
        "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "       \
        "%56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, "       \
        "%74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, "       \
        "%92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, "         \
        "%108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, "       \
        "%123, %124, %125, %126, %127}, "                                                                  \
        "%128, %129, p, 1, 1" turns ";\n}\n"                                                               \
        : TS_D8(0), TS_D8(8), TS_D8(16), TS_D8(24), TS_D8(32), TS_D8(40), TS_D8(48), TS_D8(56), TS_D8(64), \
          TS_D8(72), TS_D8(80), TS_D8(88), TS_D8(96), TS_D8(104), TS_D8(112), TS_D8(120)                   \
        : "l"(a), "l"(b), "r"(add), "n"(kTurnA), "n"(kTurnB));                                             \
  }
TS_WGMMA_64(warpgroup_multiply_bfloat16, "k16.f32.bf16.bf16", ", %35, %36")
TS_WGMMA_64(warpgroup_multiply_float16, "k16.f32.f16.f16", ", %35, %36")
TS_WGMMA_128(warpgroup_multiply_bfloat16, "k16.f32.bf16.bf16", ", %67, %68")
TS_WGMMA_128(warpgroup_multiply_float16, "k16.f32.f16.f16", ", %67, %68")
TS_WGMMA_128(warpgroup_multiply_tf32, "k8.f32.tf32.tf32", "")
TS_WGMMA_192(warpgroup_multiply_bfloat16, "k16.f32.bf16.bf16", ", %99, %100")
TS_WGMMA_192(warpgroup_multiply_float16, "k16.f32.f16.f16", ", %99, %100")
TS_WGMMA_192(warpgroup_multiply_tf32, "k8.f32.tf32.tf32", "")
TS_WGMMA_256(warpgroup_multiply_bfloat16, "k16.f32.bf16.bf16", ", %131, %132")
TS_WGMMA_256(warpgroup_multiply_float16, "k16.f32.f16.f16", ", %131, %132")
TS_WGMMA_256(warpgroup_multiply_tf32, "k8.f32.tf32.tf32", "")

// d += a b with 16 numbers of each row of a in registers, as mma.sync has them: they must stay until the
// products have been waited for.
#define TS_WGMMA_LEFT_64(name, types)                                                                 \
  template <int kTurnB>                                                                               \
  __device__ __forceinline__ void name(float(&d)[32], std::uint32_t(&a)[4], std::uint64_t b) {        \
    TS_HOPPER_PTX(                                                                                    \
        "{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\nwgmma.mma_async.sync.aligned.m64n64" types           \
        " "                                                                                           \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "                               \
        "{%32, %33, %34, %35}, %36, p, 1, 1, %37;\n}\n"                                               \
        : TS_D8(0), TS_D8(8), TS_D8(16), TS_D8(24)                                                    \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kTurnB));                           \
  }
#define TS_WGMMA_LEFT_128(name, types)                                                                \
  template <int kTurnB>                                                                               \
  __device__ __forceinline__ void name(float(&d)[64], std::uint32_t(&a)[4], std::uint64_t b) {        \
    TS_HOPPER_PTX(                                                                                    \
        "{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\nwgmma.mma_async.sync.aligned.m64n128" types          \
        " "                                                                                           \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "  \
        "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "  \
        "%56, %57, %58, %59, %60, %61, %62, %63}, "                                                   \
        "{%64, %65, %66, %67}, %68, p, 1, 1, %69;\n}\n"                                               \
        : TS_D8(0), TS_D8(8), TS_D8(16), TS_D8(24), TS_D8(32), TS_D8(40), TS_D8(48), TS_D8(56)        \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kTurnB));                           \
  }
TS_WGMMA_LEFT_64(warpgroup_accumulate_bfloat16, "k16.f32.bf16.bf16")
TS_WGMMA_LEFT_64(warpgroup_accumulate_float16, "k16.f32.f16.f16")
TS_WGMMA_LEFT_128(warpgroup_accumulate_bfloat16, "k16.f32.bf16.bf16")
TS_WGMMA_LEFT_128(warpgroup_accumulate_float16, "k16.f32.f16.f16")
#undef TS_WGMMA_LEFT_64
#undef TS_WGMMA_LEFT_128
#undef TS_WGMMA_64
#undef TS_WGMMA_128
#undef TS_WGMMA_192
#undef TS_WGMMA_256
#undef TS_D8

// Registers of this warpgroup's threads, which all call it: some for those who copy, more for those who
// multiply.
template <int kCount>
__device__ __forceinline__ void fewer_registers() {
  TS_HOPPER_PTX("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void more_registers() {
  TS_HOPPER_PTX("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kCount));
}

#undef TS_HOPPER_PTX

}  // namespace ts::cuda
