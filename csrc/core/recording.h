// A recording: the calls that a capture saw at the door, ready to be made again without anyone who made them.
//
// Capture watches one thread. What it sees of memory are slots, one for each storage:
//   inside    made and forgotten within the recording: it shares memory with others, by liveness
//   input     comes with every replay (an argument, a gradient that is accumulated into)
//   outside   there before and after: parameters, optimizer state, the random generator
//   constant  made within, filled without a kernel, only read
//   result    made within, handed out: fresh memory at every replay
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/array.h"
#include "core/fuse.h"
#include "core/graphs.h"
#include "core/watch.h"

namespace ts {

struct Slot {
  enum Kind : std::uint8_t { inside, input, outside, constant, result };
  Kind kind = outside;
  Device device = Device::cpu;
  bool created = false;  // within the capture
  bool read = false, written = false;
  int number = -1;            // of the input or result
  std::int64_t nbytes = 0;    // of the storage
  StorageRef keep;            // outside and constant
  Storage* alive = nullptr;   // during the capture; null once it is gone
  int first = -1, last = -1;  // the calls that use it
  int bin = -1;               // inside: which piece of memory
  std::int64_t place = 0;     // and where in it
};

// A view of a call: where in which slot it begins.
struct Use {
  int slot;             // kNothing: an operand that was not given; kPool: a number from the caller's stack
  std::int64_t offset;  // bytes
  bool written;
};
constexpr int kNothing = -1, kPool = -2;

struct Step {
  const char* name;
  Kernel kernel;
  Function function;
  Thunk thunk;
  int first, count;  // its operands and views
  int attributes;    // where its attributes begin
  int attribute_bytes;
  int line;       // of Python, in `lines`
  int batch = 0;  // of the first step of a batch: its number + 1
};

// Neighbouring steps that do not depend on each other: several may run at once, each on one thread.
struct Batch {
  int begin, end;
  std::vector<int> order;    // steps, the longest first
  std::vector<double> cost;  // of each in that order: ns on one thread, roughly
  int threads = 0;           // for which it was decided how many go together
  int together = 0;          // the first of `order`; the others run alone, with all threads
};

// A piece of memory for slots that are inside: a block of its own, or that of a result, until it is written.
struct Bin {
  Device device;
  std::int64_t nbytes;
  int result;              // number, or -1
  int end;                 // of a result: the step that first uses it
  std::vector<int> slots;  // by place
  void* base = nullptr;
  StorageRef block;  // of its own, during a replay
};

class GroupAxes;
struct Fused;

class Recording {
 public:
  struct Stats {
    std::int64_t calls, steps, arena_bytes, unshared_bytes, result_bytes;
  };

  // Makes the calls of the steps in [begin, end) with these inputs (where the first byte of each input's
  // storage lies) and results; the caller holds the GIL or nothing. One replay at a time: see `mutex`.
  void bind(void* const* inputs, Storage* const* results);
  void run(int begin, int end);
  // Brings the results where they were asked for; after the last step.
  void deliver();
  void finish_run();

  const std::vector<Slot>& slots() const { return slots_; }
  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<Use>& operands() const { return operands_; }
  const std::vector<View>& views() const { return views_; }
  const std::vector<std::string>& lines() const { return lines_; }
  const std::vector<int>& results() const { return results_; }  // slots
  const Stats& stats() const { return stats_; }
  // For each step: 0, or the number of the batch of steps that may run at once with it.
  std::vector<int> together() const;
  // On the accelerator: which steps are graphs; null elsewhere.
  const Graphs* graphs() const { return graphs_.get(); }
  // Why some of them are not.
  std::vector<std::string> kernel_by_kernel() const;
  // Where in the steps the call with this number stands, or stood.
  int position(int call) const;
  // A storage that the recording uses has no other owner left: what the function sees now is another one.
  bool stale() const;
  std::mutex mutex;

 private:
  friend class Capture;
  void plan(bool fusible);
  void drop_dead();
  void find_lifetimes();
  void fuse();
  std::size_t group_end(std::size_t begin) const;
  bool barrier_between(std::size_t a, std::size_t b) const;
  bool fuse_group(std::size_t begin, std::size_t& end, std::vector<Step>& out, bool with_tail);
  Group::Tail tail_of(std::size_t last, std::int64_t& row) const;
  void add_call(Group& group, const GroupAxes& axes, const Step& step, int first,
                const std::function<int(int)>& buffer_of) const;
  void find_epilogues(const Fused& fused);
  int product_before(const Fused& fused, std::size_t number, const std::vector<int>& epilogues,
                     const std::vector<bool>& gone) const;
  bool join_epilogue(const Fused& fused, std::size_t product, std::size_t number, Step& joined);
  void find_addend(Kernel kernel, Group& group, int first, int count, int slot);
  void share_result(int first, int count, const Group& group, int slot, bool in_place);
  bool independent(const Step& a, const Step& b) const;
  void find_batches();
  void drop_batches();
  void run_batch(Batch& batch);
  void hoist_checks();
  void find_segments();
  void* settle(Graphs::Place& place, void* base);
  void bind_graphs(void* const* inputs, Storage* const* results);
  bool launch_segment(Segment& segment);
  void place();
  bool place_in(int bin, int slot);
  void resolve();
  void point(int slot, void* base);

  std::vector<Slot> slots_;
  std::vector<Step> steps_;
  std::vector<Use> operands_;
  std::vector<View> views_;
  std::vector<std::int64_t> extents_;  // shapes and strides of the views
  std::vector<std::byte> attributes_, pool_;
  std::vector<std::string> lines_;
  std::vector<int> inputs_, results_;   // slots
  std::vector<std::vector<int>> uses_;  // by slot: its views
  std::vector<int> bump_;               // outside slots that are written
  std::vector<void*> bases_;            // by slot: where its views point now
  std::vector<int> dropped_;            // calls whose results nobody reads
  std::vector<int> fused_;              // steps that joined the one before, counted without those
  std::vector<std::unique_ptr<Group>> groups_;
  std::vector<int> barriers_;  // calls, ascending: something happens before each
  Stats stats_{};
  std::vector<Bin> bins_;
  std::vector<Batch> batches_;
  std::unique_ptr<Graphs> graphs_;  // of a recording with work on the accelerator
};

// Installed by the language binding: the line that is being run, as a user would name it, and the same as two
// numbers, which come sooner.
using LineKey = std::pair<const void*, int>;
void set_line_hooks(std::string (*line)(), LineKey (*key)());

// Watches this thread from `begin` to `end`; captures do not nest.
class Capture {
 public:
  ~Capture();
  void begin();
  void end();
  // The array's storage is an input; its number. The same storage is the same input.
  int bind(const Array& array);
  // Where the array lies: its slot and the byte offset of its first element in it; slot -1 if no call saw it.
  int slot_of(const Storage* storage) const;
  const Slot& slot(int i) const { return slots_[static_cast<std::size_t>(i)]; }
  int steps() const { return static_cast<int>(recording_->steps_.size()); }
  // Why this cannot be replayed; empty if it can.
  std::string refusal;
  bool lenient = false;  // a refusal is noted and the work goes on
  void refuse(const std::string& why);

  // Storages made within that are still alive, are not in `handed_out` and were written by kernels: the line
  // that wrote each.
  std::vector<std::string> escaped(const std::vector<const Storage*>& handed_out) const;
  // Plans the recording. The storages, all made within, become its results.
  std::unique_ptr<Recording> finish(const std::vector<Storage*>& results);
  // No group of fused steps goes past here: the host does something between the calls.
  void barrier() { recording_->barriers_.push_back(steps()); }

 private:
  friend void detail::watched(const Call&);
  friend void detail::storage_created(const Storage*);
  friend void detail::storage_destroyed(const Storage*);
  friend void detail::read_on_host(const char*, const Storage*);
  void record(const Call& call);
  int see(const View& view, bool written);
  void created(const Storage* storage);
  void destroyed(const Storage* storage);

  mutable std::mutex mutex_;  // other threads free storages
  std::unordered_map<const Storage*, int> live_;
  std::vector<Slot> slots_;
  std::map<LineKey, int> line_numbers_;
  std::unique_ptr<Recording> recording_ = std::make_unique<Recording>();
  bool active_ = false;
};

// The capture that watches this thread, or null; and putting it aside for work that is not part of it.
Capture* current_capture();
Capture* exchange_capture(Capture* capture);

}  // namespace ts
