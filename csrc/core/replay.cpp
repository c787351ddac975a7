// Planning a recording, and making its calls again.
#include <algorithm>
#include <cstdint>

#include "core/profile.h"
#include "core/recording.h"
#include "core/unlocked.h"

namespace ts {

namespace {

constexpr std::int64_t kLine = 64;         // places begin on cache lines, as storages do
constexpr std::int64_t kLarge = 16 << 10;  // bytes of a slot that may have a bin of its own

std::int64_t rounded(std::int64_t bytes) {
  return std::max<std::int64_t>((bytes + kLine - 1) / kLine * kLine, kLine);
}

}  // namespace

void Recording::plan(bool fusible) {
  stats_.calls = static_cast<std::int64_t>(steps_.size());
  // Views have no memory yet; fusion looks at their shapes and strides.
  for (View& view : views_) {
    view.shape = extents_.data() + reinterpret_cast<std::size_t>(view.data);
    view.strides = view.shape + view.ndim;
    view.data = nullptr;
  }
  drop_dead();
  const bool accelerated = std::any_of(slots_.begin(), slots_.end(), [](const Slot& s) {
    return s.device != Device::cpu && (s.read || s.written);
  });
  if (accelerated) {
    hoist_checks();
    fusible = false;  // groups are blocks of the host's cache
  }
  find_lifetimes();
  if (fusible) fuse();
  find_lifetimes();
  place();
  if (fusible) {
    // What runs at once is alive at once; where that takes more memory, one after another it is.
    const std::int64_t apart = stats_.arena_bytes;
    find_batches();
    if (!batches_.empty()) find_lifetimes(), place();
    if (stats_.arena_bytes > apart) {
      drop_batches();
      find_lifetimes(), place();
    }
  }
  resolve();
  if (accelerated) find_segments();
  stats_.steps = static_cast<std::int64_t>(steps_.size());
}

// Backwards: a step stays if something that it writes is read later or lies outside.
void Recording::drop_dead() {
  std::vector<bool> wanted(slots_.size());
  std::vector<bool> stays(steps_.size());
  for (std::size_t s = steps_.size(); s-- > 0;) {
    const Step& step = steps_[s];
    bool live = false, writes = false;
    for (int k = step.first; k < step.first + step.count; ++k) {
      const Use& use = operands_[static_cast<std::size_t>(k)];
      if (use.slot < 0 || !use.written) continue;
      writes = true;
      const auto slot = static_cast<std::size_t>(use.slot);
      live |= slots_[slot].kind != Slot::inside || wanted[slot];
    }
    stays[s] = live || !writes;  // a check writes nothing
    if (!stays[s]) continue;
    for (int k = step.first; k < step.first + step.count; ++k) {
      const Use& use = operands_[static_cast<std::size_t>(k)];
      // What it writes, too: it may write a part, or add to what is there.
      if (use.slot >= 0) wanted[static_cast<std::size_t>(use.slot)] = true;
    }
  }
  const std::vector<Step> original = steps_;
  std::size_t kept = 0;
  for (std::size_t s = 0; s < steps_.size(); ++s)
    if (stays[s])
      steps_[kept++] = steps_[s];
    else
      dropped_.push_back(static_cast<int>(s));
  for (const int s : dropped_)
    for (int k = original[static_cast<std::size_t>(s)].first,
             n = k + original[static_cast<std::size_t>(s)].count;
         k < n; ++k)
      operands_[static_cast<std::size_t>(k)].slot = kNothing;
  steps_.resize(kept);
}

// Which steps use each slot first and last; the steps of a batch count as one.
void Recording::find_lifetimes() {
  for (Slot& slot : slots_) slot.first = slot.last = -1;
  for (int s = 0, begin = 0, end = 0; s < static_cast<int>(steps_.size()); ++s) {
    const Step& step = steps_[static_cast<std::size_t>(s)];
    if (s >= end) begin = s, end = s + 1;
    if (step.batch) end = batches_[static_cast<std::size_t>(step.batch - 1)].end;
    for (int k = step.first; k < step.first + step.count; ++k) {
      const int slot = operands_[static_cast<std::size_t>(k)].slot;
      if (slot < 0) continue;
      Slot& used = slots_[static_cast<std::size_t>(slot)];
      if (used.first < 0) used.first = begin;
      used.last = end - 1;
    }
  }
}

// Puts the slot at the lowest place of the bin where nothing that is alive at the same time lies.
bool Recording::place_in(int number, int i) {
  Bin& bin = bins_[static_cast<std::size_t>(number)];
  Slot& slot = slots_[static_cast<std::size_t>(i)];
  const std::int64_t size = rounded(slot.nbytes);
  if (slot.device != bin.device || size > bin.nbytes || (bin.result >= 0 && slot.last >= bin.end))
    return false;
  std::int64_t place = 0;
  auto at = bin.slots.begin();
  for (auto j = bin.slots.begin(); j != bin.slots.end(); ++j) {
    const Slot& other = slots_[static_cast<std::size_t>(*j)];
    if (other.last < slot.first || other.first > slot.last) continue;
    if (other.place >= place + size) break;
    place = std::max(place, other.place + rounded(other.nbytes));
  }
  if (place + size > bin.nbytes) return false;
  slot.bin = number;
  slot.place = place;
  while (at != bin.slots.end() && slots_[static_cast<std::size_t>(*at)].place <= place) ++at;
  bin.slots.insert(at, i);
  return true;
}

// The largest first: into the memory of a result that is not written yet, into the smallest bin that has
// room, or into a bin of its own size. Small ones share one bin that is as large as they need. So the blocks
// are of the sizes that eager calls ask the allocator for, and no class of it is half used.
void Recording::place() {
  bins_.clear();
  stats_.arena_bytes = stats_.unshared_bytes = 0;
  std::vector<int> order;
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].kind == Slot::inside && slots_[i].first >= 0) order.push_back(static_cast<int>(i));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return slots_[static_cast<std::size_t>(a)].nbytes > slots_[static_cast<std::size_t>(b)].nbytes;
  });
  for (std::size_t k = 0; k < results_.size(); ++k) {
    const Slot& slot = slots_[static_cast<std::size_t>(results_[k])];
    if (slot.nbytes >= kLarge)
      bins_.push_back({slot.device, rounded(slot.nbytes), static_cast<int>(k), slot.first, {}, nullptr, {}});
  }
  const int small = static_cast<int>(bins_.size());  // of the CPU, and of the accelerator behind it
  for (const Device device : {Device::cpu, Device::cuda})
    bins_.push_back({device, INT64_MAX / 2, -1, 0, {}, nullptr, {}});
  for (const int i : order) {
    const std::int64_t size = rounded(slots_[static_cast<std::size_t>(i)].nbytes);
    stats_.unshared_bytes += size;
    std::vector<int> candidates;
    for (int b = 0; b < static_cast<int>(bins_.size()); ++b)
      if (b != small && b != small + 1 && bins_[static_cast<std::size_t>(b)].nbytes >= size)
        candidates.push_back(b);
    std::stable_sort(candidates.begin(), candidates.end(), [&](int a, int b) {
      const Bin &x = bins_[static_cast<std::size_t>(a)], &y = bins_[static_cast<std::size_t>(b)];
      return x.nbytes != y.nbytes ? x.nbytes < y.nbytes : x.result > y.result;
    });
    if (std::any_of(candidates.begin(), candidates.end(), [&](int b) { return place_in(b, i); })) continue;
    const Device device = slots_[static_cast<std::size_t>(i)].device;
    if (size < kLarge) {
      place_in(small + (device == Device::cuda), i);
    } else {
      bins_.push_back({device, size, -1, 0, {}, nullptr, {}});
      place_in(static_cast<int>(bins_.size()) - 1, i);
    }
  }
  for (const int b : {small, small + 1}) {
    Bin& shared = bins_[static_cast<std::size_t>(b)];
    shared.nbytes = 0;
    for (const int i : shared.slots) {
      const Slot& slot = slots_[static_cast<std::size_t>(i)];
      shared.nbytes = std::max(shared.nbytes, slot.place + rounded(slot.nbytes));
    }
  }
  bins_.erase(std::remove_if(bins_.begin(), bins_.end(), [](const Bin& b) { return b.slots.empty(); }),
              bins_.end());
  for (std::size_t b = 0; b < bins_.size(); ++b) {
    for (const int i : bins_[b].slots) slots_[static_cast<std::size_t>(i)].bin = static_cast<int>(b);
    if (bins_[b].result < 0) stats_.arena_bytes += bins_[b].nbytes;
  }
}

// Everything that does not change from replay to replay gets its address.
void Recording::resolve() {
  uses_.assign(slots_.size(), {});
  bases_.assign(slots_.size(), nullptr);
  for (std::size_t i = 0; i < views_.size(); ++i) {
    View& view = views_[i];
    const Use& use = operands_[i];
    view.data = use.slot == kPool ? pool_.data() + use.offset : nullptr;
    if (use.slot >= 0)
      if (const Device device = slots_[static_cast<std::size_t>(use.slot)].device; device != Device::cpu)
        view.storage = Storage::stand_in(device);
  }
  std::vector<bool> written(slots_.size());
  for (const Step& step : steps_)
    for (int k = step.first; k < step.first + step.count; ++k) {
      const Use& use = operands_[static_cast<std::size_t>(k)];
      if (use.slot < 0) continue;
      uses_[static_cast<std::size_t>(use.slot)].push_back(k);
      if (use.written) written[static_cast<std::size_t>(use.slot)] = true;
    }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.alive = nullptr;
    slot.written = written[i];
    if (slot.kind == Slot::outside || slot.kind == Slot::constant) {
      if (slot.keep) point(static_cast<int>(i), slot.keep->data());
      if (slot.kind == Slot::outside && written[i]) bump_.push_back(static_cast<int>(i));
    } else {
      slot.keep = StorageRef();
    }
    if (slot.kind == Slot::result) stats_.result_bytes += rounded(slot.nbytes);
  }
}

int Recording::position(int call) const {
  const auto before = [](const std::vector<int>& list, int x) {
    return static_cast<int>(std::lower_bound(list.begin(), list.end(), x) - list.begin());
  };
  const int kept = call - before(dropped_, call);
  return kept - before(fused_, kept);
}

bool Recording::stale() const {
  for (const Slot& slot : slots_)
    if (slot.kind == Slot::outside && slot.first >= 0 && !slot.created && slot.keep->owners() == 1)
      return true;
  return false;
}

void Recording::point(int slot, void* base) {
  void*& now = bases_[static_cast<std::size_t>(slot)];
  if (now == base) return;
  now = base;
  for (const int k : uses_[static_cast<std::size_t>(slot)])
    views_[static_cast<std::size_t>(k)].data =
        static_cast<char*>(base) + operands_[static_cast<std::size_t>(k)].offset;
}

void Recording::bind(void* const* inputs, Storage* const* results) {
  if (graphs_) {
    bind_graphs(inputs, results);
  } else {
    for (std::size_t i = 0; i < inputs_.size(); ++i) point(inputs_[i], inputs[i]);
    for (std::size_t i = 0; i < results_.size(); ++i) point(results_[i], results[i]->data());
  }
  // Blocks come from the caching allocator, which mostly hands out the same ones again. Graphs keep theirs.
  for (std::size_t b = 0; b < bins_.size(); ++b) {
    Bin& bin = bins_[b];
    if (bin.result < 0) {
      const bool kept = graphs_ && !graphs_->aside && bin.device != Device::cpu;
      if (kept) bin.block = graphs_->arena[b];
      if (!bin.block) {
        const DeviceScope scope(bin.device);
        bin.block = StorageRef(Storage::allocate(bin.nbytes));
      }
      if (kept) graphs_->arena[b] = bin.block;
    }
    void* base = bin.result < 0
                     ? bin.block->data()
                     : bases_[static_cast<std::size_t>(results_[static_cast<std::size_t>(bin.result)])];
    if (base == bin.base) continue;
    bin.base = base;
    for (const int i : bin.slots)
      point(i, static_cast<char*>(base) + slots_[static_cast<std::size_t>(i)].place);
  }
}

void Recording::run(int begin, int end) {
  int now = begin;
  auto segment = graphs_ ? graphs_->segments.begin() : std::vector<Segment>::iterator();
  try {
    Unlocked unlocked;
    for (; now < end; ++now) {
      if (graphs_ && !detail::profiling()) {
        while (segment != graphs_->segments.end() && segment->begin < now) ++segment;
        if (segment != graphs_->segments.end() && segment->begin == now && launch_segment(*segment)) {
          now = segment->end - 1;
          unlocked.poll();
          continue;
        }
      }
      const Step& step = steps_[static_cast<std::size_t>(now)];
      if (detail::watching()) [[unlikely]] {
        if (detail::profiling()) {
          detail::profile(step.name, step.kernel, step.function, step.thunk, views_.data() + step.first,
                          step.count, attributes_.data() + step.attributes,
                          lines_.empty() ? std::string() : lines_[static_cast<std::size_t>(step.line)]);
          continue;
        }
      }
      if (step.batch) {
        Batch& batch = batches_[static_cast<std::size_t>(step.batch - 1)];
        run_batch(batch);
        now = batch.end - 1;
      } else {
        step.thunk(step.function, views_.data() + step.first, attributes_.data() + step.attributes);
      }
      if (now % 8 == 7 || step.batch) unlocked.poll();
    }
  } catch (const Error& error) {
    if (lines_.empty() || now >= end) throw;
    const Step& step = steps_[static_cast<std::size_t>(now)];
    throw Error(error.kind, std::string(error.what()) + " (in a replay; recorded at " +
                                lines_[static_cast<std::size_t>(step.line)] + ")");
  }
}

void Recording::finish_run() {
  for (const int slot : bump_) slots_[static_cast<std::size_t>(slot)].keep->bump();
  for (Bin& bin : bins_) bin.block = StorageRef();
}

}  // namespace ts
