// Fourier transforms: lengths of small primes go to the kernel, others through a convolution (Bluestein
// 1970).
//
// Bluestein: with c_j = e^(-pi i j^2 / N), X_k = c_k sum_j (x_j c_j) conj(c_(k - j)), a convolution, done by
// transforms of a length M >= 2N - 1 that the kernel likes.
#include "ops/fft.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "core/fft_split.h"
#include "core/launch.h"
#include "core/threads.h"
#include "ops/complex.h"
#include "ops/creation.h"
#include "ops/device.h"
#include "ops/elementwise.h"
#include "ops/manipulate.h"
#include "ops/rows.h"

namespace ts::ops {

namespace {

constexpr int kLargestRadix = 31;
constexpr std::size_t kCached = 64;

// e^(-2 pi i j / n), exact in the octants' corners.
struct Root {
  double re, im;
  Root(std::int64_t j, std::int64_t n) {
    constexpr long double kPi = 3.14159265358979323846264338327950288L;
    j %= n;
    const std::int64_t eighth = 8 * j / n;              // the octant
    const std::int64_t quarter = (eighth + 1) / 2 * n;  // four times the nearest quarter turn
    const auto angle = static_cast<double>(2 * kPi * static_cast<long double>(4 * j - quarter) /
                                           (4 * static_cast<long double>(n)));
    const double c = std::cos(angle), s = std::sin(angle);
    switch ((eighth + 1) / 2 % 4) {
      case 0:
        re = c, im = -s;
        break;
      case 1:
        re = -s, im = -c;
        break;
      case 2:
        re = -c, im = s;
        break;
      default:
        re = s, im = c;
    }
  }
};

struct Plan {
  Fft fft{};
  Array twiddle;  // as the kernel wants it, then (for real rows) the roots of 2 length
};

// False where a prime factor is too large.
bool factorize(std::int64_t n, Fft& f) {
  f.passes = 0;
  const auto divide = [&](int r) {
    while (n % r == 0) f.radix[f.passes++] = static_cast<std::uint8_t>(r), n /= r;
  };
  divide(4);
  for (int r = 2; r <= kLargestRadix; ++r) divide(r);
  return n == 1;
}

// The radices of a long row in two groups of about equal products, with a 1 between them: see
// core/fft_split.h.
void split_radices(Fft& f) {
  std::vector<std::uint8_t> group[2];
  std::int64_t product[2] = {1, 1};
  for (int i = f.passes - 1; i >= 0; --i) {  // the largest are last
    const int to = product[0] <= product[1] ? 0 : 1;
    group[to].push_back(f.radix[i]);
    product[to] *= f.radix[i];
  }
  group[0].push_back(1);
  f.passes = 0;
  for (const auto& radices : group)
    for (const std::uint8_t r : radices) f.radix[f.passes++] = r;
}
// Where the second group begins; 0 where there is one alone.
int second_group(const Fft& f) {
  const auto* const end = f.radix + f.passes;
  const auto* const one = std::find(f.radix, end, std::uint8_t{1});
  return one == end ? 0 : static_cast<int>(one - f.radix) + 1;
}
std::int64_t product_of(const Fft& f, int begin, int end) {
  std::int64_t n = 1;
  for (int i = begin; i < end; ++i) n *= f.radix[i];
  return n;
}

// Whether the columns of a long row that go through their passes at once fit the scratch memory: they do
// below 5 * 10^8 numbers, and beyond where the radices are small.
bool fits_scratch(const Fft& f, DType dtype) {
  const std::int64_t N1 = product_of(f, 0, second_group(f)), N2 = f.length / N1;
  return std::max(N1, N2) * kFftBlock * 4 * itemsize(dtype) <= static_cast<std::int64_t>(kScratchBytes);
}

// The factors of the passes begin ... end - 1 of n numbers; returns what lies behind them.
template <class T>
T* fill_passes(const Fft& f, int begin, int end, std::int64_t n, T* out) {
  for (int i = begin; i < end; ++i) {
    const int r = f.radix[i];
    const std::int64_t m = n / r;
    for (int k = 1; k < r; ++k, out += 2 * m)
      for (std::int64_t p = 0; p < m; ++p) {
        const Root w(p * k, n);
        out[p] = static_cast<T>(w.re), out[m + p] = static_cast<T>(w.im);
      }
    for (int k = 0; k < r; ++k) {
      const Root w(k, r);
      out[k] = static_cast<T>(w.re), out[r + k] = static_cast<T>(w.im);
    }
    out += 2 * r;
    n = m;
  }
  return out;
}

template <class T>
void fill_twiddle(Plan& plan) {
  const Fft& f = plan.fft;
  T* out = plan.twiddle.data_as<T>();
  T* const begin = out;
  if (const int second = second_group(f)) {
    const std::int64_t N1 = product_of(f, 0, second), N2 = f.length / N1;
    out = fill_passes(f, 0, second - 1, N1, out);
    out = fill_passes(f, second, f.passes, N2, out);
    for (std::int64_t t = 0; t < N2; t += kFftBlock) {
      const std::int64_t width = std::min(kFftBlock, N2 - t);
      for (std::int64_t k = 0; k < N1; ++k)
        for (std::int64_t q = 0; q < width; ++q) {
          const Root w((t + q) * k, f.length);
          out[k * width + q] = static_cast<T>(w.re), out[(N1 + k) * width + q] = static_cast<T>(w.im);
        }
      out += 2 * N1 * width;
    }
  } else {
    out = fill_passes(f, 0, f.passes, f.length, out);
  }
  plan.fft.ends = out - begin;
  if (plan.fft.kind == Fft::complex) return;
  const std::int64_t M = plan.fft.length;
  for (std::int64_t k = 0; k <= M; ++k) {
    const Root w(k, 2 * M);
    out[k] = static_cast<T>(w.re), out[M + 1 + k] = static_cast<T>(w.im);
  }
}

std::int64_t twiddle_size(const Fft& f) {
  std::int64_t size = f.kind == Fft::complex ? 0 : 2 * (f.length + 1);
  const auto add_passes = [&](int begin, int end, std::int64_t n) {
    for (int i = begin; i < end; ++i) {
      const int r = f.radix[i];
      size += 2 * (r - 1) * (n / r) + 2 * r;
      n /= r;
    }
  };
  if (const int second = second_group(f)) {
    const std::int64_t N1 = product_of(f, 0, second);
    add_passes(0, second - 1, N1);
    add_passes(second, f.passes, f.length / N1);
    return size + 2 * f.length;
  }
  add_passes(0, f.passes, f.length);
  return size;
}

// The plan for rows of `length` complex numbers on a device; made once. False where the kernel has no radix
// for it.
bool find_plan(std::int64_t length, bool real, DType dtype, Device device, Plan& plan) {
  static auto* plans = new std::map<std::tuple<std::int64_t, bool, DType, Device>, Plan>;
  static auto* mutex = new std::mutex;
  const auto key = std::make_tuple(length, real, dtype, device);
  {
    const std::lock_guard lock(*mutex);
    const auto found = plans->find(key);
    if (found != plans->end()) {
      plan = found->second;
      return true;
    }
  }
  plan.fft.length = length;
  plan.fft.kind = real ? Fft::from_real : Fft::complex;
  if (!factorize(length, plan.fft)) return false;
  if (device == Device::cpu && length >= kFftSplit) {
    split_radices(plan.fft);
    if (!fits_scratch(plan.fft, dtype)) return false;  // a convolution has powers of two
  }
  {
    const DeviceScope host(Device::cpu);
    plan.twiddle = empty("fft", dtype, {twiddle_size(plan.fft)});
  }
  if (dtype == DType::float32)
    fill_twiddle<float>(plan);
  else
    fill_twiddle<double>(plan);
  plan.twiddle = to_device(plan.twiddle, device);
  // Memory that a capture gives out is its graph's.
  if (device != Device::cpu) {
    const Accelerator& gpu = accelerator(device);
    if (gpu.capturing()) return true;
    gpu.stream_synchronize(gpu.stream_current());  // other streams may read it next
  }
  const std::lock_guard lock(*mutex);
  if (plans->size() >= kCached) plans->clear();
  plans->emplace(key, plan);
  return true;
}

void run(const Plan& plan, const Array& x, Array& y) {
  if (x.size() == 0) return;
  Array work;
  if (plan.fft.length >= kFftSplit && x.device() == Device::cpu)
    work = empty("fft", plan.twiddle.dtype(), {4 * plan.fft.length});
  if (work)
    launch<&Kernels::fft>(x, plan.twiddle, y, work, plan.fft);
  else
    launch<&Kernels::fft>(x, plan.twiddle, y, Out{}, plan.fft);
}

// Rows (R, N) of any N.
Array rows_fft(const Array& x, bool inverse, double scale);

Array bluestein(const Array& x, bool inverse, double scale) {
  const std::int64_t R = x.shape(0), N = x.shape(1);
  std::int64_t M = 1;
  while (M < 2 * N - 1) M *= 2;
  const DType dtype = x.dtype();
  // c_j: the square modulo 2N keeps the angle exact.
  std::optional<DeviceScope> host(Device::cpu);
  // Written here alone, not by a kernel (such as zeros): a recording keeps them as they are.
  Array chirp = empty("fft", DType::complex128, {N}), kernel = empty("fft", DType::complex128, {1, M});
  auto* const c = chirp.data_as<ComplexBits<double>>();
  auto* const b = kernel.data_as<ComplexBits<double>>();
  std::fill_n(b, M, ComplexBits<double>{0, 0});
  for (std::int64_t j = 0, square = 0; j < N; ++j) {
    const Root w(square, 2 * N);
    c[j] = {w.re, inverse ? -w.im : w.im};
    b[j] = {c[j].real, -c[j].imag};
    if (j > 0) b[M - j] = b[j];
    square = (square + 2 * j + 1) % (2 * N);
  }
  chirp = to_device(astype(chirp, dtype, false), x.device());
  kernel = to_device(astype(kernel, dtype, false), x.device());
  host.reset();
  const Array transformed = rows_fft(kernel, false, 1.0);
  Array padded = zeros({R, M}, dtype);
  Array first = padded.slice(1, 0, N);
  launch<&Kernels::multiply>(x, chirp.broadcast_to("fft", x.shape()), first);
  Array spectrum = rows_fft(padded, false, 1.0);
  launch<&Kernels::multiply>(spectrum, transformed.broadcast_to("fft", spectrum.shape()), spectrum);
  const Array convolved = rows_fft(spectrum, true, scale / static_cast<double>(M)).slice(1, 0, N);
  Array y = empty("fft", dtype, x.shape());
  launch<&Kernels::multiply>(convolved, chirp.broadcast_to("fft", x.shape()), y);
  return y;
}

Array rows_fft(const Array& x, bool inverse, double scale) {
  Plan plan;
  if (!find_plan(x.shape(1), false, real_of(x.dtype()), x.device(), plan))
    return bluestein(x, inverse, scale);
  plan.fft.inverse = inverse;
  plan.fft.scale = scale;
  Array y = empty("fft", x.dtype(), x.shape());
  run(plan, x, y);
  return y;
}

// The axis last, as rows of stride 1.
struct Along {
  int axis;
  Array moved;
  Along(const char* operation, const Array& x, std::int64_t a)
      : axis(normalize_axis(operation, a, x.ndim())), moved(x.transpose(axis, x.ndim() - 1)) {
    if (x.shape(axis) < 1)
      value_error(operation, ": a transform of ", x.shape(axis), " points; at least 1 is needed");
  }
  Array rows() const { return as_rows(moved); }
  Array back(const Array& y) const {
    Shape shape = moved.shape();
    shape[shape.rank() - 1] = y.shape(1);
    return y.view_as(shape)->transpose(axis, shape.rank() - 1);
  }
};

}  // namespace

Array fft(const Array& x, std::int64_t axis, bool inverse, double scale) {
  if (!is_complex(x.dtype())) type_error("fft: x is ", name(x.dtype()), "; a complex dtype is needed");
  const Along along("fft", x, axis);
  return along.back(rows_fft(along.rows(), inverse, scale));
}

Array rfft(const Array& x, std::int64_t axis, double scale) {
  check_domain("rfft", "x", x.dtype(), Domain::floating);
  const Along along("rfft", x, axis);
  const Array rows = along.rows();
  const std::int64_t N = rows.shape(1);
  Plan plan;
  if (N % 2 != 0 || !find_plan(N / 2, true, x.dtype(), x.device(), plan))
    return along.back(contiguous(
        rows_fft(astype(rows, complex_of(x.dtype()), false), false, scale).slice(1, 0, N / 2 + 1)));
  plan.fft.scale = scale;
  Array y = empty("rfft", complex_of(x.dtype()), {rows.shape(0), N / 2 + 1});
  run(plan, rows, y);
  return along.back(y);
}

Array irfft(const Array& x, std::int64_t n, std::int64_t axis, double scale) {
  if (!is_complex(x.dtype())) type_error("irfft: x is ", name(x.dtype()), "; a complex dtype is needed");
  if (n < 1) value_error("irfft: n must be >= 1, got ", n);
  const Along along("irfft", x, axis);
  const Array rows = along.rows();
  if (rows.shape(1) != n / 2 + 1)
    value_error("irfft: x has ", rows.shape(1), " elements along the axis; ", n / 2 + 1,
                " are needed for n = ", n);
  const DType dtype = real_of(x.dtype());
  Plan plan;
  if (n % 2 == 0 && find_plan(n / 2, true, dtype, x.device(), plan)) {
    plan.fft.kind = Fft::to_real;
    plan.fft.scale = scale;
    Array y = empty("irfft", dtype, {rows.shape(0), n});
    run(plan, rows, y);
    return along.back(y);
  }
  // The whole Hermitian row: x_0, ..., x_(n/2), then the conjugates backwards. The imaginary parts of x_0
  // and, for an even n, of x_(n/2) do not count.
  Array full = empty("irfft", x.dtype(), {rows.shape(0), n});
  Array head = full.slice(1, 0, n / 2 + 1);
  copy_into("irfft", rows, head);
  for (const std::int64_t at : {std::int64_t{0}, n / 2}) {
    if (at != 0 && n % 2 != 0) continue;
    Array lone = imag(full.slice(1, at, 1));
    copy_into("irfft", Scalar::of(0.0), lone);
  }
  if (const std::int64_t rest = n - n / 2 - 1; rest > 0) {
    Array tail = full.slice(1, n / 2 + 1, rest);
    copy_into("irfft", conj(rows.slice(1, rest, rest, -1)), tail);
  }
  return along.back(contiguous(real(rows_fft(full, true, scale))));
}

}  // namespace ts::ops
