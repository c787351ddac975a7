// Polynomials and split constants of vmath.h, fitted by Remez exchange for relative error in the weight that
// each formula needs, the leading coefficients rounded first and the rest refitted
// (docs/kernels/pointwise.md).
#pragma once

#include "math/registers.h"

namespace ts::TS_MATH {
namespace vmath {

// A constant as the sum of two numbers: `high` leaves room for an exact product where the name says so.
template <class T>
struct Split {
  T high, low;
};

template <class T>
struct Coefficients;

template <>
struct Coefficients<float> {
  using T = float;
  using Bits = std::int32_t;
  static constexpr int mantissa_bits = 23;
  static constexpr T min_normal = 0x1p-126f, infinity = __builtin_inff(), nan = __builtin_nanf("");
  static constexpr T subnormal_shift = 24, subnormal_scale = 0x1p24f;
  static constexpr T epsilon = 0x1p-24f;
  static constexpr T magic = 0x1.8p23f;
  // exp: inputs beyond these give 0 and inf
  static constexpr T exp_lowest = -105, exp_highest = 90, exp2_lowest = -152, exp2_highest = 130,
                     exponent_lowest = -126, logistic_bound = 30;
  static constexpr T expm1_lowest = -18, expm1_highest = 89, tanh_highest = 10;
  static constexpr T tail_highest = 15;  // the normal distribution's tail times x is 0 beyond it

  static constexpr T log2e = 1.44269504f;
  static constexpr Split<T> ln2_cut = {0.693145751953125f, 1.428606765330187e-06f};  // n * high is exact
  static constexpr Split<T> log10_2_cut = {0.301025390625f, 4.605039066518657e-06f};
  static constexpr Split<T> ln2 = {0.6931471228599548f, 5.769998878690785e-08f};
  static constexpr Split<T> log2_e = {1.4426950216293335f, 1.925963e-08f};
  static constexpr Split<T> log10_e = {0.4342944920063019f, -1.0103050052231683e-08f};
  static constexpr Split<T> half_pi = {1.570796251296997f, 7.549790126404332e-08f};
  static constexpr T half_pi_rest = -1.7151245100058819e-15f, two_over_pi = 0.636619772f;
  static constexpr T huge_angle = 0x1p17f, largest = 0x1.fffffep127f;
  static constexpr Split<T> gelu_linear = {1.5957690477371216f, 7.38686125600907e-08f};  // 2 sqrt(2/pi)
  static constexpr Split<T> gelu_cubic = {0.07135481387376785f, 2.3988324659995897e-09f};

  // e^r = 1 + r + r^2 q(r), |r| <= ln 2 / 2
  static constexpr Table exp = {5e-01f,        1.6666666e-01f, 4.166636e-02f,
                                8.333391e-03f, 1.3940721e-03f, 1.9845615e-04f};
  // 2^f = 1 + f q(f), |f| <= 1/2
  static constexpr Table exp2 = {6.93147182e-01f, 2.40226477e-01f, 5.55035956e-02f,
                                 9.61850025e-03f, 1.33909762e-03f, 1.53289075e-04f};
  // log2(1 + r) = r (log2_e + r (slope + r q(r))) to 2^-34
  static constexpr Split<T> power_slope = {-7.21347511e-01f, -9.93354954e-10f};
  static constexpr Table power = {4.8089844e-01f, -3.60699654e-01f, 2.88634211e-01f, -2.24153459e-01f};
  // log_b(1 + r) = r log_b e + r^2 q(r), -1/30 <= r <= 1/16
  static constexpr Table log = {-4.9999997e-01f, 3.33344877e-01f, -2.50141621e-01f, 1.89503431e-01f};
  static constexpr Table log2 = {-7.21347511e-01f, 4.80914861e-01f, -3.60852987e-01f, 2.73177713e-01f};
  static constexpr Table log10 = {-2.17147231e-01f, 1.44769877e-01f, -1.08632274e-01f, 8.22566524e-02f};
  // sin r = r + r^3 p(r^2), cos r = 1 - r^2/2 + r^4 p(r^2), tan r = r + r^3 p(r^2), |r| <= pi/4
  static constexpr Table sin = {-1.6666655e-01f, 8.332191e-03f, -1.951858e-04f};
  static constexpr Table cos = {4.1666653e-02f, -1.3887619e-03f, 2.4463397e-05f};
  static constexpr Table tan = {3.333314e-01f,  1.3339183e-01f, 5.338219e-02f,
                                2.4526019e-02f, 2.9768278e-03f, 9.4647175e-03f};
  // atan t = t + t^3 p(t^2), |t| <= tan(pi/8); asin s = s + s^3 p(s^2), |s| <= 1/2
  static constexpr Table atan = {-3.3333316e-01f, 1.9998531e-01f, -1.4244467e-01f, 1.05997644e-01f,
                                 -6.0915153e-02f};
  static constexpr Table asin = {1.666666e-01f, 7.500521e-02f,  4.451363e-02f,
                                 3.183612e-02f, 1.4328844e-02f, 3.767374e-02f};
  // sinh r = r + r^3 p(r^2), cosh r = 1 + r^2/2 + r^4 p(r^2), |r| <= 0.46
  static constexpr Table sinh = {1.6666667e-01f, 8.333196e-03f, 1.9953346e-04f};
  static constexpr Table cosh = {4.166603e-02f, 1.3970538e-03f};
  // erf x = x + x p(x^2), |x| <= 1
  static constexpr Table erf = {1.2837917e-01f, -3.761263e-01f, 1.1283618e-01f, -2.6855122e-02f,
                                5.190717e-03f,  -8.030521e-04f, 7.919259e-05f};
  // P(normal > x) e^(x^2/2) = v (tail_0 + u p(u)), v = 1 / (x + 4), u = (x - 4) v, x >= 0
  static constexpr Split<T> tail_0 = {0.7552851438522339f, -1.2664291837438668e-08f};
  // P(normal > a) a e^(a^2/2) = (far_tail_0 + z p(z)) e^far_tail_log, z = 1 / a^2, a >= 4.4
  static constexpr T far_tail_0 = 0.3989423f, far_tail_log = -2.841305748e-08f;
  static constexpr Table far_tail = {-0.398940802f, 1.19629848f, -5.91642094f,
                                     37.6011391f,   -223.95079f, 762.635864f};
  static constexpr Table tail = {-6.078966e-01f,  3.871373e-01f,   -1.8652202e-01f, 6.039845e-02f,
                                 -7.539871e-03f,  -3.4919125e-03f, 1.6286828e-03f,  1.6906467e-04f,
                                 -2.1339896e-04f, -4.1256702e-05f};
};

template <>
struct Coefficients<double> {
  using T = double;
  using Bits = std::uint64_t;
  static constexpr int mantissa_bits = 52;
  static constexpr T min_normal = 0x1p-1022, infinity = __builtin_inf(), nan = __builtin_nan("");
  static constexpr T subnormal_shift = 54, subnormal_scale = 0x1p54;
  static constexpr T epsilon = 0x1p-53;
  static constexpr T magic = 0x1.8p52;
  static constexpr T exp_lowest = -747, exp_highest = 712, exp2_lowest = -1077, exp2_highest = 1026,
                     exponent_lowest = -1022, logistic_bound = 80;
  static constexpr T expm1_lowest = -40, expm1_highest = 710, tanh_highest = 20;
  static constexpr T tail_highest = 39.5;

  static constexpr T log2e = 1.4426950408889634;
  static constexpr Split<T> ln2_cut = {0.6931471805598903, 5.497923018708371e-14};
  static constexpr Split<T> log10_2_cut = {0.30102999566395283, 2.8363394551044964e-14};
  static constexpr Split<T> ln2 = {0.6931471805599453, 2.3190468138462996e-17};
  static constexpr Split<T> log2_e = {1.4426950408889634, 2.0355273740931033e-17};
  static constexpr Split<T> log10_e = {0.4342944819032518, 1.098319650216765e-17};
  static constexpr Split<T> half_pi = {1.5707963267948966, 6.123233995736766e-17};
  static constexpr T half_pi_rest = -1.4973849048591698e-33, two_over_pi = 0.63661977236758134;
  static constexpr T huge_angle = 0x1p28, largest = 0x1.fffffffffffffp1023;
  static constexpr Split<T> gelu_linear = {1.5957691216057306, 1.223515168339221e-16};
  static constexpr Split<T> gelu_cubic = {0.07135481627260024, 1.3260272815998925e-17};

  static constexpr Table exp = {0.5,
                                0.16666666666666677,
                                0.041666666666666505,
                                0.008333333333321608,
                                0.0013888888888962919,
                                0.00019841269886206384,
                                2.4801587171808305e-05,
                                2.755724410576295e-06,
                                2.7557402974656375e-07,
                                2.5109080840178623e-08,
                                2.0875316219438115e-09};
  // log2(1 + r) = r (log2_e + r (slope + r (cubic + r q(r)))) to 2^-66, -1/30 <= r <= 1/16
  static constexpr Split<T> power_slope = {-0.7213475204444817, -1.0177636870465517e-17};
  static constexpr Split<T> power_cubic = {0.4808983469629878, 2.5288808324062953e-17};
  static constexpr Table power = {-0.360673760222244,   0.28853900817825145,  -0.24044917347079245,
                                  0.20609928987001,     -0.18033687630306425, 0.1603013761919371,
                                  -0.14429773307703628, 0.13056766871175526,  -0.10372475659177068};
  // log(1 + r) = r + r^2 q(r), -1/30 <= r <= 1/16
  static constexpr Table log = {-0.4999999999999999,  0.3333333333335013,   -0.25000000000249617,
                                0.19999999923571685,  -0.16666665258114396, 0.14285810135473614,
                                -0.12502382587627411, 0.1108406827616617,   -0.08825180745336066};
  // log(1 + f) = f - (f^2/2 - s (f^2/2 + z p(z))), s = f / (2 + f), z = s^2
  static constexpr Table log_quotient = {0.6666666666666735,  0.399999999994093,   0.2857142874370469,
                                         0.22222198426538461, 0.18183572507918172, 0.15313827623798007,
                                         0.14798310202616};
  static constexpr Table sin = {-0.16666666666666632,   0.008333333333322486,    -0.00019841269829853138,
                                2.7557313704934147e-06, -2.5050759860615236e-08, 1.5896884229438416e-10};
  static constexpr Table cos = {0.04166666666666665,    -0.001388888888888171,  2.480158729367168e-05,
                                -2.755731544422636e-07, 2.0875859127488986e-09, -1.1366157402866086e-11};
  static constexpr Table tan = {0.33333333333332715,   0.13333333333422662,     0.05396825392305981,
                                0.021869489690516816,  0.008863218078428627,    0.003592298369940006,
                                0.0014547042800585985, 0.0005952801889422661,   0.00022177229650621,
                                0.0001377252763576001, -2.8010838713543272e-05, 9.088952183657298e-05,
                                -4.56245512489665e-05, 2.1036947570019445e-05};
  static constexpr Table atan = {-0.33333333333333326, 0.19999999999997095,   -0.14285714285316437,
                                 0.11111111083750891,  -0.09090907986157211,  0.07692279210144626,
                                 -0.06666174852775818, 0.05876518486670715,   -0.05215196676024331,
                                 0.044906375351057126, -0.033176911669118965, 0.01489605831334737};
  static constexpr Table asin = {0.16666666666666763,   0.07499999999970125,  0.04464285717526007,
                                 0.030381942676599098,  0.022372215866398412, 0.017351596251664415,
                                 0.013981009044452724,  0.011397374411143836, 0.01078884567809439,
                                 0.0036740498598268824, 0.02178595249799582,  -0.02110986503836015,
                                 0.032697750611461227};
  static constexpr Table sinh = {0.16666666666666666,    0.00833333333333357,    0.00019841269841066561,
                                 2.7557319307072544e-06, 2.5052090220670483e-08, 1.606122700165435e-10,
                                 7.511057174816143e-13,  6.261141912396788e-15};
  static constexpr Table erf = {0.1283791670955126,     -0.37612638903183754,    0.1128379167095512,
                                -0.02686617064512985,   0.005223977625423408,    -0.0008548327021941662,
                                0.000120553329031599,   -1.4925647574628785e-05, 1.6462045566932577e-06,
                                -1.636464364684448e-07, 1.4792412811360759e-08,  -1.2164616180422806e-09,
                                8.709194162117377e-11,  -4.2311036965112245e-12};
  static constexpr Split<T> tail_0 = {0.7552851304157515, -3.7063706721651594e-17};
  static constexpr Table tail = {
      -0.6078966419718921,     0.3871374007422195,      -0.18652185795966325,   0.06039657489066611,
      -0.007540188966484515,   -0.0034796923616022815,  0.001630818453839871,   0.00013334424849727726,
      -0.00023109490739489226, -1.9078440796008505e-06, 3.514458474260547e-05,  7.149773376834952e-07,
      -5.9200510876940965e-06, -6.252371252421975e-07,  1.021925209697225e-06,  2.641760618890123e-07,
      -1.5666470578386025e-07, -7.724023056309339e-08,  1.6113353264156833e-08, 1.4641017819753147e-08,
      -3.5068788844506533e-10, -1.203284753685565e-09};
};

}  // namespace vmath
}  // namespace ts::TS_MATH
