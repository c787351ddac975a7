// Smooth functions of floats by segments: a polynomial around the middle of each of 16 intervals, its
// coefficients looked up in registers.
//
// The intervals are quarters of an octave, tanh's of a sum, and the first one reaches down to 0.
// The middles are chosen so that the function's value there is a float to 2^-10 of its last place.
#pragma once

#include "math/vmath.h"

namespace ts::TS_MATH {
namespace vmath {

// c[0] + r (c[1] + r (c[2] + ...)), each from row I on looked up.
template <int I, class V, class Index, int N>
TS_INLINE V segment_polynomial(V r, Index index, const float (&c)[N][16]) {
  const V coefficient = lookup(c[I], index);
  if constexpr (I == N - 1)
    return coefficient;
  else
    return fma(segment_polynomial<I + 1>(r, index, c), r, coefficient);
}
// The segment of a >= 0: 2^(23 - Shift) of them an octave, the first one up to a little above `first`.
template <int Shift, class V>
TS_INLINE auto segment_of(V a, float first) {
  using Bits = decltype(bit_cast<std::int32_t>(a));
  const Bits index = (bit_cast<std::int32_t>(a) - bit_cast<std::int32_t>(V(first))) >> Shift;
  return max(Bits(0), index);
}

// The segments are those of a + 0.625, of which 0.625 itself is in row 9. 1.2 ULP.
template <class V>
TS_INLINE V tanh_by_segments(V x) {
  static constexpr float kMiddle[16] = {1.62446594f,  2.11976624f,  2.62664795f,  3.12615967f,
                                        3.87548828f,  4.87908936f,  5.87258911f,  6.87258911f,
                                        8.31688595f,  0.0f,         0.187828064f, 0.312267303f,
                                        0.500396729f, 0.750564575f, 0.999794006f, 1.24983978f};
  static constexpr float kCoefficients[7][16] = {
      {0.925269425f, 0.971580982f, 0.989593923f, 0.996155441f, 0.999139726f, 0.999884367f, 0.999984145f,
       0.999997854f, 0.999999881f, 0.0f, 0.185649976f, 0.302498341f, 0.462429106f, 0.635485649f, 0.76150763f,
       0.848238707f},
      {0.143876418f, 0.0560303852f, 0.0207038671f, 0.00767433783f, 0.00171984313f, 0.000231257189f,
       3.1709711e-05f, 4.29144939e-06f, 2.38860423e-07f, 1.0f, 0.965534091f, 0.908494771f, 0.786159337f,
       0.596157968f, 0.420106143f, 0.280491084f},
      {-0.133124426f, -0.0544380322f, -0.0204884075f, -0.00764485868f, -0.00171835732f, -0.00023123037f,
       -3.17081685e-05f, -4.28894964e-06f, -2.43582377e-07f, -3.89794366e-08f, -0.179251373f, -0.274818003f,
       -0.363542855f, -0.378849864f, -0.319914043f, -0.237923458f},
      {0.0752269328f, 0.0342153497f, 0.0133737279f, 0.00505721476f, 0.0011424399f, 0.000153958303f,
       2.11201677e-05f, 2.86007935e-06f, 1.58697759e-07f, -0.333328903f, -0.288571239f, -0.219716579f,
       -0.0939468518f, 0.0420369469f, 0.103577666f, 0.108322747f},
      {-0.0252279211f, -0.0150976488f, -0.00640563061f, -0.00248878286f, -0.000569313648f, -7.6931814e-05f,
       -1.05674371e-05f, -1.45346269e-06f, -6.36009716e-08f, -0.000163865727f, 0.113305926f, 0.157958478f,
       0.16460526f, 0.0995805562f, 0.0277633332f, -0.0125639811f},
      {0.00114527065f, 0.00447110739f, 0.00235014874f, 0.000971195113f, 0.00023549686f, 3.20591607e-05f,
       4.39412452e-06f, 5.88078706e-07f, 3.45605002e-08f, 0.135983229f, 0.0974211767f, 0.0490936749f,
       -0.0265473016f, -0.0638063848f, -0.0460858047f, -0.0194906481f},
      {0.0042424053f, -0.00052013871f, -0.000633392774f, -0.000309498428f, -7.72166168e-05f, -1.07193682e-05f,
       -1.44524552e-06f, -1.39147332e-07f, -2.46592666e-08f, -0.0195206739f, -0.0553111956f, -0.0544167757f,
       -0.0495419726f, -0.00164751685f, 0.0186694376f, 0.0148483859f}};
  const V a = min(V(9.1f), abs(x));  // 1 from there on; NaN stays
  const auto index = bit_cast<std::int32_t>(a + V(0.625f)) >> 21;
  return with_sign(segment_polynomial<0>(a - lookup(kMiddle, index), index, kCoefficients), x);
}

// 1.1 ULP. In the first segment the table is of erf(a) - a: what is added to a is small, and so is its error.
template <class V>
TS_INLINE V erf_by_segments(V x) {
  static constexpr float kMiddle[16] = {0.0f,         0.343828678f, 0.407836914f, 0.469493866f,
                                        0.562294006f, 0.688171387f, 0.808309555f, 0.934524536f,
                                        1.11954117f,  1.37506294f,  1.62869453f,  1.87402725f,
                                        2.23942566f,  2.74332809f,  3.26770401f,  3.74392748f};
  static constexpr float kValue[16] = {0.0f,         0.373208076f, 0.435904145f, 0.493287027f,
                                       0.573505044f, 0.669556677f, 0.747012198f, 0.813704371f,
                                       0.886640131f, 0.948180795f, 0.978739262f, 0.991957366f,
                                       0.998459935f, 0.999895394f, 0.999996185f, 0.999999881f};
  static constexpr float kCoefficients[6][16] = {
      {0.128379181f, 1.00256741f, 0.955473065f, 0.905161202f, 0.822511911f, 0.70271939f, 0.587087095f,
       0.471161723f, 0.322197616f, 0.170330286f, 0.0795106962f, 0.0336683877f, 0.00748954201f,
       0.000608179835f, 2.6011101e-05f, 9.22594268e-07f},
      {-3.01015552e-06f, -0.344710886f, -0.389677167f, -0.424967408f, -0.46249342f, -0.483591408f,
       -0.474548131f, -0.440312058f, -0.360713452f, -0.234214857f, -0.129498646f, -0.0630954802f,
       -0.0167722981f, -0.00166835997f, -8.5013955e-05f, -3.45505987e-06f},
      {-0.376020104f, -0.255349785f, -0.212565735f, -0.168801337f, -0.100796744f, -0.0123722572f,
       0.0600241683f, 0.11727377f, 0.161823437f, 0.157930627f, 0.114107907f, 0.067606464f, 0.0225462709f,
       0.00284643751f, 0.000176010231f, 8.28476459e-06f},
      {-0.00140286423f, 0.157359675f, 0.173077583f, 0.180538893f, 0.182447121f, 0.165475398f, 0.133939564f,
       0.0918883607f, 0.0296456255f, -0.0305111203f, -0.0497553423f, -0.0423153825f, -0.0196538493f,
       -0.00335288956f, -0.000258122047f, -1.42517956e-05f},
      {0.121355839f, 0.198277771f, 0.0562975444f, 0.0944478586f, -0.0112718735f, -0.0427957028f,
       -0.0609344617f, -0.0707872733f, -0.0616754293f, -0.0306523796f, -0.00204223627f, 0.0113138147f,
       0.0107571017f, 0.00289236242f, 0.000302973349f, 2.03942218e-05f},
      {-0.0242998563f, 0.921487272f, 0.144985065f, 0.577760935f, -0.0381895341f, -0.0382032804f,
       -0.0222592689f, 0.0127347317f, 0.0155246072f, 0.0221142564f, 0.0142354928f, 0.00415253965f,
       -0.00276385364f, -0.00166966184f, -0.000273692276f, -2.34582785e-05f}};
  const V a = min(V(3.95f), abs(x));  // 1 from there on; NaN stays
  const auto index = segment_of<21>(a, 0.25f);
  const V r = a - lookup(kMiddle, index), value = select(a < V(0.3125f), a, lookup(kValue, index));
  return with_sign(fma(segment_polynomial<0>(r, index, kCoefficients), r, value), x);
}

}  // namespace vmath
}  // namespace ts::TS_MATH
