// Attention: any leading axes become one batch axis; results lie (B, T, H, E) in memory beneath (B, H, T, E),
// so that heads that were split off an axis join it again without a copy.
#include "ops/attention.h"

#include "core/dispatch.h"
#include "core/launch.h"
#include "ops/elementwise.h"
#include "ops/random.h"

namespace ts::ops {
namespace {

constexpr std::int64_t kMaxFeatures = 4096;

// Of logsumexp and of sums: float16 and bfloat16 are computed in float32.
DType sum_dtype(const Array& q) { return is_half(q.dtype()) ? DType::float32 : q.dtype(); }
// On the CPU, but for bfloat16 on an engine that multiplies it, by a float32 copy of the operands, rounding
// the results once.
bool widened(const Array& q) {
  return is_half(q.dtype()) && q.device() == Device::cpu &&
         !(q.dtype() == DType::bfloat16 && bf16_engine().engine != Bf16Engine::float32);
}
bool in_tiles(const Array& q) { return q.dtype() == DType::bfloat16 && q.device() == Device::cpu; }
Array wide(const Array& x) { return x && is_half(x.dtype()) ? astype(x, DType::float32, false) : x; }

// What both passes check, and the operands as the kernel takes them.
struct Problem {
  Array q, k, v, mask, keys;
  Attention options;
  std::int64_t B, H, T, S, D, E;
  Shape leading;  // of q, H included

  // x (..., H, T, D) as four axes; a copy where the strides do not allow it.
  static Array as_four(const Array& x) {
    const int n = x.ndim();
    if (n == 4) return x;
    std::int64_t batch = 1;
    for (int i = 0; i < n - 3; ++i) batch *= x.shape(i);
    const Shape shape{batch, n < 3 ? 1 : x.shape(n - 3), x.shape(n - 2), x.shape(n - 1)};
    const std::optional<Array> view = x.view_as(shape);
    return view ? *view : *contiguous(x).view_as(shape);
  }

  Problem(const char* operation, const Array& query, const Array& key, const Array& value, const Array& m,
          const Array& shown, double scale, std::int64_t left, std::int64_t right, double dropout) {
    const int n = query.ndim();
    check_floating(operation, "q", query.dtype());
    const char* const names[] = {"q", "k", "v"};
    const Array* const operands[] = {&query, &key, &value};
    for (int i = 0; i < 3; ++i) {
      const Array& x = *operands[i];
      check_same_dtype(operation, names[i], x, query.dtype());
      if (x.ndim() < 2 || x.ndim() != n)
        value_error(operation,
                    ": q, k and v must have one number of dimensions, at least 2, (..., T, D), got shapes ",
                    query.shape(), ", ", key.shape(), " and ", value.shape());
      for (int axis = 0; axis < n - 3; ++axis)
        if (x.shape(axis) != query.shape(axis))
          value_error(operation, ": q, k and v must agree in the axes before the heads, got shapes ",
                      query.shape(), ", ", key.shape(), " and ", value.shape());
      if (x.shape(n - 1) > kMaxFeatures)
        value_error(operation, ": ", names[i], " may have at most ", kMaxFeatures, " features a head, got ",
                    x.shape(n - 1));
    }
    if (query.shape(n - 1) == 0)
      value_error(operation, ": q must have at least 1 feature, got shape ", query.shape());
    if (query.shape(n - 1) != key.shape(n - 1))
      value_error(operation, ": q has ", query.shape(n - 1), " features, but k has ", key.shape(n - 1));
    q = as_four(query), k = as_four(key), v = as_four(value);
    B = q.shape(0), H = q.shape(1), T = q.shape(2), S = k.shape(2), D = q.shape(3), E = v.shape(3);
    if (v.shape(2) != S) value_error(operation, ": k has ", S, " keys, but v has ", v.shape(2), " values");
    if (v.shape(1) != k.shape(1) || (k.shape(1) == 0 ? H != 0 : H % k.shape(1) != 0))
      value_error(operation, ": the heads of k and v must be equal and divide those of q, got ", k.shape(1),
                  ", ", v.shape(1), " and ", H);
    leading = Shape(query.shape().data(), n - 2);
    if (m) {
      if (m.dtype() != DType::boolean) check_same_dtype(operation, "mask (if it is not bool)", m, q.dtype());
      Shape full = leading;
      full.push_back(T), full.push_back(S);
      const Array wide = m.broadcast_to(operation, full);
      // Merging broadcast axes may need a copy; that of a mask without leading axes does not.
      mask = n > 4 && m.ndim() <= 2 ? m.broadcast_to(operation, Shape{B, H, T, S}) : as_four(wide);
    }
    if (shown) {
      check_same_dtype(operation, "keys", shown, DType::boolean);
      check_shape(operation, "keys", shown, Shape{B, S});
      keys = shown;
    }
    if (left < -1 || right < -1)
      value_error(operation, ": left and right must be >= 0, or -1 for no limit, got ", left, " and ", right);
    if (!(dropout >= 0 && dropout <= 1)) value_error(operation, ": dropout must be in [0, 1], got ", dropout);
    // A window past the ends is none.
    options = {scale, dropout, left >= T ? -1 : left, right >= S ? -1 : right,
               in_tiles(q) ? bf16_engine().engine : Bf16Engine::float32};
  }

  Array result(const char* operation, std::int64_t heads, std::int64_t length, std::int64_t features) const {
    return empty_ordered(operation, q.dtype(), Shape{B, heads, length, features}, Shape{0, 2, 1, 3});
  }
  // Four axes as those of `like`.
  static Array like(const Array& x, const Array& like) {
    return like.ndim() == 4 ? x : *contiguous_if_needed(x, like.shape());
  }
  static std::optional<Array> contiguous_if_needed(const Array& x, const Shape& shape) {
    const std::optional<Array> view = x.view_as(shape);
    return view ? view : contiguous(x).view_as(shape);
  }
};

}  // namespace

std::tuple<Array, Array, Array> attention(const Array& query, const Array& key, const Array& value,
                                          const Array& mask, const Array& keys, const Array& state,
                                          double scale, std::int64_t left, std::int64_t right,
                                          double dropout) {
  const char* operation = "attention";
  const Problem p(operation, query, key, value, mask, keys, scale, left, right, dropout);
  if (widened(query)) {
    const auto [y, logsumexp, seed] =
        attention(wide(query), wide(key), wide(value), wide(mask), keys, state, scale, left, right, dropout);
    return {astype(y, query.dtype(), false), logsumexp, seed};
  }
  Array generator = state, seed;
  if (dropout > 0) {
    if (!state) type_error(operation, ": dropout=", dropout, " needs state, that of a generator");
    check_random_state(operation, state);
    seed = empty(operation, DType::uint64, Shape{3});
  } else {
    generator = Array();
  }
  Array y = p.result(operation, p.H, p.T, p.E);
  Array logsumexp = empty(operation, sum_dtype(query), Shape{p.B, p.H, p.T});
  launch<&Kernels::attention>(p.q, p.k, p.v, p.mask, p.keys, generator, y, logsumexp, seed, p.options);
  Shape shape = p.leading;
  shape.push_back(p.T), shape.push_back(p.E);
  if (!seed) seed = empty(operation, DType::uint64, Shape{0});
  return {query.ndim() == 4 ? y : *Problem::contiguous_if_needed(y, shape), logsumexp, seed};
}

std::tuple<Array, Array, Array, Array> attention_backward(
    const Array& gradient, const Array& query, const Array& key, const Array& value, const Array& result,
    const Array& logsumexp, const Array& seed, const Array& mask, const Array& keys, double scale,
    std::int64_t left, std::int64_t right, double dropout, bool mask_gradient) {
  const char* operation = "attention_backward";
  const Problem p(operation, query, key, value, mask, keys, scale, left, right, dropout);
  Shape shape = p.leading;
  shape.push_back(p.T), shape.push_back(p.E);
  check_same_dtype(operation, "gradient", gradient, query.dtype());
  check_shape(operation, "gradient", gradient, shape);
  check_same_dtype(operation, "y", result, query.dtype());
  check_shape(operation, "y", result, shape);
  check_same_dtype(operation, "logsumexp", logsumexp, sum_dtype(query));
  check_shape(operation, "logsumexp", logsumexp, Shape{p.B, p.H, p.T});
  if (dropout > 0) {
    check_same_dtype(operation, "seed", seed, DType::uint64);
    check_shape(operation, "seed", seed, Shape{3});
  }
  const DType dtype = query.dtype(), sums = sum_dtype(query);
  if (widened(query)) {
    const auto [dq, dk, dv, dmask] =
        attention_backward(wide(gradient), wide(query), wide(key), wide(value), wide(result), logsumexp, seed,
                           wide(mask), keys, scale, left, right, dropout, mask_gradient);
    return {astype(dq, dtype, false), astype(dk, dtype, false), astype(dv, dtype, false),
            astype(dmask, dtype, false)};
  }
  Array dq = p.result(operation, p.H, p.T, p.D), dk = p.result(operation, p.k.shape(1), p.S, p.D);
  Array dv = p.result(operation, p.k.shape(1), p.S, p.E), dmask;
  if (mask_gradient) {
    if (!mask || mask.dtype() == DType::boolean)
      value_error(operation, ": mask_gradient needs a mask of a floating dtype");
    dmask = empty(operation, dtype, Shape{p.B, p.H, p.T, p.S});
  }
  if (p.B * p.H * p.T * p.S == 0 || p.E == 0) {  // nothing was seen
    for (Array* x : {&dq, &dk, &dv}) copy_into(operation, Operand(Scalar::of(0.0)), *x);
    if (dmask) copy_into(operation, Operand(Scalar::of(0.0)), dmask);
  } else {
    Array delta, partial;
    const std::int64_t chunks = attention_chunks(p.S);
    const auto padded = [](std::int64_t n) { return (n + 31) / 32 * 32; };
    if (!in_tiles(p.q)) {
      delta = empty(operation, sums, Shape{p.B, p.H, p.T});
      if (chunks > 1) partial = empty(operation, sums, Shape{chunks, p.B, p.H, p.T, p.D});
    } else if (chunks > 1 || p.S > attention_keys_bf16(p.D, p.E)) {
      partial = empty(operation, sums, Shape{chunks, p.B, p.H, padded(p.T), padded(p.D)});
    }
    launch<&Kernels::attention_backward>(Problem::as_four(gradient), p.q, p.k, p.v, Problem::as_four(result),
                                         p.mask, p.keys, contiguous(logsumexp), seed, dq, dk, dv, dmask,
                                         delta, partial, p.options);
  }
  if (mask_gradient) {
    Shape full = p.leading;
    full.push_back(p.T), full.push_back(p.S);
    dmask = *dmask.view_as(full);
  } else {
    dmask = empty(operation, dtype, Shape{0});
  }
  return {Problem::like(dq, query), Problem::like(dk, key), Problem::like(dv, value), dmask};
}

}  // namespace ts::ops
