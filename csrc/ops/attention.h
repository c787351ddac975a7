// Scaled dot-product attention. q (..., H, T, D), k (..., G, S, D), v (..., G, S, E), leading axes equal; G
// divides H.
#pragma once

#include <tuple>

#include "ops/check.h"

namespace ts::ops {

// mask: (..., H, T, S) or what broadcasts to it, of q's dtype (added) or bool (false: not seen); keys (B, S)
// bool, B the product of the leading axes before H; state: the generator's, for dropout; left, right: how
// many keys before and after its own position a query sees, -1 for all. Returns y, logsumexp and the state
// that dropout drew from.
std::tuple<Array, Array, Array> attention(const Array& q, const Array& k, const Array& v, const Array& mask,
                                          const Array& keys, const Array& state, double scale,
                                          std::int64_t left, std::int64_t right, double dropout);
// The gradients of q, k, v and, if asked for, of mask at its full shape.
std::tuple<Array, Array, Array, Array> attention_backward(const Array& dy, const Array& q, const Array& k,
                                                          const Array& v, const Array& y,
                                                          const Array& logsumexp, const Array& seed,
                                                          const Array& mask, const Array& keys, double scale,
                                                          std::int64_t left, std::int64_t right,
                                                          double dropout, bool mask_gradient);

}  // namespace ts::ops
