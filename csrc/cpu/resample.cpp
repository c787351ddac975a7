// Images in another size: y[p, q] = sum_i u_i sum_j v_j x[h_i, w_j], a sparse matrix for each axis.
//
// A images (N, M) of B neighbouring numbers become (P, Q): B = 1 for channels first, the channels for
// channels last. Both sums are added as csr_matmul adds them, rows before columns, so the bits are those of
// two such products but for the sign of a 0, which is kept here: nearest neighbours are copies. The row of M
// numbers between the two stays in cache, in float32 where x and y are halves. Reads each x as often as it
// has a place in a row's sum, writes y once.
#include "cpu/csr.h"
#include "cpu/kernels.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

void resample2d(In row_starts, In rows, In row_values, In column_starts, In columns, In column_values, In x,
                Out y) {
  with_stored(x.dtype, [&]<class S>(Type<S>) {
    using T = Computed<S>;
    using I = std::int64_t;
    constexpr I kGrain = 1 << 15;  // terms of a piece
    const Matrix<T> rows_of_x{row_starts.as<I>(), rows.as<I>(), row_values.as<T>(), T(-0.0)};
    const Matrix<T> columns_of_row{column_starts.as<I>(), columns.as<I>(), column_values.as<T>(), T(-0.0)};
    const I A = y.shape[0], P = y.shape[1], Q = y.shape[2], B = y.shape[3], M = x.shape[2];
    LineTerms<T> shared_terms;
    const bool lines =
        B == 1 && shared_terms.make(columns_of_row, Q, M, static_cast<char*>(scratch()), kScratchBytes / 2);
    // Each thread's row lies behind the terms, which lie in the caller's scratch; pages behind, or the
    // others, which read the terms ahead, would fetch the lines that the caller writes its row to.
    constexpr I kApart = 8192;
    const I offset = lines ? (shared_terms.used() + 2 * kApart - 1) / kApart * kApart : 0;
    // Lines are taken four rows at a time.
    constexpr int R = 4;
    const I pitch = (M * B + 15) / 16 * 16;
    const bool fits = offset + R * pitch * static_cast<I>(sizeof(T)) <= static_cast<I>(kScratchBytes);
    const I work = ((rows.shape[0] / P + 1) * M + columns.shape[0] + Q) * B;  // of a row of y
    parallel_ranges(A * P, (kGrain / work + R) / R * R, [&](I begin, I end) {
      // Copies: what the caller's stack holds beside the originals changes while others read them.
      const Matrix<T> down = rows_of_x, across = columns_of_row;
      const LineTerms<T> terms = shared_terms;
      T* const row = reinterpret_cast<T*>(static_cast<char*>(scratch()) + offset);
      const auto source = [&](I i) { return x.as<S>() + i / P * x.strides[0]; };
      const auto target = [&](I i) { return y.as<S>() + i / P * y.strides[0] + i % P * y.strides[1]; };
      I i = begin;
      if (lines && fits && terms.is_plain()) {
        // A few rows, then their results: a load from what was stored a moment ago, to other bounds, would
        // wait.
        const T* line[R];
        S* to[R];
        while (i < end) {
          const I rows = end - i < R ? end - i : R;
          for (I r = 0; r < rows; ++r) {
            to[r] = target(i + r);
            line[r] = nullptr;
            if constexpr (!is_half_type<S>)
              if (!terms.reads_behind()) line[r] = down.copied((i + r) % P, source(i + r), x.strides[1]);
            if (line[r]) continue;
            T* const mine = row + r * pitch;
            down.row((i + r) % P, source(i + r), x.strides[1], mine, M);
            line[r] = mine;
          }
          i += rows;
          I r = 0;
          for (; r + 2 <= rows; r += 2) terms.template plain<2>(line + r, to + r);
          if (r < rows) terms.template plain<1>(line + r, to + r);
        }
      } else if (lines && fits) {
        for (; i + R <= end; i += R) {
          for (I r = 0; r < R; ++r) down.row((i + r) % P, source(i + r), x.strides[1], row + r * pitch, M);
          if (target(i + R - 1) - target(i) == (R - 1) * Q) {
            terms.template apply<R>(row, pitch, target(i), Q);
          } else {
            for (I r = 0; r < R; ++r) terms(row + r * pitch, target(i + r));
          }
        }
      }
      for (; i < end; ++i) {
        const I p = i % P;
        const S* const from = source(i);
        S* const to = target(i);
        if (!fits) {  // rows of many MiB: number by number
          for (I q = 0; q < Q * B; ++q) {
            T sum = across.starts[q / B] == across.starts[q / B + 1] ? T(0) : T(-0.0);
            for (I k = across.starts[q / B]; k < across.starts[q / B + 1]; ++k)
              sum = fma_one(across.value(k), down.one(p, from + across.columns[k] * B + q % B, x.strides[1]),
                            sum);
            to[q] = stored_as<S>(sum);
          }
          continue;
        }
        down.row(p, from, x.strides[1], row, M * B);
        if (lines) {
          terms(row, to);
        } else if (B == 1) {
          for (I q = 0; q < Q; ++q) to[q] = stored_as<S>(across.one(q, row, 1));
        } else {
          for (I q = 0; q < Q; ++q) across.row(q, row, B, to + q * B, B);
        }
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
