// Steps of a recording as graphs of the accelerator, each a single launch.
//
// A graph is bound to addresses. What is made and forgotten within a recording keeps its memory from replay
// to replay; an input or a result that comes at another address than before gets a place of its own, which
// its elements are copied to or from. Graphs are cut where the host has something to do: a check of indices,
// a new learning rate.
#pragma once

#include <string>
#include <vector>

#include "core/backend.h"
#include "core/storage.h"

namespace ts {

// Steps in a row.
struct Segment {
  int begin, end;
  void* graph = nullptr;
  std::string why;  // it cannot be a graph; its kernels are launched one by one
};

struct Graphs {
  // Where the graphs know an input or a result to be.
  struct Place {
    void* address = nullptr;  // null: no graph has been made
    StorageRef own;           // the bytes [low, high) of it
    std::int64_t low = 0, high = 0;
    bool on_device = false, written = false;
    void* now = nullptr;  // a result that must be copied to here
  };
  std::vector<Segment> segments;
  std::vector<Place> inputs, results;
  std::vector<StorageRef> arena;  // by bin
  void* stream = nullptr;         // of the latest replay
  bool used = false;
  bool aside = false;  // this replay is a part of a graph that the caller captures
  MatmulPrecision precision = MatmulPrecision::ieee;
  int moves = 0;  // of inputs that are written in place, each of which costs a capture

  ~Graphs() { drop(); }
  void drop();  // they no longer fit
};

}  // namespace ts
