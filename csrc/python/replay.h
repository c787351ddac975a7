// Replaying an entry of the cache.
#pragma once

#include <string>

#include "python/entry.h"

namespace ts::python {

// Whether the entry serves a call with these arguments; otherwise `why`, if wanted.
bool serves(const Entry& e, const Signature& s, std::string* why);
// Makes the recorded calls, leaves the gradients behind and gives the result.
PyObject* replay(Entry& e, const Signature& s);

}  // namespace ts::python
