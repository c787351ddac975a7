// Kernels whose result is bool, or that choose by one: predicates, comparisons, where.
#include <limits>

#include "cpu/kernels.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"
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

// The bounds are rounded as |b| * rtol + atol, two operations, rounds them.
template <class T>
bool piece_close(const T* a, const T* b, std::int64_t n, T rtol, T atol, bool equal_nan) {
  using V = Vec<T>;
  constexpr std::int64_t W = V::width;
  const V relative(rtol), absolute(atol), largest(std::numeric_limits<T>::max());
  const auto far = [&](V p, V q) __attribute__((always_inline)) {
    const V size = abs(q);
    const Mask<T> near = ((abs(p - q) <= size * relative + absolute) & (size <= largest)) | (p == q);
    return equal_nan ? ~(near | ((p != p) & (q != q))) : ~near;
  };
  std::int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    if (any((far(V::load(a + i), V::load(b + i)) | far(V::load(a + i + W), V::load(b + i + W))) |
            (far(V::load(a + i + 2 * W), V::load(b + i + 2 * W)) |
             far(V::load(a + i + 3 * W), V::load(b + i + 3 * W)))))
      return false;
  for (; i < n; i += W) {
    const std::int64_t left = n - i < W ? n - i : W;
    if (any(far(V::load_partial(a + i, left), V::load_partial(b + i, left)))) return false;
  }
  return true;
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

// Reads a and b once, no further than the piece in which it finds two that are not close.
void all_close(In a, In b, Out y, double rtol, double atol, bool equal_nan) {
  with_floating(a.dtype, [&]<class T>(Type<T>) {
    bool close = true;  // any piece may say that it is not
    parallel_ranges(a.size(), kLightGrain, [&](std::int64_t begin, std::int64_t end) {
      if (__atomic_load_n(&close, __ATOMIC_RELAXED) &&
          !piece_close(a.as<T>() + begin, b.as<T>() + begin, end - begin, static_cast<T>(rtol),
                       static_cast<T>(atol), equal_nan))
        __atomic_store_n(&close, false, __ATOMIC_RELAXED);
    });
    *y.as<bool>() = close;
  });
}

}  // namespace ts::cpu::TS_ISA
