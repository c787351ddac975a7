// What the pieces of one kernel leave in scratch memory (threads.h) for those that the same thread runs next.
#pragma once

#include <cstdint>

namespace ts {

// The first of `count` keys in a row that nobody had before.
std::uint64_t new_scratch_keys(std::int64_t count);
// What lies in the calling thread's scratch memory is from now on what `key` names: until anybody takes that
// memory by scratch().
void keep_scratch(std::uint64_t key);
bool scratch_keeps(std::uint64_t key);

}  // namespace ts
