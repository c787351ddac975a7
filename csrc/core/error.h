// The error contract: what was asked, what was wrong with it, and what is allowed.
//
// A message names the operation, the argument, the offending value and the permitted range:
//   value_error("conv2d: stride must be >= 1, got ", stride);
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ts {

// Each kind becomes the Python exception of the same meaning.
enum class ErrorKind {
  index,
  value,
  type,
  memory,
  buffer,
  runtime,
  zero_division,
  overflow,
  axis,
  not_implemented
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  const ErrorKind kind;
};

namespace detail {
template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void raise(ErrorKind kind, const Parts&... parts) {
  std::ostringstream message;
  message << std::boolalpha;
  (message << ... << parts);
  throw Error(kind, message.str());
}
}  // namespace detail

#define TS_ERROR(function, kind)                      \
  template <class... Parts>                           \
  [[noreturn]] void function(const Parts&... parts) { \
    detail::raise(ErrorKind::kind, parts...);         \
  }
TS_ERROR(index_error, index)
TS_ERROR(value_error, value)
TS_ERROR(type_error, type)
TS_ERROR(memory_error, memory)
TS_ERROR(buffer_error, buffer)
TS_ERROR(runtime_error, runtime)
TS_ERROR(zero_division_error, zero_division)
TS_ERROR(overflow_error, overflow)
TS_ERROR(axis_error, axis)  // both a ValueError and an IndexError, as NumPy's
TS_ERROR(not_implemented_error, not_implemented)
#undef TS_ERROR

}  // namespace ts
