// Attention, y_i = sum_j p_ij v_j / sum_j p_ij, p_ij = exp(scale q_i . k_j + mask_ij), without the T x S
// matrix.
//
// B batches, H heads of queries, G heads of keys, T queries, S keys, D and E features of keys and of values.
// Keys are taken 128 at a time; a query keeps its maximum m, its sum of exponentials in 64 bytes of lanes,
// and its y so far, which are scaled by 2^(m - m') when a block raises m. Tiles of 14 queries meet a block
// while it is in L2: scores, exponentials and their product with the values stay in L1.
//
// Bits: a query's result depends on its own row, the keys and the values alone. Blocks lie at multiples of
// 128 keys, a score is one chain over D, y one chain over the keys of a block. Keys that are hidden add exact
// zeros.
//
// Cost: 2 T S (D + E) flops and T S exponentials, half of both if causal; reads k and v once per 256 queries.
#include "cpu/attention.h"
#include "cpu/attention_bf16.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kQueries = 256;  // of a unit of work

template <class T>
TS_INLINE T largest(Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_reduce_max_ps(v.r);
  else
    return _mm512_reduce_max_pd(v.r);
#else
  T m = v[0];
  for (int i = 1; i < Vec<T>::width; ++i) m = v[i] > m ? v[i] : m;
  return m;
#endif
}

// Rows that the next piece of work will read or write, asked for a few at a time between the tiles of this
// one: rows of heads that were split off an axis lie too far apart for the processor to see them coming, and
// waiting for them costs as much as the products of short sequences.
class Soon {
  static constexpr int kMost = 4;
  struct Rows {
    const char* first;
    std::int64_t stride, count;
  } rows_[kMost];
  int arrays_ = 0;
  std::int64_t bytes_[kMost], steps_, done_ = 0;

 public:
  explicit Soon(std::int64_t steps) : steps_(steps) {}

  // Rows [begin, begin + count) of head h in batch b.
  void add(const View& x, std::int64_t b, std::int64_t h, std::int64_t begin, std::int64_t count) {
    if (x.strides[3] != 1) return;
    const std::int64_t size = itemsize(x.dtype);
    const char* const first = static_cast<const char*>(x.data) +
                              (b * x.strides[0] + h * x.strides[1] + begin * x.strides[2]) * size;
    bytes_[arrays_] = x.shape[3] * size;
    rows_[arrays_++] = {first, x.strides[2] * size, count};
  }
  void step() {
    if (done_ == steps_) return;
    for (int i = 0; i < arrays_; ++i) {
      const Rows& r = rows_[i];
      for (std::int64_t row = r.count * done_ / steps_; row < r.count * (done_ + 1) / steps_; ++row) {
        const char* const p = r.first + row * r.stride;
        for (std::int64_t line = 0; line < bytes_[i]; line += 64) __builtin_prefetch(p + line, 0, 2);
      }
    }
    ++done_;
  }
};
// Of keys and values: a quarter of L2.
constexpr std::int64_t kSoonBytes = 524288;

// One head's queries [t, t + rows) against all keys.
template <class T>
struct Attending {
  static constexpr std::int64_t W = Vec<T>::width, L = kLogical<T>;
  const AttentionShape& shape;
  const Shown<T> shown;
  const Drops& drops;
  std::int64_t t, rows;
  T *q, *y;      // scratch: scaled queries, D_row apart; sums, E_row apart
  T *m, *lanes;  // of each query: the largest score, L sums of exponentials
  T* s;          // the scores of a tile

  // Exponentials of a tile's scores, in place; the rows of y follow a maximum that rises.
  TS_INLINE void exponentials(std::int64_t first, std::int64_t height, std::int64_t padded) const {
    for (std::int64_t i = 0; i < height; ++i) {
      T* const row = s + i * kScores;
      Vec<T> high = Vec<T>::load(row);
      for (std::int64_t c = W; c < padded; c += W) high = max(Vec<T>::load(row + c), high);
      T& before = m[first + i];
      const T block = largest(high), now = block > before ? block : before;
      T* const sums = lanes + (first + i) * L;
      if (now > before) {
        if (before > -std::numeric_limits<T>::infinity()) {
          const Vec<T> factor = vmath::exp2(Vec<T>(before) - Vec<T>(now));
          T* const out = y + (first + i) * shape.E_row;
          for (std::int64_t e = 0; e < shape.E; e += W) (Vec<T>::load(out + e) * factor).store(out + e);
          for (std::int64_t l = 0; l < L; l += W) (Vec<T>::load(sums + l) * factor).store(sums + l);
        }
        before = now;
      }
      const Vec<T> shift(now > -std::numeric_limits<T>::infinity() ? now : T(0));
      Vec<T> sum[L / W];
      for (int l = 0; l < L / W; ++l) sum[l] = Vec<T>::load(sums + l * W);
#pragma GCC unroll 2
      for (std::int64_t c = 0; c < padded; c += L)
        for (int l = 0; l < L / W; ++l) {
          const Vec<T> p = vmath::exp2(Vec<T>::load(row + c + l * W) - shift);
          p.store(row + c + l * W);
          sum[l] = sum[l] + p;
        }
      for (int l = 0; l < L / W; ++l) sum[l].store(sums + l * W);
    }
  }

  // keys [j, j + n) of a block: `kt` its keys in panels along S, `vp` its values in panels along E.
  void block(std::int64_t j, std::int64_t n, const Panels& across, const T* kt, const Panels& values,
             const T* vp, Soon& soon) const {
    const Panels tiles(rows, kMaxRows, 1);
    for (std::int64_t r = 0; r < tiles.count; ++r) {
      const std::int64_t first = tiles.first(r), height = tiles.width_of(r), query = t + first;
      const std::int64_t end = shape.reach(query, height, j, n), padded = round_up(end, L);
      if (end == 0) continue;
      soon.step();
      Panels needed = across;
      while (needed.count > 1 && across.first(needed.count - 1) >= end) --needed.count;
      multiply_block<T>(height, needed, shape.D, q + first * shape.D_row, shape.D_row, 1, kt, 0, shape.D, s,
                        kScores, Start::zero);
      if (shown.masked() || padded > end || !shape.all_see(query, height, j, end))
        shown.hide(s, height, query, j, end, padded);
      exponentials(first, height, padded);
      if (drops.generator)
        for (std::int64_t i = 0; i < height; ++i)
          drops.apply(s + i * kScores, padded, j, (shown.b * shape.H + shown.h) * shape.T + query + i, T(1));
      soon.step();
      multiply_block<T>(height, values, end, s, kScores, 1, vp, 0, n, y + first * shape.E_row, shape.E_row,
                        Start::add);
    }
  }

  // y / sum of exponentials, which dropout enlarges by `factor`, and the logsumexp.
  void finish(T* out, std::int64_t out_row, T* logsumexp, T factor) const {
    for (std::int64_t i0 = 0; i0 < rows; i0 += W) {
      const std::int64_t count = rows - i0 < W ? rows - i0 : W;
      T total[W] = {}, log[W];
      for (std::int64_t i = 0; i < count; ++i) {
        T* const sums = lanes + (i0 + i) * L;
        for (std::int64_t w = L / 2; w > 0; w /= 2)
          for (std::int64_t l = 0; l < w; ++l) sums[l] += sums[l + w];
        total[i] = sums[0];
      }
      vmath::log2(Vec<T>::load(total)).store(log);
      for (std::int64_t i = 0; i < count; ++i) {
        // A query that sees no key: y = 0, and every exponential of backward will be 0.
        const bool none = total[i] == T(0);
        logsumexp[i0 + i] = none ? std::numeric_limits<T>::infinity() : m[i0 + i] + log[i];
        const Vec<T> scale(none ? T(0) : factor / total[i]);
        const T* const from = y + (i0 + i) * shape.E_row;
        T* const to = out + (i0 + i) * out_row;
        for (std::int64_t e = 0; e < shape.E; e += W)
          store_tail(to + e, Vec<T>::load(from + e) * scale, shape.E - e);
      }
    }
  }
};

template <class T>
void attend(const In& q, const In& k, const In& v, const In& mask, const In& keys, const Drops& drops,
            const Out& y, const Out& logsumexp, const Attention& options) {
  const AttentionShape shape(q, k, v, options);
  const std::int64_t group = shape.H / shape.G;
  // A unit: up to 256 queries of one head, or several heads of few queries that share keys.
  const Panels parts(shape.T, kQueries, 1);
  const std::int64_t together = parts.count > 1 ? 1 : kQueries / shape.T < group ? kQueries / shape.T : group;
  const std::int64_t bundles = (group + together - 1) / together;
  const std::int64_t units = shape.B * shape.G * bundles * parts.count;
  const double flops = 2.0 * static_cast<double>(parts.width * together) * static_cast<double>(shape.S) *
                           static_cast<double>(shape.D + shape.E + 16) +
                       1e3;
  const std::int64_t grain = flops < 2e6 ? static_cast<std::int64_t>(2e6 / flops) + 1 : 1;
  parallel_ranges(units, grain, [&](std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t L = kLogical<T>;
    T* const base = static_cast<T*>(scratch());
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t part = unit % parts.count, bundle = unit / parts.count % bundles;
      const std::int64_t g = unit / (parts.count * bundles) % shape.G,
                         b = unit / (parts.count * bundles * shape.G);
      const std::int64_t h0 = g * group + bundle * together;
      const std::int64_t heads = (g + 1) * group - h0 < together ? (g + 1) * group - h0 : together;
      const std::int64_t t = parts.first(part), rows = parts.width_of(part);

      const Panels values = block_columns<T>(rows, shape.E);
      T* const kt = base;
      T* const vp = kt + kKeys * round_up(shape.D, 16);
      T* const s = vp + kKeys * round_up(shape.E, 32);
      T* const state = s + kMaxRows * kScores;
      const std::int64_t each = rows * (shape.D_row + shape.E_row + L + 16);
      const auto attending = [&](std::int64_t i) {
        T* const queries = state + i * each;
        T* const sums = queries + rows * shape.D_row;
        T* const lanes = sums + rows * shape.E_row;
        return Attending<T>{
            shape, {shape, mask, keys, b, h0 + i}, drops, t, rows, queries, sums, lanes + rows * L, lanes, s};
      };
      for (std::int64_t i = 0; i < heads; ++i) {
        const Attending<T> a = attending(i);
        copy_scaled<T>(a.q, shape.D_row,
                       q.as<T>() + b * q.strides[0] + (h0 + i) * q.strides[1] + t * q.strides[2],
                       q.strides[2], q.strides[3], rows, shape.D, static_cast<T>(options.scale * kLog2E));
        std::memset(a.y, 0, static_cast<std::size_t>(rows * shape.E_row) * sizeof(T));
        std::memset(a.lanes, 0, static_cast<std::size_t>(rows * L) * sizeof(T));
        for (std::int64_t r = 0; r < rows; ++r) a.m[r] = -std::numeric_limits<T>::infinity();
      }
      const Range seen = shape.seen(t, t + rows, 0, shape.S);
      // What the next unit begins with. A tile asks twice a block; if causal, half of them do.
      Soon soon(Panels(rows, kMaxRows, 1).count * ((seen.end - seen.begin) / kKeys + 1));
      if (heads == 1) soon.add(y, b, h0, t, rows);
      if (heads == 1 && unit + 1 < units) {
        const std::int64_t next = (unit + 1) % parts.count, h = h0 + (next == 0), batch = b + h / shape.H;
        soon.add(q, batch, h % shape.H, parts.first(next), parts.width_of(next));
        if (next == 0 && shape.S * (shape.D + shape.E) * static_cast<std::int64_t>(sizeof(T)) <= kSoonBytes) {
          soon.add(k, batch, h % shape.H / group, 0, shape.S);
          soon.add(v, batch, h % shape.H / group, 0, shape.S);
        }
      }
      for (std::int64_t j = seen.begin / kKeys * kKeys; j < seen.end; j += kKeys) {
        const std::int64_t n = seen.end - j < kKeys ? seen.end - j : kKeys;
        const Panels across = block_columns<T>(rows, n);
        pack<T>(kt, across, shape.D, k.as<T>() + b * k.strides[0] + g * k.strides[1] + j * k.strides[2],
                k.strides[2], k.strides[3]);
        pack<T>(vp, values, n, v.as<T>() + b * v.strides[0] + g * v.strides[1] + j * v.strides[2],
                v.strides[3], v.strides[2]);
        for (std::int64_t i = 0; i < heads; ++i) attending(i).block(j, n, across, kt, values, vp, soon);
      }
      for (std::int64_t i = 0; i < heads; ++i)
        attending(i).finish(y.as<T>() + b * y.strides[0] + (h0 + i) * y.strides[1] + t * y.strides[2],
                            y.strides[2], logsumexp.as<T>() + (b * shape.H + h0 + i) * shape.T + t,
                            static_cast<T>(options.dropout < 1 ? 1 / (1 - options.dropout) : 0));
    }
  });
}

}  // namespace

void attention(In q, In k, In v, In mask, In keys, Out state, Out y, Out logsumexp, Out seed,
               Attention options) {
  if (y.size() == 0) return;
  const auto run = [&](const Drops& drops) {
    if (q.dtype == DType::bfloat16) return attention_bf16(q, k, v, mask, keys, drops, y, logsumexp, options);
    with_floating(q.dtype,
                  [&]<class T>(Type<T>) { attend<T>(q, k, v, mask, keys, drops, y, logsumexp, options); });
  };
  if (options.dropout == 0) return run(Drops{});
  std::memcpy(seed.data, state.data, 3 * sizeof(std::uint64_t));
  const std::int64_t blocks = (k.shape[2] + 3) / 4;
  const Generator generator(state, logsumexp.size() * blocks);
  run(Drops{&generator, blocks, U32(static_cast<std::uint32_t>(options.dropout * 0x1p32 + 0.5))});
}

}  // namespace ts::cpu::TS_ISA
