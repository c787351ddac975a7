// What the CUDA language spells in its own way: launches, dynamic shared memory, asynchronous copies, and the
// matrix instructions of compute capability 8.0.
//
// The tests' host build has a header of the same name and contents in plain C++.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ts::cuda {

template <class... Params, class... Args>
void launch_on(cudaStream_t stream, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared,
               const Args&... args) {
  kernel<<<grid, block, shared, stream>>>(args...);
}

__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  return shared_bytes;
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define TS_PTX(...) asm volatile(__VA_ARGS__)
#else  // kernels that use them are not launched there
#define TS_PTX(...)
#endif

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Keeps the compiler from computing ahead what depends on x, which would fill the registers.
__device__ __forceinline__ void computed_here(int& x) { TS_PTX("" : "+r"(x)); }
template <class T>
__device__ __forceinline__ void computed_here(const T*& x) {
  TS_PTX("" : "+l"(x));
}

// 16 bytes from global to shared memory, of which the last 16 - bytes become 0 without being read. They are
// there after wait_copies, for the thread that copied them.
__device__ __forceinline__ void copy_async(void* shared, const void* from, int bytes) {
  TS_PTX("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(from),
         "r"(bytes)
         : "memory");
}
// Those since the last commit are a group.
__device__ __forceinline__ void commit_copies() { TS_PTX("cp.async.commit_group;\n" ::: "memory"); }
// Waits for all groups but the `kLeft` youngest.
template <int kLeft>
__device__ __forceinline__ void wait_copies() {
  TS_PTX("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}

// Four matrices of 8 rows of 16 bytes in shared memory: lane 8 i + r says where row r of matrix i lies. Lane
// l gets, in r[i], the 4 bytes at row l / 4, bytes 4 (l % 4) of matrix i.
__device__ __forceinline__ void load_matrices(std::uint32_t (&r)[4], const void* row) {
  TS_PTX("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
         : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
         : "r"(shared_address(row))
         : "memory");
}
// The same for matrices of 16-bit numbers, transposed: lane l gets the numbers at rows 2 (l % 4) and
// 2 (l % 4) + 1 of column l / 4.
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&r)[4], const void* row) {
  TS_PTX("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
         : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
         : "r"(shared_address(row))
         : "memory");
}

// d += a b on 16 x 8 numbers, with g = lane / 4, t = lane % 4:
//   d[0], d[1]: row g, columns 2t, 2t + 1; d[2], d[3]: row g + 8
// and for 16-bit numbers, 16 deep, two in a register:
//   a[0]: row g, k = 2t, 2t + 1; a[1]: row g + 8; a[2], a[3]: the same with k + 8
//   b0: column g, k = 2t, 2t + 1; b1: k + 8
// and for tf32, 8 deep: a[0]: row g, k = t; a[1]: row g + 8; a[2], a[3]: k + 4; b0: column g, k = t; b1: k
// + 4.
#define TS_MULTIPLY(name, shape_and_types)                                                         \
  __device__ __forceinline__ void name(float(&d)[4], const std::uint32_t(&a)[4], std::uint32_t b0, \
                                       std::uint32_t b1) {                                         \
    TS_PTX("mma.sync.aligned." shape_and_types                                                     \
           " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"                    \
           : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                        \
           : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                        \
  }
TS_MULTIPLY(multiply_bfloat16, "m16n8k16.row.col.f32.bf16.bf16.f32")
TS_MULTIPLY(multiply_float16, "m16n8k16.row.col.f32.f16.f16.f32")
TS_MULTIPLY(multiply_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef TS_MULTIPLY

// A float32's bits rounded to tf32, half away from zero.
__device__ __forceinline__ std::uint32_t round_tf32(std::uint32_t x) {
  std::uint32_t y = x;
  TS_PTX("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(y) : "r"(x));
  return y;
}

// Two numbers rounded half to even, `low` in the lower half; of a NaN it keeps that it is one.
__device__ __forceinline__ std::uint32_t pack_bfloat16(float low, float high) {
  std::uint32_t y = 0;
  TS_PTX("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
__device__ __forceinline__ std::uint32_t pack_float16(float low, float high) {
  std::uint32_t y = 0;
  TS_PTX("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

// 2^x to 2 ULP, subnormal results as 0.
__device__ __forceinline__ float exp2_near(float x) {
  float y = 0;
  TS_PTX("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

#undef TS_PTX

}  // namespace ts::cuda
