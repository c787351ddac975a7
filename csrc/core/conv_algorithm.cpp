#include "core/conv_algorithm.h"

namespace ts {

namespace {
constinit thread_local ConvAlgorithm g_algorithm = ConvAlgorithm::direct;
}

ConvAlgorithm conv_algorithm() { return g_algorithm; }
void set_conv_algorithm(ConvAlgorithm algorithm) { g_algorithm = algorithm; }

}  // namespace ts
