// Attention on Hopper's tensor cores: tensor maps and the launch.
#include "cuda/attention_wgmma.h"

namespace ts::cuda {
namespace {

template <class Number, int kD>
bool run(DType number, const LowAttending& a, const View& y, float* logsumexp) {
  TensorMap q, k, v;
  const auto kernel = &attention_wgmma_kernel<Number, kD>;
  if (!compiled_for_hopper(kernel) || !encode_heads(q, a.q, number, a.T_, a.H, a.B, 128) ||
      !encode_heads(k, a.k, number, a.S, a.G, a.B, 128) || !encode_heads(v, a.v, number, a.S, a.G, a.B, 128))
    return false;
  launch(
      kernel,
      dim3(blocks_of(ceil_div(a.T_, kWgmmaQueries)), static_cast<unsigned>(a.H), static_cast<unsigned>(a.B)),
      dim3(kAttentionThreads), AttentionRoom<kD>::kBytes, q, k, v, a, LowResults<Number>(y), logsumexp);
  return true;
}

}  // namespace

bool attention_wgmma(DType number, const LowAttending& a, std::int64_t D, std::int64_t E, const View& y,
                     float* logsumexp) {
  if (capability() != 90 || a.mask || a.keys || !(a.scale > 0) || a.S == 0) return false;
  if (D != E || (D != 64 && D != 128)) return false;
  const bool wide = D == 128;
  if (number == DType::bfloat16)
    return wide ? run<BFloat16, 128>(number, a, y, logsumexp) : run<BFloat16, 64>(number, a, y, logsumexp);
  return wide ? run<Float16, 128>(number, a, y, logsumexp) : run<Float16, 64>(number, a, y, logsumexp);
}

}  // namespace ts::cuda
