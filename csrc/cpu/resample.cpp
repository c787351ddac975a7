// Images in another size: y[p, q] = sum_i u_i sum_j v_j x[h_i, w_j], a sparse matrix for each axis.
//
// A images (N, M) of B neighbouring numbers become (P, Q): B = 1 for channels first, the channels for
// channels last. Both sums are added as csr_matmul adds them, rows before columns, so the bits are those of
// two such products but for the sign of a 0, which is kept here: nearest neighbours are copies. The row of M
// numbers between the two stays in cache. Reads each x as often as it has a place in a row's sum, writes y
// once.
#include "cpu/csr.h"
#include "cpu/kernels.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

void resample2d(In row_starts, In rows, In row_values, In column_starts, In columns, In column_values, In x,
                Out y) {
  with_floating(x.dtype, [&]<class T>(Type<T>) {
    using I = std::int64_t;
    constexpr I kGrain = 1 << 14;  // elements of a piece
    const Matrix<T> down{row_starts.as<I>(), rows.as<I>(), row_values.as<T>(), T(-0.0)};
    const Matrix<T> across{column_starts.as<I>(), columns.as<I>(), column_values.as<T>(), T(-0.0)};
    const I A = y.shape[0], P = y.shape[1], Q = y.shape[2], B = y.shape[3], M = x.shape[2];
    LineTerms<T> terms;
    const bool lines = B == 1 && terms.make(across, Q, M, static_cast<char*>(scratch()), kScratchBytes / 2);
    // Each thread's row lies behind the terms, which lie in the caller's scratch.
    const I offset = lines ? terms.used() : 0;
    const bool fits = offset + M * B * static_cast<I>(sizeof(T)) <= static_cast<I>(kScratchBytes);
    parallel_ranges(A * P, kGrain / (Q * B) + 1, [&](I begin, I end) {
      T* const row = reinterpret_cast<T*>(static_cast<char*>(scratch()) + offset);
      for (I i = begin; i < end; ++i) {
        const I p = i % P;
        const T* const from = x.as<T>() + i / P * x.strides[0];
        T* const to = y.as<T>() + i / P * y.strides[0] + p * y.strides[1];
        if (!fits) {  // a row of 32 MiB: number by number
          for (I q = 0; q < Q * B; ++q) {
            T sum = across.starts[q / B] == across.starts[q / B + 1] ? T(0) : T(-0.0);
            for (I k = across.starts[q / B]; k < across.starts[q / B + 1]; ++k)
              sum = fma_one(across.value(k), down.one(p, from + across.columns[k] * B + q % B, x.strides[1]),
                            sum);
            to[q] = sum;
          }
          continue;
        }
        down.row(p, from, x.strides[1], row, M * B);
        if (lines) {
          terms(row, to);
        } else if (B == 1) {
          for (I q = 0; q < Q; ++q) to[q] = across.one(q, row, 1);
        } else {
          for (I q = 0; q < Q; ++q) across.row(q, row, B, to + q * B, B);
        }
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
