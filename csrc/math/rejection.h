// Gamma, Poisson and binomial numbers: by inversion where the mean is small, else by rejection.
//
// Element i owns kDrawBlocks Philox blocks; its attempt number a reads block a of them (gamma also the last
// one), so that an element is a function of the state and i, whatever its neighbours need. Everything is
// computed in float64, one element a lane, and lanes that have been accepted wait for the others. The chance
// that an element is not accepted within its blocks is below 1e-40; it then gets its last proposal.
//   gamma     Marsaglia & Tsang, ACM TOMS 26 (2000); shape < 1 from shape + 1 times u^(1 / shape)
//   Poisson   mean >= 10: PTRS of Hörmann, Insurance: Mathematics and Economics 12 (1993)
//   binomial  n min(p, 1 - p) >= 10: BTRS of Hörmann, J. Stat. Comput. Simul. 46 (1993)
// `Draws` has words(element, attempt, w): the four 32-bit words of that block for each lane's element, the
// first lane's being `element`, in the low halves of w.
#pragma once

#include <cstdint>

#include "math/box_muller.h"
#include "math/vmath.h"

namespace ts::TS_MATH {

constexpr std::int64_t kDrawBlocks = 64;

using F64 = Vec<double>;
using U64 = Vec<std::uint64_t>;

TS_INLINE Mask<double> no_lanes() { return F64(1.0) < F64(0.0); }

// log k! for integers k >= 0: a table, then Stirling's series.
TS_INLINE F64 log_factorial(F64 k) {
  constexpr int kTable = 16;
  static constexpr double table[kTable] = {
      0.0,
      0.0,
      0.69314718055994530942,
      1.7917594692280550008,
      3.1780538303479456196,
      4.7874917427820459942,
      6.5792512120101009951,
      8.5251613610654143002,
      10.604602902745250228,
      12.801827480081469611,
      15.104412573075515295,
      17.502307845873885839,
      19.987214495661886150,
      22.552163853123422886,
      25.191221182738681500,
      27.899271383840891566,
  };
  const F64 z = k + F64(1.0), inverse = F64(1.0) / z, square = inverse * inverse;
  const F64 series = inverse * fma(square, fma(square, F64(1.0 / 1260), F64(-1.0 / 360)), F64(1.0 / 12));
  const F64 large = fma(z - F64(0.5), vmath::log(z), F64(0.91893853320467274178) - z) + series;
  F64 small;
  for (int i = 0; i < F64::width; ++i)
    small.set(i, k[i] >= 0 && k[i] < kTable ? table[static_cast<int>(k[i])] : 0.0);
  return select(k < F64(double{kTable}), small, large);
}

// A number of 53 bits, in (0, 1); the words of an attempt give two.
TS_INLINE F64 open_uniform(U64 word) { return fma(to_double_53(word), F64(0x1p-53), F64(0x1p-54)); }
template <class Draws>
TS_INLINE void two_uniform(const Draws& draws, std::int64_t element, std::int64_t attempt, F64& u, F64& v) {
  U64 w[4];
  draws.words(element, attempt, w);
  u = open_uniform(pair(w[0], w[1])), v = open_uniform(pair(w[2], w[3]));
}

// Takes proposals until every lane has one. propose(attempt, accepted) -> the proposals and who takes them.
template <class Propose>
TS_INLINE F64 until_accepted(const Propose& propose) {
  Mask<double> done = no_lanes();
  F64 y(0.0);
  for (std::int64_t attempt = 0; attempt < kDrawBlocks - 1; ++attempt) {
    Mask<double> accepted = no_lanes();
    const F64 proposal = propose(attempt, accepted);
    y = select(done, y, proposal);
    done = done | accepted;
    if (all(done)) break;
  }
  return y;
}

// How many terms of a discrete distribution u lies beyond: term is that of 0, next(term, k) that of k.
template <class Next>
TS_INLINE F64 invert(F64 u, F64 term, Mask<double> lanes, std::int64_t most, const Next& next) {
  F64 k(0.0);
  for (std::int64_t i = 1; i <= most; ++i) {
    const Mask<double> beyond = (u > term) & lanes;
    if (!any(beyond)) break;
    k = select(beyond, k + F64(1.0), k);
    u = select(beyond, u - term, u);
    term = select(beyond, next(term, k), term);
  }
  return k;
}

template <class Draws>
TS_INLINE F64 gamma_one(const Draws& draws, F64 shape, std::int64_t i) {
  const F64 one(1.0);
  const Mask<double> small = shape < one;
  const F64 d = select(small, shape + one, shape) - F64(1.0 / 3), c = one / (F64(3.0) * sqrt(d));
  F64 y = until_accepted([&](std::int64_t attempt, Mask<double>& accepted) {
    U64 w[4];
    draws.words(i, attempt, w);
    F64 x, unused;
    BoxMuller<double>::pair(pair(w[0], w[1]), w[2] << 32, x, unused);
    const F64 t = fma(c, x, one), v = t * t * t;
    const F64 u = fma(to_double_53(w[3] << 32), F64(0x1p-53), F64(0x1p-33));
    const F64 x2 = x * x;
    accepted = (v > F64(0.0)) & (u < fma(F64(-0.0331), x2 * x2, one));  // nearly always
    if (!all(accepted)) {
      const F64 safe = select(v > F64(0.0), v, one);
      const F64 bound = fma(F64(0.5), x2, d * (one - v + vmath::log(safe)));
      accepted = accepted | ((v > F64(0.0)) & (vmath::log(u) < bound));
    }
    return d * v;
  });
  if (any(small)) {
    F64 u, unused;
    two_uniform(draws, i, kDrawBlocks - 1, u, unused);
    y = select(small, y * vmath::exp(vmath::log(u) / shape), y);
  }
  return select(shape == F64(0.0), F64(0.0), y);
}

template <class Draws>
TS_INLINE F64 poisson_one(const Draws& draws, F64 mean, std::int64_t i) {
  const Mask<double> small = mean < F64(10.0);
  F64 y(0.0);
  if (any(small)) {
    F64 u, unused;
    two_uniform(draws, i, 0, u, unused);
    const F64 rate = select(small, mean, F64(0.0));
    y = invert(u, vmath::exp(-rate), small, 200, [&](F64 term, F64 k) { return term * rate / k; });
  }
  if (all(small)) return y;
  const F64 rate = select(small, F64(10.0), mean), log_rate = vmath::log(rate);
  const F64 b = fma(F64(2.53), sqrt(rate), F64(0.931)), a = fma(F64(0.02483), b, F64(-0.059));
  const F64 alpha = F64(1.1239) + F64(1.1328) / (b - F64(3.4)),
            quick = F64(0.9277) - F64(3.6224) / (b - F64(2.0));
  const F64 large = until_accepted([&](std::int64_t attempt, Mask<double>& accepted) {
    F64 u, v;
    two_uniform(draws, i, attempt, u, v);
    u = u - F64(0.5);
    const F64 us = F64(0.5) - abs(u);
    const F64 k = floor(fma(F64(2.0) * a / us + b, u, rate + F64(0.43)));
    accepted = (us >= F64(0.07)) & (v <= quick);
    if (all(accepted)) return k;
    const Mask<double> possible = (k >= F64(0.0)) & ((us >= F64(0.013)) | (v <= us));
    const F64 at = select(possible, k, F64(0.0));
    const F64 left = vmath::log(v * alpha / (a / (us * us) + b));
    accepted = accepted | (possible & (left <= fma(at, log_rate, -rate) - log_factorial(at)));
    return k;
  });
  return select(small, y, large);
}

template <class Draws>
TS_INLINE F64 binomial_one(const Draws& draws, F64 n, F64 given, std::int64_t i) {
  const F64 one(1.0), zero(0.0), half(0.5);
  const Mask<double> flipped = given > half;
  const F64 p = select(flipped, one - given, given), q = one - p;
  const Mask<double> small = n * p < F64(10.0);
  F64 y(0.0);
  if (any(small)) {
    F64 u, unused;
    two_uniform(draws, i, 0, u, unused);
    const F64 odds = p / q, start = vmath::exp(n * vmath::log1p(-p));
    y = invert(u, start, small, 200, [&](F64 term, F64 k) { return term * odds * (n - k + one) / k; });
    y = min(y, n);
  }
  if (!all(small)) {
    const F64 m = select(small, F64(40.0), n), p_m = select(small, half, p), q_m = select(small, half, q);
    const F64 spread = sqrt(m * p_m * q_m), b = fma(F64(2.53), spread, F64(1.15));
    const F64 a = fma(F64(0.0248), b, fma(F64(0.01), p_m, F64(-0.0873))), c = fma(m, p_m, half);
    const F64 quick = F64(0.92) - F64(4.2) / b, alpha = (F64(2.83) + F64(5.1) / b) * spread;
    const F64 log_odds = vmath::log(p_m / q_m), mode = floor((m + one) * p_m);
    const F64 top = log_factorial(mode) + log_factorial(m - mode);
    const F64 large = until_accepted([&](std::int64_t attempt, Mask<double>& accepted) {
      F64 u, v;
      two_uniform(draws, i, attempt, u, v);
      u = u - half;
      const F64 us = half - abs(u);
      const F64 k = floor(fma(F64(2.0) * a / us + b, u, c));
      const Mask<double> possible = (k >= zero) & (k <= m);
      accepted = possible & (us >= F64(0.07)) & (v <= quick);
      if (all(accepted)) return k;
      const F64 at = select(possible, k, mode);
      const F64 left = vmath::log(v * alpha / (a / (us * us) + b));
      const F64 right = fma(at - mode, log_odds, top) - log_factorial(at) - log_factorial(m - at);
      accepted = accepted | (possible & (left <= right));
      return select(possible, k, mode);
    });
    y = select(small, y, large);
  }
  return select(flipped, n - y, y);
}

}  // namespace ts::TS_MATH
