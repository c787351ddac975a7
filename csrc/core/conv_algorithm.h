// The algorithm that this thread wishes for its convolutions: winograd serves 3 x 3 filters of many channels.
// A call has it among its options, so that a replay does what was recorded.
#pragma once

#include <cstdint>

namespace ts {

enum class ConvAlgorithm : std::uint8_t { direct, winograd };
ConvAlgorithm conv_algorithm();
void set_conv_algorithm(ConvAlgorithm algorithm);

}  // namespace ts
