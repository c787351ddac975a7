#include "core/cost.h"

#include <algorithm>
#include <cstring>

namespace ts {

namespace {

double size(const View& x) { return static_cast<double>(x.size()); }
double extent(const View& x, int axis) { return static_cast<double>(x.shape[axis]); }

// Pairs of a query and a key that it sees.
double pairs(double queries, double keys, const Attention& options) {
  const auto reach = [](std::int64_t side, double all) {
    return side < 0 ? all : std::min(all, static_cast<double>(side));
  };
  const double left = reach(options.left, keys), right = reach(options.right, keys);
  double seen = 0;
  for (double i = 0; i < queries; ++i)
    seen += std::max(0.0, std::min(keys - 1, i + right) - std::max(0.0, i - left) + 1);
  return seen;
}

}  // namespace

double flops_of(Kernel kernel, const View* v, const std::byte* attributes) {
  switch (kernel) {
    case Kernel::gemm:  // a (B, M, K), c (B, M, N)
      return 2 * size(v[3]) * extent(v[0], 2);
    case Kernel::dot:
      return 2 * size(v[0]);
    case Kernel::conv2d:
    case Kernel::conv3d:  // every result is a sum over a weight's C KH KW
      return 2 * size(v[3]) * size(v[1]) / extent(v[1], 0);
    case Kernel::conv2d_input_backward:
    case Kernel::conv3d_input_backward:
      return 2 * size(v[0]) * size(v[1]) / extent(v[1], 0);
    case Kernel::conv2d_weight_backward:
    case Kernel::conv3d_weight_backward:
      return 2 * size(v[0]) * size(v[2]) / extent(v[2], 0);
    case Kernel::attention:
    case Kernel::attention_backward: {
      const View *q = v, *k = v + 1, *value = v + 2;
      if (kernel == Kernel::attention_backward) ++q, ++k, ++value;
      Attention options;
      std::memcpy(&options, attributes, sizeof(options));
      const double scores = extent(*q, 0) * extent(*q, 1) * pairs(extent(*q, 2), extent(*k, 2), options);
      const double forward = 2 * scores * (extent(*q, 3) + extent(*value, 3));
      // Backward makes the scores again, and four products: of dy and v, and for dq, dk and dv.
      return kernel == Kernel::attention ? forward : 2 * scores * (3 * extent(*q, 3) + 2 * extent(*value, 3));
    }
    case Kernel::recurrent:
    case Kernel::recurrent_bf16:  // weight (G H, H), gates (T, N, G H)
      return 2 * size(v[5]) * extent(v[0], 1);
    case Kernel::recurrent_backward:
    case Kernel::recurrent_bf16_backward:  // gates before weight
      return 2 * size(v[3]) * extent(v[6], 1);
    case Kernel::csr_matmul:  // x (A, N, B)
      return 2 * size(v[1]) * extent(v[3], 0) * extent(v[3], 2);
    case Kernel::cholesky:  // a (B, N, N)
      return size(v[0]) * extent(v[0], 2) / 3;
    case Kernel::lu: {  // a (B, M, N): M N K - (M + N) K^2 / 2 + K^3 / 3 pairs
      const double m = extent(v[0], 1), n = extent(v[0], 2), k = std::min(m, n);
      return 2 * extent(v[0], 0) * (m * n * k - (m + n) * k * k / 2 + k * k * k / 3);
    }
    case Kernel::solve_triangular:  // b (B, N, K)
      return size(v[1]) * extent(v[1], 1);
    default:
      return 0;
  }
}

double bytes_of(const View& view) {
  double elements = 1;
  for (int k = 0; k < view.ndim; ++k)
    if (view.strides[k] != 0 || view.shape[k] == 0) elements *= extent(view, k);
  return elements * static_cast<double>(itemsize(view.dtype));
}

}  // namespace ts
