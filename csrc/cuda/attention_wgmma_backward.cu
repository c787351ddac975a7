// Attention's gradients on Hopper's tensor cores: tensor maps and launches.
#include "cuda/attention_wgmma_backward.h"

namespace ts::cuda {
namespace {

template <class Number, int kD>
bool run(DType number, const LowAttending& a, const LowHeads& dy, const float* logsumexp, const float* delta,
         const View& dq, const View& dk, const View& dv, float natural) {
  TensorMap maps[4];
  const auto keys = &keys_wgmma_kernel<Number, kD>;
  const auto queries = &queries_wgmma_kernel<Number, kD>;
  if (!compiled_for_hopper(keys) || !encode_heads(maps[0], a.q, number, a.T_, a.H, a.B, kBackwardTile) ||
      !encode_heads(maps[1], a.k, number, a.S, a.G, a.B, kBackwardTile) ||
      !encode_heads(maps[2], a.v, number, a.S, a.G, a.B, kBackwardTile) ||
      !encode_heads(maps[3], dy, number, a.T_, a.H, a.B, kBackwardTile))
    return false;
  const auto grid = [&](std::int64_t rows, int heads) {
    return dim3(blocks_of(ceil_div(rows, kBackwardRows)), static_cast<unsigned>(heads),
                static_cast<unsigned>(a.B));
  };
  constexpr int kShared = BackwardRoom<kD>::kBytes;
  launch(keys, grid(a.S, a.G), dim3(kAttentionThreads), kShared, maps[0], maps[1], maps[2], maps[3], a,
         logsumexp, delta, LowResults<Number>(dk), LowResults<Number>(dv), natural);
  launch(queries, grid(a.T_, a.H), dim3(kAttentionThreads), kShared, maps[0], maps[1], maps[2], maps[3], a,
         logsumexp, delta, LowResults<Number>(dq), natural);
  return true;
}

}  // namespace

bool attention_wgmma_backward(DType number, const LowAttending& a, const LowHeads& dy, std::int64_t D,
                              std::int64_t E, const float* logsumexp, const float* delta, const View& dq,
                              const View& dk, const View& dv, float natural) {
  if (capability() != 90 || a.mask || a.keys || !(a.scale > 0) || a.S == 0 || a.T_ == 0) return false;
  if (D != E || (D != 64 && D != 128)) return false;
  const auto go = [&]<class Number>(Number) {
    return D == 128 ? run<Number, 128>(number, a, dy, logsumexp, delta, dq, dk, dv, natural)
                    : run<Number, 64>(number, a, dy, logsumexp, delta, dq, dk, dv, natural);
  };
  return number == DType::bfloat16 ? go(BFloat16{}) : go(Float16{});
}

}  // namespace ts::cuda
