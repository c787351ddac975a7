// Work without the interpreter's lock that is longer than one operation. Apart from threads.h, which kernels
// see.
#pragma once

namespace ts {

// Gives up the interpreter's lock for a stretch of many operations, so that none of them has to. Their
// regions then only look for interrupts, and `poll` does so between them.
class Unlocked {
 public:
  Unlocked();
  ~Unlocked();
  Unlocked(const Unlocked&) = delete;
  void operator=(const Unlocked&) = delete;
  void poll();

 private:
  void* state_;
};

}  // namespace ts
