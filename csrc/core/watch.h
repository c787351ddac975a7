// Who watches the door: captures and the profiler. Nobody, nearly always, and then a launch pays one branch.
//
// A call is described without its types: the function, views in the order of the parameters, attributes as
// bytes, and a thunk that puts the arguments together again. That is all that a replay needs.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/backend.h"

namespace ts {

using Function = void (*)();
// Calls `function` with operands from `views` and scalars from `attributes`, both in the parameters' order.
using Thunk = void (*)(Function function, const View* views, const std::byte* attributes);

struct Call {
  const char* name;
  Kernel kernel;  // Kernel::count for a function of the host
  Function function;
  Thunk thunk;
  std::vector<View> views;
  std::vector<char> writes;  // by view
  std::vector<std::byte> attributes;

  void add(const In& x) { add_view(x, false); }
  void add(const Out& x) { add_view(x, true); }
  void add(const Ins& list) {
    add(list.size);
    for (std::int64_t i = 0; i < list.size; ++i) add_view(list.data[i], false);
  }
  void add(const Outs& list) {
    add(list.size);
    for (std::int64_t i = 0; i < list.size; ++i) add_view(list.data[i], true);
  }
  template <class T>
  void add(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t at = attributes.size();
    attributes.resize(at + slot<T>());
    std::memcpy(attributes.data() + at, &value, sizeof(T));
  }
  template <class T>
  static constexpr std::size_t slot() {
    return (sizeof(T) + 7) / 8 * 8;
  }

 private:
  void add_view(const View& view, bool written) {
    views.push_back(view);
    writes.push_back(written);
  }
};

namespace detail {

// Nonzero while anyone watches: one for each capture, one for the profiler.
extern std::atomic<int> g_watchers;

// An empty call, with the memory of the last one that this thread used.
Call fresh_call();
void used_call(Call&& call);

// Records the call, if this thread captures, and runs it, timed if the profiler is on.
void watched(const Call& call);

void storage_created(const Storage* storage);
void storage_destroyed(const Storage* storage);
void read_on_host(const char* operation, const Storage* storage);

inline bool watching() { return g_watchers.load(std::memory_order_relaxed) != 0; }

class Arguments {
 public:
  Arguments(const View* views, const std::byte* attributes) : view_(views), attribute_(attributes) {}
  template <class T>
  T next() {
    if constexpr (std::is_same_v<T, In>) {
      return In{*view_++};
    } else if constexpr (std::is_same_v<T, Out>) {
      return Out{*view_++};
    } else if constexpr (std::is_same_v<T, Ins> || std::is_same_v<T, Outs>) {
      using Item = std::conditional_t<std::is_same_v<T, Ins>, In, Out>;
      static_assert(sizeof(Item) == sizeof(View));
      const auto count = next<std::int64_t>();
      const T list{reinterpret_cast<const Item*>(view_), count};
      view_ += count;
      return list;
    } else {
      T value;
      std::memcpy(&value, attribute_, sizeof(T));
      attribute_ += Call::slot<T>();
      return value;
    }
  }

 private:
  const View* view_;
  const std::byte* attribute_;
};

template <class... Params>
void call_again(Function function, const View* views, const std::byte* attributes) {
  Arguments arguments(views, attributes);
  // Braces: evaluated from left to right.
  struct Apply {
    Apply(void (*f)(Params...), Params... operands) { f(operands...); }
  };
  Apply{reinterpret_cast<void (*)(Params...)>(function), arguments.next<Params>()...};
}

template <class... Params>
[[gnu::cold, gnu::noinline]] void describe(const char* name, Kernel kernel, void (*function)(Params...),
                                           std::type_identity_t<Params>... operands) {
  Call call = fresh_call();
  call.name = name;
  call.kernel = kernel;
  call.function = reinterpret_cast<Function>(function);
  call.thunk = &call_again<Params...>;
  (call.add(operands), ...);
  watched(call);
  used_call(std::move(call));
}

}  // namespace detail

// An operation is about to read elements on the host. RuntimeError within a capture, whose replays could not
// know of what is done with them.
inline void host_read(const char* operation, const Storage* storage) {
  if (detail::watching()) [[unlikely]]
    detail::read_on_host(operation, storage);
}

}  // namespace ts
