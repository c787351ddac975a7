// Kernels whose result is bool, or that choose by one: predicates, comparisons, where.
#include "cpu/kernels.h"
#include "cpu/loops.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

#define KERNEL(...)
#define UNARY(name, domain)
#define BINARY(name, domain)
#define TERNARY(name, domain)
#define REDUCE(name, domain)
#define PREDICATE(name, domain)                                                                             \
  void name(In x, Out y) {                                                                                  \
    with_##domain(x.dtype,                                                                                  \
                  [&]<class T>(Type<T>) { map({unary_loop<formula::name, T, bool>, kLightGrain}, y, x); }); \
  }
#define COMPARE(name, domain)                                           \
  void name(In a, In b, Out y) {                                        \
    with_##domain(a.dtype, [&]<class T>(Type<T>) {                      \
      map({binary_loop<formula::name, T, bool>, kLightGrain}, y, a, b); \
    });                                                                 \
  }
#include "core/kernels.def"

namespace {

// The elements' bits are all that counts: one loop per size.
template <class T>
void where_loop(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  const bool* condition = static_cast<const bool*>(in[0]);
  const T* a = static_cast<const T*>(in[1]);
  const T* b = static_cast<const T*>(in[2]);
  T* y = static_cast<T*>(out);
  const std::int64_t sc = step[0], sa = step[1], sb = step[2];
  for_registers<formula::Light, Vec<T>::width>(y, n, [&](std::int64_t i, std::int64_t count) {
    const bool* c = condition + i * sc;
    const Mask<T> mask = count >= Vec<T>::width ? load_mask<T>(c) : load_mask_partial<T>(c, count);
    store_some(
        select(mask, load_some<Vec<T>>(a + i * sa, sa, count), load_some<Vec<T>>(b + i * sb, sb, count)),
        y + i, count);
  });
}

void where_loop_16(const void* const* in, const std::int64_t* step, void* out, std::int64_t n) {
  using Element = ComplexBits<double>;
  const bool* condition = static_cast<const bool*>(in[0]);
  const Element* a = static_cast<const Element*>(in[1]);
  const Element* b = static_cast<const Element*>(in[2]);
  Element* y = static_cast<Element*>(out);
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(y + i, condition[i * step[0]] ? a + i * step[1] : b + i * step[2], sizeof(Element));
}

}  // namespace

void where(In condition, In a, In b, Out y) {
  switch (itemsize(y.dtype)) {
    case 1:
      return map({where_loop<std::uint8_t>, kLightGrain}, y, condition, a, b);
    case 2:
      return map({where_loop<std::uint16_t>, kLightGrain}, y, condition, a, b);
    case 16:
      return map({where_loop_16, kLightGrain}, y, condition, a, b);
    case 4:
      return map({where_loop<std::int32_t>, kLightGrain}, y, condition, a, b);
    default:
      return map({where_loop<std::int64_t>, kLightGrain}, y, condition, a, b);
  }
}

}  // namespace ts::cpu::TS_ISA
