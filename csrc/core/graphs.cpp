#include "core/graphs.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/recording.h"

namespace ts {

namespace {

constexpr int kLeastSteps = 2;  // of a graph: one kernel is as well launched itself
constexpr int kMostMoves = 16;  // then its kernels are launched one by one
constexpr std::int64_t kAlign = 256;

}  // namespace

void Graphs::drop() {
  for (Segment& s : segments)
    if (s.graph) {
      accelerator(Device::cuda).graph_destroy(s.graph);
      s.graph = nullptr;
    }
}

// A check that reads only what no earlier step writes goes before those steps: fewer cuts, and an error
// before anything has changed. Checks keep their order, and nothing goes past what the host does. One that
// asks what another has asked is left out: each waits for the accelerator.
void Recording::hoist_checks() {
  const auto same = [&](const Step& a, const Step& b) {
    bool equal = a.function == b.function && a.count == b.count && a.attribute_bytes == b.attribute_bytes;
    equal = equal && std::equal(attributes_.begin() + a.attributes,
                                attributes_.begin() + a.attributes + a.attribute_bytes,
                                attributes_.begin() + b.attributes);
    for (int i = 0; equal && i < a.count; ++i) {
      const auto k = static_cast<std::size_t>(a.first + i), l = static_cast<std::size_t>(b.first + i);
      const View &x = views_[k], &y = views_[l];
      equal = operands_[k].slot >= 0 && operands_[k].slot == operands_[l].slot &&
              operands_[k].offset == operands_[l].offset && x.dtype == y.dtype && x.ndim == y.ndim &&
              std::equal(x.shape, x.shape + x.ndim, y.shape) &&
              std::equal(x.strides, x.strides + x.ndim, y.strides);
    }
    return equal;
  };
  const auto uses = [&](const Step& step, int slot, bool written) {
    for (int k = step.first; k < step.first + step.count; ++k) {
      const Use& use = operands_[static_cast<std::size_t>(k)];
      if (use.slot == slot && use.written == written) return true;
    }
    return false;
  };
  const auto is_check = [&](const Step& step) {
    bool writes = false;
    for (int k = step.first; k < step.first + step.count; ++k)
      writes |= operands_[static_cast<std::size_t>(k)].written;
    return step.kernel == Kernel::count && !writes;
  };
  for (std::size_t s = 1; s < steps_.size(); ++s) {
    if (!is_check(steps_[s])) continue;
    const Step check = steps_[s];
    std::size_t to = s;
    for (; to > 0 && !barrier_between(to - 1, to) && !is_check(steps_[to - 1]); --to) {
      bool needed = false;
      for (int k = check.first; k < check.first + check.count; ++k)
        needed |= uses(steps_[to - 1], operands_[static_cast<std::size_t>(k)].slot, true);
      if (needed) break;
    }
    for (std::size_t k = to; k > 0 && !barrier_between(k - 1, k) && is_check(steps_[k - 1]); --k)
      if (same(steps_[k - 1], check)) {
        steps_[s].name = "(checked above)";
        steps_[s].thunk = [](Function, const View*, const std::byte*) {};
      }
    std::rotate(steps_.begin() + static_cast<std::ptrdiff_t>(to),
                steps_.begin() + static_cast<std::ptrdiff_t>(s),
                steps_.begin() + static_cast<std::ptrdiff_t>(s) + 1);
  }
}

// The longest runs of kernels that are all on the accelerator.
void Recording::find_segments() {
  graphs_ = std::make_unique<Graphs>();
  const auto launches = [&](const Step& step) {
    bool there = step.kernel != Kernel::count;
    for (int k = step.first; k < step.first + step.count; ++k) {
      const int slot = operands_[static_cast<std::size_t>(k)].slot;
      if (slot >= 0) there &= slots_[static_cast<std::size_t>(slot)].device == Device::cuda;
    }
    return there;
  };
  const int count = static_cast<int>(steps_.size());
  for (int begin = 0, end; begin < count; begin = std::max(end, begin + 1)) {
    for (end = begin; end < count && launches(steps_[static_cast<std::size_t>(end)]); ++end)
      if (end > begin && barrier_between(static_cast<std::size_t>(end - 1), static_cast<std::size_t>(end)))
        break;
    if (end - begin >= kLeastSteps) graphs_->segments.push_back({begin, end, nullptr, {}});
  }
  const auto place_of = [&](int number) {
    const Slot& slot = slots_[static_cast<std::size_t>(number)];
    Graphs::Place place;
    place.on_device = slot.device == Device::cuda;
    place.low = slot.kind == Slot::result ? 0 : INT64_MAX;
    place.high = slot.kind == Slot::result ? slot.nbytes : 0;
    if (slot.kind == Slot::result) return place;
    // What of the input's memory the steps use.
    for (const int k : uses_[static_cast<std::size_t>(number)]) {
      const View& view = views_[static_cast<std::size_t>(k)];
      const Use& use = operands_[static_cast<std::size_t>(k)];
      place.written |= use.written;
      if (view.size() == 0) continue;
      std::int64_t low = use.offset, high = use.offset + itemsize(view.dtype);
      for (int d = 0; d < view.ndim; ++d) {
        const std::int64_t reach = (view.shape[d] - 1) * view.strides[d] * itemsize(view.dtype);
        (reach < 0 ? low : high) += reach;
      }
      place.low = std::min(place.low, low);
      place.high = std::max(place.high, high);
    }
    if (place.low > place.high) place.low = place.high = 0;
    return place;
  };
  for (const int slot : inputs_) graphs_->inputs.push_back(place_of(slot));
  for (const int slot : results_) graphs_->results.push_back(place_of(slot));
  graphs_->arena.resize(bins_.size());
}

// Where the steps should find an input or a result that now lies at `base`.
void* Recording::settle(Graphs::Place& place, void* base) {
  if (!place.on_device || place.high == place.low || graphs_->aside) return base;
  if (!place.own) {
    if (!place.address) place.address = base;
    if (place.address == base) return base;
    graphs_->drop();
    if (place.written) {
      ++graphs_->moves;
      return place.address = base;
    }
    const DeviceScope scope(Device::cuda);
    place.own = StorageRef(Storage::allocate(place.high - place.low + kAlign));
    place.address = static_cast<char*>(place.own->data()) + place.low % kAlign - place.low;
  }
  return place.address;
}

// Points the views to what the graphs know, and brings inputs there that lie elsewhere.
void Recording::bind_graphs(void* const* inputs, Storage* const* results) {
  Graphs& g = *graphs_;
  const Accelerator& device = accelerator(Device::cuda);
  g.aside = device.capturing();
  if (!g.aside) {
    void* const stream = device.stream_current();
    if (g.used && stream != g.stream)
      device.synchronize();  // the memory within was ordered by another stream
    g.stream = stream;
    g.used = true;
    if (g.precision != device.matmul_precision()) {
      g.drop();
      g.precision = device.matmul_precision();
    }
  }
  for (std::size_t i = 0; i < g.inputs.size(); ++i) {
    Graphs::Place& place = g.inputs[i];
    void* base = settle(place, inputs[i]);
    if (base != inputs[i])
      device.copy(static_cast<char*>(base) + place.low, static_cast<char*>(inputs[i]) + place.low,
                  place.high - place.low);
    point(inputs_[i], base);
  }
  for (std::size_t i = 0; i < g.results.size(); ++i) {
    Graphs::Place& place = g.results[i];
    void* base = settle(place, results[i]->data());
    place.now = base == results[i]->data() ? nullptr : results[i]->data();
    point(results_[i], base);
  }
}

// Launches the segment as one; false where its kernels must be launched one by one.
bool Recording::launch_segment(Segment& segment) {
  const Accelerator& device = accelerator(Device::cuda);
  if (graphs_->aside || !segment.why.empty() || graphs_->moves > kMostMoves) return false;
  if (!segment.graph) {
    int now = segment.begin;
    try {
      device.capture_begin();
      for (; now < segment.end; ++now) {
        const Step& step = steps_[static_cast<std::size_t>(now)];
        step.thunk(step.function, views_.data() + step.first, attributes_.data() + step.attributes);
      }
      segment.graph = device.capture_end();
    } catch (const Error& error) {
      device.capture_abandon();
      segment.why = error.what();
      if (now < segment.end)
        segment.why = std::string(steps_[static_cast<std::size_t>(now)].name) + ": " + segment.why;
      return false;
    } catch (...) {
      device.capture_abandon();
      throw;
    }
  }
  device.graph_launch(segment.graph);
  return true;
}

void Recording::deliver() {
  if (!graphs_) return;
  for (const Graphs::Place& place : graphs_->results)
    if (place.now) accelerator(Device::cuda).copy(place.now, place.address, place.high - place.low);
}

std::vector<std::string> Recording::kernel_by_kernel() const {
  std::vector<std::string> reasons;
  if (!graphs_) return reasons;
  if (graphs_->moves > kMostMoves)
    return {"an argument that is written in place comes at another address each time"};
  for (const Segment& s : graphs_->segments)
    if (!s.why.empty()) reasons.push_back(s.why);
  return reasons;
}

}  // namespace ts
