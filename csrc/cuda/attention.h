// What attention's two passes share: where its arrays lie, which keys a query sees, and products of tiles.
//
// B batches, H heads of queries, G heads of keys, T queries, S keys, D and E features of keys and of values.
// A tile is kTile queries by kTile keys, for 256 threads with kEach x kEach of it each. Scores are in base 2:
// s = log2(e) (scale q . k + mask).
//
// Bits: a score is one chain over D; sums over keys (or queries) are one chain in ascending order, in tiles
// that lie at multiples of kTile. Keys that are hidden add exact zeros; so a query's result depends on its
// own row, the keys and the values alone.
#pragma once

#include <limits>

#include "cuda/random.h"
#include "cuda/types.h"
#include "math/vmath.h"

namespace ts::cuda {

constexpr int kAttentionThreads = 256, kAttentionDeep = 16;
constexpr double kLog2E = 1.4426950408889634;

template <class T>
struct Heads {
  T* data;
  std::int64_t stride[4];  // batch, head, row, feature
  explicit Heads(const View& v)
      : data(static_cast<T*>(v.data)), stride{v.strides[0], v.strides[1], v.strides[2], v.strides[3]} {}
  TS_INLINE T* at(std::int64_t b, std::int64_t h, std::int64_t row) const {
    return data + b * stride[0] + h * stride[1] + row * stride[2];
  }
};

// The problem, as every kernel gets it.
template <class T>
struct Attending {
  std::int64_t B, H, G, T_, S, D, E, left, right;
  Heads<const T> q, k, v;
  const void* mask;
  std::int64_t mask_stride[4];
  bool mask_is_bool;
  const bool* keys;
  std::int64_t keys_stride[2];
  T scale;              // times log2(e)
  Generator generator;  // of dropout; null: none
  std::uint32_t limit;
  std::int64_t blocks;  // of words, a row
  T factor;             // 1 / (1 - dropout)

  Attending(const In& q_, const In& k_, const In& v_, const In& mask_, const In& keys_,
            const std::uint64_t* state, const Attention& o)
      : B(q_.shape[0]),
        H(q_.shape[1]),
        G(k_.shape[1]),
        T_(q_.shape[2]),
        S(k_.shape[2]),
        D(q_.shape[3]),
        E(v_.shape[3]),
        left(o.left < 0 ? std::int64_t{1} << 62 : o.left),
        right(o.right < 0 ? std::int64_t{1} << 62 : o.right),
        q(q_),
        k(k_),
        v(v_),
        mask(mask_.data),
        mask_stride{},
        mask_is_bool(mask_ && mask_.dtype == DType::boolean),
        keys(keys_.as<bool>()),
        keys_stride{},
        scale(static_cast<T>(o.scale * kLog2E)),
        generator{o.dropout > 0 ? state : nullptr},
        limit(static_cast<std::uint32_t>(o.dropout * 0x1p32 + 0.5)),
        blocks((S + 3) / 4),
        factor(static_cast<T>(o.dropout < 1 ? 1 / (1 - o.dropout) : 0)) {
    if (mask_)
      for (int i = 0; i < 4; ++i) mask_stride[i] = mask_.strides[i];
    if (keys_) keys_stride[0] = keys_.strides[0], keys_stride[1] = keys_.strides[1];
  }

  // The score of a product, -inf where the key is hidden.
  TS_INLINE T score(T product, std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t j) const {
    const T hidden = -std::numeric_limits<T>::infinity();
    if (t >= T_ || j >= S || j < t - left || j > t + right) return hidden;
    if (keys && !keys[b * keys_stride[0] + j * keys_stride[1]]) return hidden;
    T s = product * scale;
    if (!mask) return s;
    const std::int64_t at = b * mask_stride[0] + h * mask_stride[1] + t * mask_stride[2] + j * mask_stride[3];
    if (mask_is_bool) return static_cast<const bool*>(mask)[at] ? s : hidden;
    return fma(Vec<T>(static_cast<const T*>(mask)[at]), Vec<T>(static_cast<T>(kLog2E)), Vec<T>(s)).r;
  }
  // Keys that some query of [t0, t1) may see; queries that may see some key of [j0, j1).
  TS_INLINE std::int64_t first_key(std::int64_t t0) const { return t0 - left > 0 ? t0 - left : 0; }
  TS_INLINE std::int64_t end_key(std::int64_t t1) const { return t1 + right < S ? t1 + right : S; }
  TS_INLINE std::int64_t first_query(std::int64_t j0) const { return j0 - right > 0 ? j0 - right : 0; }
  TS_INLINE std::int64_t end_query(std::int64_t j1) const { return j1 + left < T_ ? j1 + left : T_; }

  TS_INLINE bool kept(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t j) const {
    std::uint32_t words[4];
    generator.words(((b * H + h) * T_ + t) * blocks + j / 4, words);
    return words[j % 4] >= limit;
  }
};

template <class T>
struct AttentionTile {
  static constexpr int kTile = sizeof(T) == 4 ? 64 : 32, kEach = kTile / 16, kRow = kTile + 4;
  static constexpr int kStrip = kAttentionDeep * kRow, kSquare = kTile * kRow;  // numbers
  using Sums = T[kEach][kEach];

  TS_INLINE static int row(int i) { return static_cast<int>(threadIdx.x) / 16 * kEach + i; }
  TS_INLINE static int column(int j) { return static_cast<int>(threadIdx.x) % 16 * kEach + j; }

  TS_INLINE static void clear(Sums& sums) {
    for (auto& row : sums)
      for (T& x : row) x = 0;
  }
  TS_INLINE static void multiply(Sums& sums, const T* x, const T* y) {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
#pragma unroll
      for (int j = 0; j < kEach; ++j) sums[i][j] = fma(Vec<T>(x[i]), Vec<T>(y[j]), Vec<T>(sums[i][j])).r;
  }
  // sums = rows of a (row a_row apart, of L numbers) times rows of b; `strips`: 2 kStrip of shared memory.
  TS_INLINE static void products(Sums& sums, const T* a, std::int64_t a_row, std::int64_t a_step,
                                 std::int64_t a_rows, const T* b, std::int64_t b_row, std::int64_t b_step,
                                 std::int64_t b_rows, std::int64_t L, T* strips) {
    clear(sums);
    for (std::int64_t l0 = 0; l0 < L; l0 += kAttentionDeep) {
      __syncthreads();
      for (int p = static_cast<int>(threadIdx.x); p < kTile * kAttentionDeep; p += kAttentionThreads) {
        const int l = p % kAttentionDeep, r = p / kAttentionDeep;
        const bool inside = l0 + l < L;
        strips[l * kRow + r] = inside && r < a_rows ? a[r * a_row + (l0 + l) * a_step] : T(0);
        strips[kStrip + l * kRow + r] = inside && r < b_rows ? b[r * b_row + (l0 + l) * b_step] : T(0);
      }
      __syncthreads();
#pragma unroll 4
      for (int l = 0; l < kAttentionDeep; ++l) {
        T x[kEach], y[kEach];
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          x[i] = strips[l * kRow + row(i)];
          y[i] = strips[kStrip + l * kRow + column(i)];
        }
        multiply(sums, x, y);
      }
    }
  }
  // A tile of `rows` rows and `columns` columns, padded with zeros.
  TS_INLINE static void load(T* tile, const T* from, std::int64_t from_row, std::int64_t step,
                             std::int64_t rows, std::int64_t columns) {
    for (int p = static_cast<int>(threadIdx.x); p < kTile * kTile; p += kAttentionThreads) {
      const int r = p / kTile, c = p % kTile;
      tile[r * kRow + c] = r < rows && c < columns ? from[r * from_row + c * step] : T(0);
    }
  }
  // sums += p v, or p' v.
  template <bool kTransposed>
  TS_INLINE static void accumulate(Sums& sums, const T* p, const T* v) {
#pragma unroll 4
    for (int c = 0; c < kTile; ++c) {
      T x[kEach], y[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        x[i] = kTransposed ? p[c * kRow + row(i)] : p[row(i) * kRow + c];
        y[i] = v[c * kRow + column(i)];
      }
      multiply(sums, x, y);
    }
  }
  TS_INLINE static void store(const Sums& sums, T* to, std::int64_t to_row, std::int64_t step,
                              std::int64_t rows, std::int64_t columns, const T (&scale)[kEach]) {
    for (int i = 0; i < kEach; ++i)
      for (int j = 0; j < kEach; ++j)
        if (row(i) < rows && column(j) < columns)
          to[row(i) * to_row + column(j) * step] = sums[i][j] * scale[i];
  }
};

template <class T>
TS_INLINE T exp2_of(T x) {
  return vmath::exp2(Vec<T>(x)).r;
}

// attention and attention_backward in float16 and bfloat16 (attention_mma.cu).
void low_attention(In q, In k, In v, In mask, In keys, Out state, Out y, Out logsumexp, Out seed,
                   Attention options);
void low_attention_backward(In dy, In q, In k, In v, In y, In mask, In keys, In logsumexp, In seed, Out dq,
                            Out dk, Out dv, Out dmask, Out delta, Out partial, Attention options);

}  // namespace ts::cuda
