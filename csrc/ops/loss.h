// Losses whose kernels fuse what composition would write out.
#pragma once

#include <string>
#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// x (C), (N, C) or (N, C, ...), target the same without C, class indices; reduction "none", "mean" (over the
// targets' weights) or "sum". Returns the loss, and for backward the log-sum-exp of each row and the total
// weight.
std::tuple<Array, Array, Array> cross_entropy(const Array& x, const Array& target, const Array& weight,
                                              std::int64_t ignore_index, const std::string& reduction,
                                              double label_smoothing);
// The same with a float32 loss of halves, as under autocast.
std::tuple<Array, Array, Array> cross_entropy_wide(const Array& x, const Array& target, const Array& weight,
                                                   std::int64_t ignore_index, const std::string& reduction,
                                                   double label_smoothing);
Array cross_entropy_backward(const Array& dy, const Array& x, const Array& target, const Array& weight,
                             const Array& lse, const Array& total, std::int64_t ignore_index,
                             const std::string& reduction, double label_smoothing);

// log_probs (T, N, C), targets (N, S), lengths (N). Returns the loss of each sequence, inf where no alignment
// fits, and the states' log-probabilities for backward.
std::tuple<Array, Array> ctc_loss(const Array& log_probs, const Array& targets, const Array& input_lengths,
                                  const Array& target_lengths, std::int64_t blank);
Array ctc_loss_backward(const Array& gradient, const Array& log_probs, const Array& targets,
                        const Array& input_lengths, const Array& target_lengths, const Array& loss,
                        const Array& alpha, std::int64_t blank);

}  // namespace ts::ops
