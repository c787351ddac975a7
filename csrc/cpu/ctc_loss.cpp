// Connectionist temporal classification (Graves et al. 2006): minus the log of the probability of a sequence
// of labels, summed over all its alignments with the frames.
//
// T frames, N sequences, C classes, S labels. An alignment gives each frame a label or the blank; repeated
// labels and then blanks are taken out of it. Its states are b_i, the blank before label i (b_S: behind the
// last), and l_i, label i itself; with alpha_t(s) the log-probability of all ways into state s at frame t:
//   b_i <- b_i, l_{i-1}        l_i <- l_i, b_i and, where label i differs from the one before it, l_{i-1}
// Backward: beta is the same from the end, p_t(s) = exp(alpha_t(s) + beta_t(s)) over its sum in frame t, and
// dlog_probs_t(c) = -dloss sum of p_t(s) over the states of class c.
//
// Everything is in logs, and 0 is the largest of the frame before, so that float32 has its whole precision
// for what matters; the shifts are added up in float64. A frame's states lie in two rows, b and l, and are
// computed a register at a time. States beyond a sequence's own have log-probability -inf of themselves:
// their labels have.
//
// Bits: a sequence's result depends on itself alone; the states of a frame are added in 16 lanes, those of a
// class in their order.
//
// Cost: 5 exponentials and 2 logarithms a frame and label forward, 7 and 2 backward; writes and reads alpha
// once.
#include <cstring>
#include <limits>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "cpu/types.h"
#include "math/vmath.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr std::int64_t kLanes = 16;  // of every sum, and the unit that rows of states are cut by

template <class T>
constexpr T kNever = -std::numeric_limits<T>::infinity();

// log(e^a + e^b + ...). Every term is part of the sum, the largest as well: NaN stays.
template <class T>
TS_INLINE Vec<T> shift_of(Vec<T> high) {
  return select(high > Vec<T>(kNever<T>), high, Vec<T>(T(0)));
}
template <class T>
TS_INLINE Vec<T> log_add(Vec<T> a, Vec<T> b) {
  const Vec<T> shift = shift_of(max(a, b));
  return shift + vmath::log(vmath::exp(a - shift) + vmath::exp(b - shift));
}
template <class T>
TS_INLINE Vec<T> log_add(Vec<T> a, Vec<T> b, Vec<T> c) {
  const Vec<T> shift = shift_of(max(max(a, b), c));
  return shift + vmath::log(vmath::exp(a - shift) + vmath::exp(b - shift) + vmath::exp(c - shift));
}

template <class T>
T largest(Vec<T> v) {
  T high = v[0];
  for (int i = 1; i < Vec<T>::width; ++i) high = v[i] > high ? v[i] : high;
  return high;
}

template <class T>
void fill(T* p, std::int64_t n, T value) {
  for (std::int64_t i = 0; i < n; ++i) p[i] = value;
}

// One sequence: its frames and labels, and what the passes know of them.
template <class T>
struct Sequence {
  const T* rows;  // log-probabilities of frame t from rows + t * stride on
  std::int64_t stride, frames, count, blank;
  const std::int64_t* labels;
  std::int64_t P, used;  // states of a row, and those of them that this sequence needs
  T *emission, *skip;    // of label i: its log-probability; 0 where l_{i-1} may come before it, else -inf

  Sequence(const View& log_probs, const View& targets, const View& input_lengths, const View& target_lengths,
           std::int64_t n, std::int64_t padded, std::int64_t blank_class, T* room)
      : rows(static_cast<const T*>(log_probs.data) + n * log_probs.strides[1]),
        stride(log_probs.strides[0]),
        frames(static_cast<const std::int64_t*>(input_lengths.data)[n]),
        count(static_cast<const std::int64_t*>(target_lengths.data)[n]),
        blank(blank_class),
        labels(static_cast<const std::int64_t*>(targets.data) + n * targets.shape[1]),
        P(padded),
        used((count + 1 + kLanes - 1) / kLanes * kLanes),
        emission(room),
        skip(room + P) {
    fill(emission, P, kNever<T>), fill(skip, P + kLanes, kNever<T>);
    for (std::int64_t i = 1; i < count; ++i) skip[i] = labels[i] != labels[i - 1] ? T(0) : kNever<T>;
  }
  static std::int64_t room(std::int64_t padded) { return 2 * padded + kLanes; }

  // Reads frame t, less `shift`; returns the blank's log-probability.
  TS_INLINE T read(std::int64_t t, T shift) const {
    const T* const row = rows + t * stride;
    for (std::int64_t i = 0; i < count; ++i) emission[i] = row[labels[i]] - shift;
    return row[blank] - shift;
  }
};

template <class T>
TS_INLINE T shift_after(T high) {
  return high == kNever<T> ? T(0) : high;  // where nothing is possible any more
}

// alpha of every frame, and minus its logarithm at the end.
template <class T>
T forward(const Sequence<T>& q, T* alpha) {
  constexpr std::int64_t W = Vec<T>::width;
  if (q.frames == 0) return q.count == 0 ? T(0) : -kNever<T>;
  const std::int64_t P = q.P;
  fill(alpha, 2 * P, kNever<T>);
  alpha[0] = q.read(0, T(0));
  if (q.count > 0) alpha[P] = q.emission[0];
  T shift = shift_after(alpha[P] > alpha[0] ? alpha[P] : alpha[0]);
  double shifts = 0;
  for (std::int64_t t = 1; t < q.frames; ++t) {
    const T *const b = alpha, *const l = alpha + P;  // l[-1], the end of b, is -inf
    alpha += 2 * P;
    const Vec<T> blank(q.read(t, shift));
    shifts += static_cast<double>(shift);
    Vec<T> high(kNever<T>);
    for (std::int64_t i = 0; i < q.used; i += W) {
      const Vec<T> before = Vec<T>::load(b + i), earlier = Vec<T>::load(l + i - 1);
      const Vec<T> to_blank = log_add(before, earlier) + blank;
      const Vec<T> to_label = log_add(Vec<T>::load(l + i), before, earlier + Vec<T>::load(q.skip + i)) +
                              Vec<T>::load(q.emission + i);
      to_blank.store(alpha + i), to_label.store(alpha + P + i);
      high = max(high, max(to_blank, to_label));
    }
    alpha[P - 1] = kNever<T>;
    shift = shift_after(largest(high));
  }
  const Vec<T> end =
      log_add(Vec<T>(alpha[q.count]), Vec<T>(q.count > 0 ? alpha[P + q.count - 1] : kNever<T>));
  return static_cast<T>(-(shifts + static_cast<double>(end[0])));
}

// The sum of 16 lanes, halves added to halves.
template <class T>
TS_INLINE T sum_of(const Vec<T>* lanes) {
  alignas(64) T sums[kLanes];
  for (std::int64_t l = 0; l < kLanes; l += Vec<T>::width) lanes[l / Vec<T>::width].store(sums + l);
  for (std::int64_t w = kLanes / 2; w > 0; w /= 2)
    for (std::int64_t l = 0; l < w; ++l) sums[l] += sums[l + w];
  return sums[0];
}

// dlog_probs of a sequence, whose rows are zeros and `pitch` apart. `room`: 2 P + 16 elements.
template <class T>
void backward(const Sequence<T>& q, const T* alpha, T dloss, T* dx, std::int64_t pitch, T* room) {
  constexpr std::int64_t W = Vec<T>::width;
  const std::int64_t P = q.P;
  // What a frame later has of a state, its own log-probability included; then what this frame has without it.
  T *const b = room, *const l = room + P;
  fill(room, 2 * P + kLanes, kNever<T>);
  for (std::int64_t t = q.frames; t-- > 0;) {
    const T* const a = alpha + t * 2 * P;
    const T blank = q.read(t, T(0));
    Vec<T> high(kNever<T>), most(kNever<T>);
    if (t + 1 == q.frames) {
      b[q.count] = T(0);
      if (q.count > 0) l[q.count - 1] = T(0);
    }
    for (std::int64_t i = 0; i < q.used; i += W) {
      Vec<T> from_blank = Vec<T>::load(b + i), from_label = Vec<T>::load(l + i);
      if (t + 1 < q.frames) {
        const Vec<T> same = from_label;
        from_label =
            log_add(same, Vec<T>::load(b + i + 1), Vec<T>::load(l + i + 1) + Vec<T>::load(q.skip + i + 1));
        from_blank = log_add(from_blank, same);
      }
      from_blank.store(b + i), from_label.store(l + i);
      high = max(high, max(from_blank, from_label));
      most = max(most, max(Vec<T>::load(a + i) + from_blank, Vec<T>::load(a + P + i) + from_label));
    }
    const T shift = shift_after(largest(high));
    const Vec<T> top(largest(most)), blanks(blank - shift), shifts(shift);
    Vec<T> of_blank[kLanes / W], of_labels[kLanes / W];
    for (int k = 0; k < kLanes / W; ++k) of_blank[k] = of_labels[k] = Vec<T>(T(0));
    T* const p = room + 2 * P + kLanes;
    for (std::int64_t i = 0; i < q.used; i += kLanes)
      for (int k = 0; k < kLanes / W; ++k) {
        const std::int64_t j = i + k * W;
        const Vec<T> from_blank = Vec<T>::load(b + j), from_label = Vec<T>::load(l + j);
        const Vec<T> share = vmath::exp(Vec<T>::load(a + P + j) + from_label - top);
        share.store(p + j);
        of_blank[k] = of_blank[k] + vmath::exp(Vec<T>::load(a + j) + from_blank - top);
        of_labels[k] = of_labels[k] + share;
        (from_blank + blanks).store(b + j);
        (from_label + Vec<T>::load(q.emission + j) - shifts).store(l + j);
      }
    const T blank_sum = sum_of(of_blank), scale = -dloss / (blank_sum + sum_of(of_labels));
    T* const row = dx + t * pitch;
    row[q.blank] = blank_sum * scale;
    for (std::int64_t i = 0; i < q.count; ++i) row[q.labels[i]] += p[i] * scale;
  }
}

// Sequences of a piece of work: some 50 us.
std::int64_t grain_of(const View& log_probs, std::int64_t P) {
  return 1 + 16384 / (log_probs.shape[0] * P + 1);
}

}  // namespace

void ctc_loss(In log_probs, In targets, In input_lengths, In target_lengths, Out loss, Out alpha,
              std::int64_t blank) {
  const std::int64_t P = alpha.shape[3];
  with_floating(log_probs.dtype, [&]<class T>(Type<T>) {
    parallel_ranges(log_probs.shape[1], grain_of(log_probs, P), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        const Sequence<T> q(log_probs, targets, input_lengths, target_lengths, n, P, blank,
                            static_cast<T*>(scratch()));
        loss.as<T>()[n] = forward(q, alpha.as<T>() + n * alpha.strides[0]);
      }
    });
  });
}

void ctc_loss_backward(In dloss, In log_probs, In targets, In input_lengths, In target_lengths, In loss,
                       In alpha, Out dlog_probs, std::int64_t blank) {
  const std::int64_t P = alpha.shape[3], T_all = log_probs.shape[0], C = log_probs.shape[2];
  with_floating(log_probs.dtype, [&]<class T>(Type<T>) {
    parallel_ranges(log_probs.shape[1], grain_of(log_probs, P), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        T* const room = static_cast<T*>(scratch());
        const Sequence<T> q(log_probs, targets, input_lengths, target_lengths, n, P, blank, room);
        T* const dx = dlog_probs.as<T>() + n * dlog_probs.strides[1];
        const std::int64_t pitch = dlog_probs.strides[0];
        const T g = dloss.as<T>()[n];
        const bool impossible = loss.as<T>()[n] == -kNever<T> && g != T(0);  // has no gradient
        for (std::int64_t t = 0; t < T_all; ++t)
          fill(dx + t * pitch, C, impossible && t < q.frames ? std::numeric_limits<T>::quiet_NaN() : T(0));
        if (g != T(0) && !impossible)
          backward(q, alpha.as<T>() + n * alpha.strides[0], g, dx, pitch, room + q.room(P));
      }
    });
  });
}

}  // namespace ts::cpu::TS_ISA
