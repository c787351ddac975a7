// How long Fourier transforms are cut in two, for the kernel and for those who lay its factors out.
#pragma once

#include <cstdint>

namespace ts {

// On the CPU a row of N >= kFftSplit numbers is N1 transforms of N2 beside N2 of N1, each in cache. In the
// list of radices a 1 stands between those of N1 and those of N2; the table then has the factors of the
// passes of N1, of N2, and for blocks of kFftBlock columns t (the last one may be narrower) w_N^(t k), k <
// N1: all real parts of the block, [k][t], then the imaginary ones.
constexpr std::int64_t kFftSplit = std::int64_t{1} << 16;
constexpr std::int64_t kFftBlock = 16;

}  // namespace ts
