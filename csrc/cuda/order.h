// Values as unsigned integers that sort as they do: NaN is one value, and zeros may be (kOneZero).
#pragma once

#include "cuda/simd.h"

namespace ts::cuda {

template <class T>
using KeyOf = std::make_unsigned_t<IntOf<T>>;

template <class T, bool kOneZero>
struct Order {
  using Key = KeyOf<T>;
  static constexpr Key kTop = static_cast<Key>(Key(1) << (8 * sizeof(Key) - 1));
  Key flip, nan;

  // Ascending or descending with NaN at the end; or, with `greatest`, NaN above every number.
  Order(bool descending, bool greatest)
      : flip(descending ? static_cast<Key>(~Key(0)) : Key(0)),
        nan(greatest ? static_cast<Key>(~Key(0)) : static_cast<Key>(~flip)) {}

  TS_INLINE Key key(T x) const {
    if constexpr (std::is_floating_point_v<T>) {
      const IntOf<T> bits = bits_as<IntOf<T>>(kOneZero ? x + T(0) : x);
      const Key k = static_cast<Key>(static_cast<Key>(bits) ^
                                     static_cast<Key>(static_cast<Key>(bits >> (8 * sizeof(T) - 1)) | kTop));
      return static_cast<Key>((x == x ? k : nan) ^ flip);
    } else {
      return static_cast<Key>(static_cast<Key>(x) ^ (std::is_signed_v<T> ? kTop : Key(0)) ^ flip);
    }
  }
  TS_INLINE T value(Key k) const {
    k = static_cast<Key>(k ^ flip);
    if constexpr (std::is_floating_point_v<T>)
      return bits_as<T>(static_cast<Key>(k ^ (k & kTop ? kTop : static_cast<Key>(~Key(0)))));
    else
      return static_cast<T>(static_cast<Key>(k ^ (std::is_signed_v<T> ? kTop : Key(0))));
  }
};

}  // namespace ts::cuda
