// One layer and direction of a recurrent network. x (T, N, I), w_input (G H, I), w_hidden (G H, H), b_* (G H)
// or absent, h0 and c0 (N, H), lengths (N) int64 or absent. cell: "tanh", "relu", "lstm" or "gru".
#pragma once

#include <string>
#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// y (T, N, H), hn, cn (N, H); for backward: gates (T, N, G H) and extra. Without a cell state c0 and cn are
// empty.
std::tuple<Array, Array, Array, Array, Array> recurrent(const Array& x, const Array& w_input,
                                                        const Array& w_hidden, const Array& b_input,
                                                        const Array& b_hidden, const Array& h0,
                                                        const Array& c0, const Array& lengths,
                                                        const std::string& cell, bool reverse);
// dgates and dhidden (T, N, G H), before (T, N, H), dh0, dc0. The gradients of x and the weights are products
// with them: dhidden is dgates itself, unless the cell is gru.
std::tuple<Array, Array, Array, Array, Array> recurrent_backward(const Array& gates, const Array& extra,
                                                                 const Array& y, const Array& w_hidden,
                                                                 const Array& h0, const Array& c0,
                                                                 const Array& lengths, const Array& dy,
                                                                 const Array& dhn, const Array& dcn,
                                                                 const std::string& cell, bool reverse);

// The same with products of bfloat16 numbers: x, the weights, biases and states are bfloat16 or float32, in
// any mixture; sums, results and what is kept are float32, dgates, dhidden and before bfloat16 (on a GPU,
// where steps are multiplied in float32, float32).
std::tuple<Array, Array, Array, Array, Array> recurrent_bf16(const Array& x, const Array& w_input,
                                                             const Array& w_hidden, const Array& b_input,
                                                             const Array& b_hidden, const Array& h0,
                                                             const Array& c0, const Array& lengths,
                                                             const std::string& cell, bool reverse);
std::tuple<Array, Array, Array, Array, Array> recurrent_bf16_backward(const Array& gates, const Array& extra,
                                                                      const Array& y, const Array& w_hidden,
                                                                      const Array& h0, const Array& c0,
                                                                      const Array& lengths, const Array& dy,
                                                                      const Array& dhn, const Array& dcn,
                                                                      const std::string& cell, bool reverse);

}  // namespace ts::ops
