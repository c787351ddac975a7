// Connectionist temporal classification: check lengths and labels, launch.
#include "core/launch.h"
#include "ops/device.h"
#include "ops/elementwise.h"
#include "ops/loss.h"

namespace ts::ops {
namespace {

constexpr std::int64_t kMostLabels = 1
                                     << 18;  // a sequence: the kernel's rows of states lie in scratch memory

// What is asked of lengths and labels. Plain data that names literals only: a recording keeps it.
struct Limits {
  const char* operation;
  std::int64_t T, C, blank;
  Given targets, input_lengths, target_lengths;
};

void require_length(const char* operation, const char* argument, std::int64_t length, Given dtype,
                    std::int64_t most, std::int64_t n) {
  if (length < 0 || length > most)
    value_error(operation, ": ", argument, " must be in [0, ", most, "], got ", as_given(length, dtype),
                " at ", n);
}

void require_labels(In targets, In input_lengths, In target_lengths, Limits k) {
  const OnHost labels(targets), inputs(input_lengths), lengths(target_lengths);
  const std::int64_t N = targets.shape[0], S = targets.shape[1];
  for (std::int64_t n = 0; n < N; ++n) {
    const std::int64_t count = lengths.as<std::int64_t>()[n];
    require_length(k.operation, "input_lengths", inputs.as<std::int64_t>()[n], k.input_lengths, k.T, n);
    require_length(k.operation, "target_lengths", count, k.target_lengths, S, n);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t label = labels.as<std::int64_t>()[n * S + i];
      if (label < 0 || label >= k.C)
        index_error(k.operation, ": target ", as_given(label, k.targets), " at (", n, ", ", i,
                    ") is out of range for ", k.C, " classes: valid are 0 to ", k.C - 1);
      if (label == k.blank)
        value_error(k.operation, ": target ", label, " at (", n, ", ", i,
                    ") is the blank, which no label may be");
    }
  }
}

// int64 and contiguous.
Array integers(const char* operation, const char* argument, const Array& x, const Shape& shape) {
  if (!is_integer(x.dtype()))
    type_error(operation, ": ", argument, " is ", name(x.dtype()), "; an integer dtype is needed");
  check_shape(operation, argument, x, shape);
  return contiguous(astype(x, DType::int64, false));
}

// What both passes check, and the operands as the kernels take them: halves are computed in float32.
struct Problem {
  Array x, targets, input_lengths, target_lengths;
  DType dtype;
  Shape states;  // of alpha

  Problem(const char* operation, const Array& log_probs, const Array& labels, const Array& inputs,
          const Array& lengths, std::int64_t blank)
      : dtype(computed_in(log_probs.dtype())) {
    check_floating(operation, "log_probs", log_probs.dtype());
    check_rank(operation, "log_probs", log_probs, 3);
    check_rank(operation, "targets", labels, 2);
    const std::int64_t T = log_probs.shape(0), N = log_probs.shape(1), C = log_probs.shape(2),
                       S = labels.shape(1);
    if (S > kMostLabels)
      value_error(operation, ": targets may have at most ", kMostLabels, " labels a sequence, got ", S);
    if (blank < 0 || blank >= C)
      value_error(operation, ": blank must be a class, in [0, ", C, "), got ", blank);
    targets = integers(operation, "targets", labels, Shape{N, S});
    input_lengths = integers(operation, "input_lengths", inputs, Shape{N});
    target_lengths = integers(operation, "target_lengths", lengths, Shape{N});
    perform("ctc_loss labels", &require_labels, targets, input_lengths, target_lengths,
            Limits{"ctc_loss", T, C, blank, given_as(labels.dtype()), given_as(inputs.dtype()),
                   given_as(lengths.dtype())});
    const Array wide = astype(log_probs, dtype, false);
    x = wide.stride(2) == 1 || C == 1 ? wide : contiguous(wide);
    states = Shape{N, T, 2, (S + 2 + 15) / 16 * 16};
  }
};

}  // namespace

std::tuple<Array, Array> ctc_loss(const Array& log_probs, const Array& targets, const Array& input_lengths,
                                  const Array& target_lengths, std::int64_t blank) {
  const char* operation = "ctc_loss";
  const Problem p(operation, log_probs, targets, input_lengths, target_lengths, blank);
  Array loss = empty(operation, p.dtype, Shape{p.states[0]}), alpha = empty(operation, p.dtype, p.states);
  launch<&Kernels::ctc_loss>(p.x, p.targets, p.input_lengths, p.target_lengths, loss, alpha, blank);
  return {astype(loss, log_probs.dtype(), false), alpha};
}

Array ctc_loss_backward(const Array& gradient, const Array& log_probs, const Array& targets,
                        const Array& input_lengths, const Array& target_lengths, const Array& loss,
                        const Array& alpha, std::int64_t blank) {
  const char* operation = "ctc_loss_backward";
  const Problem p(operation, log_probs, targets, input_lengths, target_lengths, blank);
  const Shape each{p.states[0]};
  check_same_dtype(operation, "gradient", gradient, log_probs.dtype());
  check_shape(operation, "gradient", gradient, each);
  check_same_dtype(operation, "loss", loss, log_probs.dtype());
  check_shape(operation, "loss", loss, each);
  check_same_dtype(operation, "alpha", alpha, p.dtype);
  check_shape(operation, "alpha", alpha, p.states);
  Array dx = empty(operation, p.dtype, log_probs.shape());
  launch<&Kernels::ctc_loss_backward>(contiguous(astype(gradient, p.dtype, false)), p.x, p.targets,
                                      p.input_lengths, p.target_lengths,
                                      contiguous(astype(loss, p.dtype, false)), contiguous(alpha), dx, blank);
  return astype(dx, log_probs.dtype(), false);
}

}  // namespace ts::ops
