// The gradients of attention, from the scores computed again:
//
//   p_ij = 2^(s_ij - logsumexp_i)     dp_ij = dy_i . v_j     ds_ij = p_ij (dp_ij - delta_i)     delta_i =
//   dy_i . y_i dv_j = sum_i p_ij dy_i     dk_j = scale sum_i ds_ij q_i     dq_i = scale sum_j ds_ij k_j dmask
//   = ds
//
// B batches, H heads of queries, G heads of keys, T queries, S keys, D and E features of keys and of values.
// A piece takes one head of keys and one chunk of them (all, up to 1024), 128 keys at a time; for each of
// these blocks it passes over all queries that see it, 112 at a time, while dk and dv of the block stay in
// L2. More chunks than one leave their shares of dq in `partial`, which are added in order.
//
// Bits: dk and dv are one chain over heads and queries, dq one chain over the keys of a chunk.
//
// Cost: 2 T S (3 D + 2 E) flops and T S exponentials, half of both if causal; reads q, dy and dq once per 128
// keys.
#include "cpu/attention.h"
#include "cpu/attention_bf16.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kRows = 112;  // queries of a block

// delta_i = dy_i . y_i in one fixed order, 64 bytes of lanes at a time.
template <class T>
T dot(const T* a, std::int64_t a_step, const T* b, std::int64_t b_step, std::int64_t n) {
  constexpr std::int64_t L = kLogical<T>, W = Vec<T>::width;
  alignas(64) T lanes[L] = {};
  std::int64_t i = 0;
  if (a_step == 1 && b_step == 1) {
    Vec<T> sum[L / W];
    for (Vec<T>& s : sum) s = Vec<T>(T(0));
    for (; i + L <= n; i += L)
      for (int l = 0; l < L / W; ++l)
        sum[l] = fma(Vec<T>::load(a + i + l * W), Vec<T>::load(b + i + l * W), sum[l]);
#if defined(__AVX512F__)
    if (i == n) {  // halves added to halves, as below
      if constexpr (sizeof(T) == 4)
        return _mm512_reduce_add_ps(sum[0].r);
      else
        return _mm512_reduce_add_pd(sum[0].r);
    }
#endif
    for (int l = 0; l < L / W; ++l) sum[l].store(lanes + l * W);
  }
  for (; i < n; ++i) {
#if defined(__FMA__)
    lanes[i % L] = sizeof(T) == 4 ? static_cast<T>(__builtin_fmaf(a[i * a_step], b[i * b_step], lanes[i % L]))
                                  : static_cast<T>(__builtin_fma(a[i * a_step], b[i * b_step], lanes[i % L]));
#else
    lanes[i % L] += a[i * a_step] * b[i * b_step];
#endif
  }
  for (std::int64_t w = L / 2; w > 0; w /= 2)
    for (std::int64_t l = 0; l < w; ++l) lanes[l] += lanes[l + w];
  return lanes[0];
}

// rows x columns of dst = factor * src, exact rows.
template <class T>
void put_scaled(T* dst, std::int64_t dst_row, const T* src, std::int64_t src_row, std::int64_t rows,
                std::int64_t columns, T factor) {
  constexpr std::int64_t W = Vec<T>::width;
  for (std::int64_t i = 0; i < rows; ++i, dst += dst_row, src += src_row)
    for (std::int64_t j = 0; j < columns; j += W)
      store_tail(dst + j, load_tail(src + j, columns - j) * Vec<T>(factor), columns - j);
}

// One head of keys' chunk against the queries of its heads.
template <class T>
struct Backward {
  static constexpr std::int64_t W = Vec<T>::width, L = kLogical<T>;
  const AttentionShape& shape;
  const In &dy, &q, &k, &v, &mask, &keys, &logsumexp;
  const Out &dk, &dv, &dmask, &delta;
  const Drops& drops;
  const Attention& options;
  T* scratch_base;

  // p and ds of a block's tile: `s` holds its scores and then p, `ds` dp and then ds. dropped: p as the
  // values met it, in `s`.
  TS_INLINE void gradients(T* s, T* ds, std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t rows,
                           std::int64_t j, std::int64_t columns) const {
    const std::int64_t row0 = (b * shape.H + h) * shape.T + t;
    const Vec<T> zero(T(0));  // added, so that a key that is hidden has +0 as it has outside the tile
    for (std::int64_t i = 0; i < rows; ++i) {
      T *const p = s + i * kScores, *const d = ds + i * kScores;
      const Vec<T> shift(logsumexp.as<T>()[row0 + i]), centre(delta.as<T>()[row0 + i]);
      if (!drops.generator) {
#pragma GCC unroll 2
        for (std::int64_t c = 0; c < columns; c += W) {
          const Vec<T> x = vmath::exp2(Vec<T>::load(p + c) - shift);
          x.store(p + c);
          fma(x, Vec<T>::load(d + c) - centre, zero).store(d + c);
        }
        continue;
      }
      const T factor = static_cast<T>(1 / (1 - options.dropout));
      alignas(64) T kept[kScores];
      for (std::int64_t c = 0; c < columns; c += W) {
        const Vec<T> x = vmath::exp2(Vec<T>::load(p + c) - shift);
        x.store(p + c), x.store(kept + c);
      }
      drops.apply(kept, columns, j, row0 + i, factor);
      drops.apply(d, columns, j, row0 + i, factor);
      for (std::int64_t c = 0; c < columns; c += W) {
        fma(Vec<T>::load(p + c), Vec<T>::load(d + c) - centre, zero).store(d + c);
        Vec<T>::load(kept + c).store(p + c);
      }
    }
  }

  // Keys [begin, end) of head g in batch b. dq's rows of head h begin at dq + h * dq_head.
  void chunk(std::int64_t b, std::int64_t g, std::int64_t begin, std::int64_t end, T* dq,
             std::int64_t dq_head, std::int64_t dq_row) const {
    const std::int64_t group = shape.H / shape.G, h0 = g * group;
    const T scale = static_cast<T>(options.scale * kLog2E);
    T* const kt = scratch_base;
    T* const vt = kt + kKeys * round_up(shape.D, 16);
    T* const kr = vt + kKeys * round_up(shape.E, 16);
    T* const dks = kr + kKeys * shape.D_row;
    T* const dvs = dks + kKeys * shape.D_row;
    T* const qs = dvs + kKeys * shape.E_row;
    T* const dys = qs + kRows * shape.D_row;
    T* const s = dys + kRows * shape.E_row;
    T* const ds = s + kRows * kScores;
    const Panels across_d = block_columns<T>(kRows, shape.D), across_e = block_columns<T>(kRows, shape.E);

    for (std::int64_t h = h0; h < h0 + group; ++h)
      for (std::int64_t t = 0; t < shape.T; ++t)
        std::memset(dq + h * dq_head + t * dq_row, 0, static_cast<std::size_t>(shape.D) * sizeof(T));
    for (std::int64_t j = begin; j < end; j += kKeys) {
      const std::int64_t n = end - j < kKeys ? end - j : kKeys;
      const Panels across = block_columns<T>(kRows, n);
      const T* const k0 = k.as<T>() + b * k.strides[0] + g * k.strides[1] + j * k.strides[2];
      const T* const v0 = v.as<T>() + b * v.strides[0] + g * v.strides[1] + j * v.strides[2];
      pack<T>(kt, across, shape.D, k0, k.strides[2], k.strides[3]);
      pack<T>(vt, across, shape.E, v0, v.strides[2], v.strides[3]);
      copy_scaled<T>(kr, shape.D_row, k0, k.strides[2], k.strides[3], n, shape.D, T(1));
      std::memset(dks, 0, static_cast<std::size_t>(n * shape.D_row) * sizeof(T));
      std::memset(dvs, 0, static_cast<std::size_t>(n * shape.E_row) * sizeof(T));
      const Range seeing_block = seeing(j, j + n);
      for (std::int64_t h = h0; h < h0 + group; ++h) {
        const Shown<T> shown{shape, mask, keys, b, h};
        for (std::int64_t t = seeing_block.begin; t < seeing_block.end; t += kRows) {
          const std::int64_t rows = seeing_block.end - t < kRows ? seeing_block.end - t : kRows;
          copy_scaled<T>(qs, shape.D_row, q.as<T>() + b * q.strides[0] + h * q.strides[1] + t * q.strides[2],
                         q.strides[2], q.strides[3], rows, shape.D, scale);
          copy_scaled<T>(dys, shape.E_row,
                         dy.as<T>() + b * dy.strides[0] + h * dy.strides[1] + t * dy.strides[2],
                         dy.strides[2], dy.strides[3], rows, shape.E, T(1));
          T* const dq_here = dq + h * dq_head + t * dq_row;
          const Panels tiles(rows, kMaxRows, 1);
          for (std::int64_t r = 0; r < tiles.count; ++r) {
            const std::int64_t first = tiles.first(r), height = tiles.width_of(r);
            scores(shown, b, h, t + first, height, j, n, across, kt, vt, qs + first * shape.D_row,
                   dys + first * shape.E_row, s + first * kScores, ds + first * kScores);
            if (const std::int64_t depth = shape.reach(t + first, height, j, n))
              multiply_block<T>(height, across_d, depth, ds + first * kScores, kScores, 1, kr, shape.D_row, 1,
                                dq_here + first * dq_row, dq_row, Start::add);
          }
          // A tile of keys is met by the queries from the first that sees it.
          const Panels keys_tiles(n, kMaxRows, 1);
          for (std::int64_t r = 0; r < keys_tiles.count; ++r) {
            const std::int64_t first = keys_tiles.first(r), height = keys_tiles.width_of(r);
            const Range by = seeing(j + first, j + first + height);
            const std::int64_t from = by.begin > t ? by.begin - t : 0;
            if (from >= rows) continue;
            multiply_block<T>(height, across_e, rows - from, s + from * kScores + first, 1, kScores,
                              dys + from * shape.E_row, shape.E_row, 1, dvs + first * shape.E_row,
                              shape.E_row, Start::add);
            multiply_block<T>(height, across_d, rows - from, ds + from * kScores + first, 1, kScores,
                              qs + from * shape.D_row, shape.D_row, 1, dks + first * shape.D_row, shape.D_row,
                              Start::add);
          }
        }
      }
      // The queries carry scale * log2(e).
      put_scaled<T>(dk.as<T>() + b * dk.strides[0] + g * dk.strides[1] + j * dk.strides[2], dk.strides[2],
                    dks, shape.D_row, n, shape.D, static_cast<T>(kLn2));
      put_scaled<T>(dv.as<T>() + b * dv.strides[0] + g * dv.strides[1] + j * dv.strides[2], dv.strides[2],
                    dvs, shape.E_row, n, shape.E, T(1));
    }
  }

  // The queries that see a key of [begin, end).
  TS_INLINE Range seeing(std::int64_t begin, std::int64_t end) const {
    const std::int64_t low = begin - shape.right, high = end + shape.left;
    return {low > 0 ? low : 0, high < shape.T ? high : shape.T};
  }

  // p and ds of a tile; zeros where its queries see nothing.
  void scores(const Shown<T>& shown, std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t height,
              std::int64_t j, std::int64_t n, const Panels& across, const T* kt, const T* vt, const T* qs,
              const T* dys, T* s, T* ds) const {
    const std::int64_t end = shape.reach(t, height, j, n), padded = round_up(end, L), all = round_up(n, L);
    const Vec<T> zero(T(0));
    if (end > 0) {
      Panels needed = across;
      while (needed.count > 1 && across.first(needed.count - 1) >= end) --needed.count;
      multiply_block<T>(height, needed, shape.D, qs, shape.D_row, 1, kt, 0, shape.D, s, kScores, Start::zero);
      multiply_block<T>(height, needed, shape.E, dys, shape.E_row, 1, vt, 0, shape.E, ds, kScores,
                        Start::zero);
      if (shown.masked() || padded > end || !shape.all_see(t, height, j, end)) {
        shown.hide(s, height, t, j, end, padded);
        for (std::int64_t i = 0; i < height; ++i)
          for (std::int64_t c = end / W * W; c < padded; c += W) {
            T* const p = ds + i * kScores + c;
            (c < end ? load_tail(p, end - c) : zero).store(p);
          }
      }
      gradients(s, ds, b, h, t, height, j, padded);
    }
    for (std::int64_t i = 0; i < height; ++i)
      for (std::int64_t c = padded; c < all; c += W)
        zero.store(s + i * kScores + c), zero.store(ds + i * kScores + c);
    if (!dmask) return;
    T* const out = dmask.as<T>() + ((b * shape.H + h) * shape.T + t) * shape.S + j;
    for (std::int64_t i = 0; i < height; ++i)
      std::memcpy(out + i * shape.S, ds + i * kScores, static_cast<std::size_t>(n) * sizeof(T));
  }
};

template <class T>
void attend_backward(const In& dy, const In& q, const In& k, const In& v, const In& y, const In& mask,
                     const In& keys, const In& logsumexp, const Drops& drops, const Out& dq, const Out& dk,
                     const Out& dv, const Out& dmask, const Out& delta, const Out& partial,
                     const Attention& options) {
  const AttentionShape shape(q, k, v, options);
  const std::int64_t heads = shape.B * shape.H, group = shape.H / shape.G;
  const auto deltas = [&](std::int64_t begin, std::int64_t end) {  // of rows of (B, H, T)
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t t = i % shape.T, h = i / shape.T % shape.H, b = i / (shape.T * shape.H);
      delta.as<T>()[i] =
          dot<T>(dy.as<T>() + b * dy.strides[0] + h * dy.strides[1] + t * dy.strides[2], dy.strides[3],
                 y.as<T>() + b * y.strides[0] + h * y.strides[1] + t * y.strides[2], y.strides[3], shape.E);
    }
  };
  // A piece with all keys of its head computes its own, which brings dy into cache.
  if (partial) parallel_ranges(heads * shape.T, 1 + 16384 / (shape.E + 16), deltas);
  if (dmask)
    parallel_ranges(heads * shape.T, 1 + 65536 / (shape.S + 16), [&](std::int64_t begin, std::int64_t end) {
      std::memset(dmask.as<T>() + begin * shape.S, 0,
                  static_cast<std::size_t>((end - begin) * shape.S) * sizeof(T));
    });

  const std::int64_t chunks = attention_chunks(shape.S);
  const Panels parts(shape.S, round_up((shape.S + chunks - 1) / chunks, kKeys), kKeys);
  const double flops = 2.0 * static_cast<double>(group * shape.T) * static_cast<double>(parts.width) *
                           static_cast<double>(3 * shape.D + 2 * shape.E + 32) +
                       1e3;
  const std::int64_t grain = flops < 2e6 ? static_cast<std::int64_t>(2e6 / flops) + 1 : 1;
  const std::int64_t share = heads * shape.T * shape.D;  // of one chunk, in `partial`
  parallel_ranges(shape.B * shape.G * parts.count, grain, [&](std::int64_t begin, std::int64_t end) {
    const Backward<T> work{shape, dy,    q,         k,       v,
                           mask,  keys,  logsumexp, dk,      dv,
                           dmask, delta, drops,     options, static_cast<T*>(scratch())};
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t part = i % parts.count, g = i / parts.count % shape.G,
                         b = i / (parts.count * shape.G);
      const std::int64_t j = parts.first(part);
      if (!partial) {
        deltas((b * shape.H + g * group) * shape.T, (b * shape.H + (g + 1) * group) * shape.T);
        T* const here = dq.as<T>() + b * dq.strides[0];
        work.chunk(b, g, j, j + parts.lanes(part), here, dq.strides[1], dq.strides[2]);
        for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
          T* const rows = here + h * dq.strides[1];
          put_scaled<T>(rows, dq.strides[2], rows, dq.strides[2], shape.T, shape.D,
                        static_cast<T>(options.scale));
        }
      } else {
        work.chunk(b, g, j, j + parts.lanes(part),
                   partial.as<T>() + part * share + b * shape.H * shape.T * shape.D, shape.T * shape.D,
                   shape.D);
      }
    }
  });
  if (!partial) return;
  parallel_ranges(
      heads * shape.T, 1 + 16384 / (shape.D * parts.count), [&](std::int64_t begin, std::int64_t end) {
        constexpr std::int64_t W = Vec<T>::width;
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t t = i % shape.T, h = i / shape.T % shape.H, b = i / (shape.T * shape.H);
          T* const out = dq.as<T>() + b * dq.strides[0] + h * dq.strides[1] + t * dq.strides[2];
          const T* const from = partial.as<T>() + i * shape.D;
          for (std::int64_t d = 0; d < shape.D; d += W) {
            Vec<T> sum = load_tail(from + d, shape.D - d);
            for (std::int64_t part = 1; part < parts.count; ++part)
              sum = sum + load_tail(from + part * share + d, shape.D - d);
            store_tail(out + d, sum * Vec<T>(static_cast<T>(options.scale)), shape.D - d);
          }
        }
      });
}

}  // namespace

void attention_backward(In dy, In q, In k, In v, In y, In mask, In keys, In logsumexp, In seed, Out dq,
                        Out dk, Out dv, Out dmask, Out delta, Out partial, Attention options) {
  const auto run = [&](const Drops& drops) {
    if (q.dtype == DType::bfloat16)
      return attention_backward_bf16(dy, q, k, v, y, mask, keys, logsumexp, drops, dq, dk, dv, dmask, partial,
                                     options);
    with_floating(q.dtype, [&]<class T>(Type<T>) {
      attend_backward<T>(dy, q, k, v, y, mask, keys, logsumexp, drops, dq, dk, dv, dmask, delta, partial,
                         options);
    });
  };
  if (options.dropout == 0) return run(Drops{});
  std::uint64_t words[3];
  std::memcpy(words, seed.data, sizeof words);
  Out state{};
  state.data = words;
  const Generator generator(state, 0);
  run(Drops{&generator, (k.shape[2] + 3) / 4,
            U32(static_cast<std::uint32_t>(options.dropout * 0x1p32 + 0.5))});
}

}  // namespace ts::cpu::TS_ISA
