// The error of the float formulas of math/pointwise.h over all 2^32 inputs, against libm in double (long
// double where a difference cancels): the largest in units of the last place, where it is, and how many
// results are not the correctly rounded ones.
//
//   for level in "baseline" "avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2" \
//       "avx512 -mavx2 -mfma -mf16c -mbmi -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl"; do
//     g++ -std=c++20 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off -pthread -Icsrc \
//       -DTS_ISA=$level bench/accuracy.cpp -o accuracy && ./accuracy
//   done
//
//   accuracy [-s STEP] [function ...]     every STEP-th bit pattern (1: all, about a minute a function)
#include <atomic>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "math/pointwise.h"

namespace {

using namespace ts::cpu::TS_ISA;  // Vec
namespace formula = ts::TS_MATH::formula;
constexpr int W = Vec<float>::width;

using Formula = Vec<float> (*)(Vec<float>);
using Reference = double (*)(double);
struct Function {
  const char* name;
  Formula formula;
  Reference reference;
};

// The standard normal distribution: erfc does not cancel where 1 + erf would.
double normal_cdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

#define TS_SELF(name) [](Vec<float> x) { return formula::name::apply(x); }
// The exponent is a constant of each row.
template <int kNumerator, int kDenominator>
Vec<float> power(Vec<float> x) {
  return formula::power::apply(x, Vec<float>(float(kNumerator) / float(kDenominator)));
}
template <int kNumerator, int kDenominator>
double reference_power(double x) {
  return std::pow(x, double(float(kNumerator) / float(kDenominator)));
}
#define TS_POWER(text, n, d) {"pow " text, power<n, d>, reference_power<n, d>}

const Function kFunctions[] = {
    {"exp", TS_SELF(exp), std::exp},
    {"exp2", TS_SELF(exp2), std::exp2},
    {"expm1", TS_SELF(expm1), std::expm1},
    {"log", TS_SELF(log), std::log},
    {"log2", TS_SELF(log2), std::log2},
    {"log10", TS_SELF(log10), std::log10},
    {"log1p", TS_SELF(log1p), std::log1p},
    {"sin", TS_SELF(sin), std::sin},
    {"cos", TS_SELF(cos), std::cos},
    {"tan", TS_SELF(tan), std::tan},
    {"asin", TS_SELF(asin), std::asin},
    {"acos", TS_SELF(acos), std::acos},
    {"atan", TS_SELF(atan), std::atan},
    {"sinh", TS_SELF(sinh), std::sinh},
    {"cosh", TS_SELF(cosh), std::cosh},
    {"tanh", TS_SELF(tanh), std::tanh},
    {"asinh", TS_SELF(asinh), std::asinh},
    {"acosh", TS_SELF(acosh), std::acosh},
    {"atanh", TS_SELF(atanh), std::atanh},
    {"erf", TS_SELF(erf), std::erf},
    {"rsqrt", TS_SELF(rsqrt), [](double x) { return 1 / std::sqrt(x); }},
    {"sigmoid", TS_SELF(sigmoid), sigmoid},
    {"log_sigmoid", TS_SELF(log_sigmoid),
     [](double x) { return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)); }},
    {"silu", TS_SELF(silu),
     [](double x) { return x == -std::numeric_limits<double>::infinity() ? -0.0 : x * sigmoid(x); }},
    {"gelu", TS_SELF(gelu),
     [](double x) { return x == -std::numeric_limits<double>::infinity() ? -0.0 : x * normal_cdf(x); }},
    {"gelu_tanh", TS_SELF(gelu_tanh),
     [](double x) {
       if (std::isinf(x)) return x > 0 ? x : -0.0;
       return x * sigmoid(1.5957691216057307117597842397375 * (x + 0.044715 * x * x * x));
     }},
    {"softplus", TS_SELF(softplus),
     [](double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }},
    {"mish", TS_SELF(mish),
     [](double x) {
       if (std::isinf(x)) return x > 0 ? x : -0.0;
       if (x > 30) return x;
       const double e = std::exp(x), w = e * (e + 2);
       return x * (w / (w + 2));
     }},
    TS_POWER("-2", -2, 1),
    TS_POWER("-0.5", -1, 2),
    TS_POWER("0.333", 333, 1000),
    TS_POWER("1.5", 3, 2),
    TS_POWER("3", 3, 1),
    TS_POWER("10.1", 101, 10),
};

// The distance from y to the exact result in units of the last place of its float; 0 where both overflow.
double error_of(float y, double exact) {
  const float rounded = static_cast<float>(exact);
  if (y == rounded || (y != y && exact != exact)) return 0;
  if (!std::isfinite(y) || !std::isfinite(exact)) return std::numeric_limits<double>::infinity();
  const double size = std::fabs(exact);
  int exponent = size > 0 ? std::ilogb(size) : -126;
  if (exponent < -126) exponent = -126;
  return std::fabs(double(y) - exact) / std::ldexp(1.0, exponent - 23);
}

struct Worst {
  double error = 0;
  std::uint32_t bits = 0;
  std::uint64_t misrounded = 0;
};

Worst measure(const Function& f, std::uint64_t step) {
  constexpr std::uint64_t kAll = std::uint64_t{1} << 32, kPiece = 1 << 22;
  std::atomic<std::uint64_t> next{0};
  const unsigned count = std::thread::hardware_concurrency();
  std::vector<Worst> worst(count);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < count; ++t)
    threads.emplace_back([&, t] {
      Worst mine;
      for (std::uint64_t piece; (piece = next.fetch_add(kPiece)) * step < kAll;)
        for (std::uint64_t i = piece; i < piece + kPiece && i * step < kAll; i += W) {
          float x[W], y[W];
          for (int j = 0; j < W; ++j) {
            const std::uint32_t bits = static_cast<std::uint32_t>((i + static_cast<std::uint64_t>(j)) * step);
            std::memcpy(x + j, &bits, 4);
          }
          f.formula(Vec<float>::load(x)).store(y);
          for (int j = 0; j < W; ++j) {
            const double exact = f.reference(x[j]);
            const float rounded = static_cast<float>(exact);
            if (y[j] == rounded || (y[j] != y[j] && exact != exact)) continue;
            ++mine.misrounded;
            const double error = error_of(y[j], exact);
            if (error > mine.error) mine.error = error, std::memcpy(&mine.bits, x + j, 4);
          }
        }
      worst[t] = mine;
    });
  for (std::thread& thread : threads) thread.join();
  Worst all;
  for (const Worst& w : worst) {
    all.misrounded += w.misrounded;
    if (w.error > all.error) all.error = w.error, all.bits = w.bits;
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t step = 1;
  int first = 1;
  if (argc > 2 && !std::strcmp(argv[1], "-s")) step = std::strtoull(argv[2], nullptr, 10), first = 3;
  bool good = step > 0;
  std::printf("%-12s %8s  %-24s %s\n", "function", "ULP", "at", "not the nearest");
  for (const Function& f : kFunctions) {
    bool wanted = first == argc;
    for (int i = first; i < argc; ++i) wanted |= !std::strcmp(argv[i], f.name);
    if (!wanted || !good) continue;
    const Worst w = measure(f, step);
    float x;
    std::memcpy(&x, &w.bits, 4);
    std::printf("%-12s %8.3f  %08" PRIx32 " %-15.9g %.4f %%\n", f.name, w.error, w.bits, double(x),
                100.0 * double(w.misrounded) * double(step) / 4294967296.0);
    std::fflush(stdout);
    good = good && w.error <= 2;
  }
  return good ? 0 : 1;
}
