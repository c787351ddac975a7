// Planning a recording, and making its calls again.
#include <algorithm>
#include <numeric>

#include "core/profile.h"
#include "core/recording.h"
#include "core/threads.h"

namespace ts {

namespace {

constexpr std::int64_t kLine = 64;  // an arena's places begin on cache lines, as storages do

std::int64_t rounded(std::int64_t bytes) { return std::max<std::int64_t>((bytes + kLine - 1) / kLine * kLine, kLine); }

}  // namespace

void Recording::plan() {
  stats_.calls = static_cast<std::int64_t>(steps_.size());
  drop_dead();
  place_in_arena();
  resolve();
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
  std::size_t kept = 0;
  for (std::size_t s = 0; s < steps_.size(); ++s)
    if (stays[s])
      steps_[kept++] = steps_[s];
    else
      dropped_.push_back(static_cast<int>(s));
  steps_.resize(kept);
  for (Slot& slot : slots_) slot.first = slot.last = -1;
  for (std::size_t s = 0; s < steps_.size(); ++s)
    for (int k = steps_[s].first; k < steps_[s].first + steps_[s].count; ++k) {
      const int slot = operands_[static_cast<std::size_t>(k)].slot;
      if (slot < 0) continue;
      Slot& used = slots_[static_cast<std::size_t>(slot)];
      if (used.first < 0) used.first = static_cast<int>(s);
      used.last = static_cast<int>(s);
    }
}

// The largest first, each at the lowest place where nothing that is alive at the same time lies.
void Recording::place_in_arena() {
  std::vector<int> order;
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].kind == Slot::inside && slots_[i].first >= 0) order.push_back(static_cast<int>(i));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return slots_[static_cast<std::size_t>(a)].nbytes > slots_[static_cast<std::size_t>(b)].nbytes;
  });
  std::vector<int> placed;  // by place
  std::int64_t end = 0;
  for (const int i : order) {
    Slot& slot = slots_[static_cast<std::size_t>(i)];
    const std::int64_t size = rounded(slot.nbytes);
    stats_.unshared_bytes += size;
    std::int64_t place = 0;
    for (const int j : placed) {
      const Slot& other = slots_[static_cast<std::size_t>(j)];
      if (other.last < slot.first || other.first > slot.last) continue;
      if (other.place >= place + size) break;
      place = std::max(place, other.place + rounded(other.nbytes));
    }
    slot.place = place;
    end = std::max(end, place + size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), place,
                                   [&](std::int64_t p, int j) {
                                     return p < slots_[static_cast<std::size_t>(j)].place;
                                   }),
                  i);
  }
  stats_.arena_bytes = end;
}

// Everything that does not change from replay to replay gets its address.
void Recording::resolve() {
  uses_.assign(slots_.size(), {});
  bases_.assign(slots_.size(), nullptr);
  for (std::size_t i = 0; i < views_.size(); ++i) {
    View& view = views_[i];
    const Use& use = operands_[i];
    const auto extents = reinterpret_cast<std::size_t>(view.data);
    view.shape = extents_.data() + extents;
    view.strides = view.shape + view.ndim;
    view.data = use.slot == kPool ? pool_.data() + use.offset : nullptr;
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
  return call - static_cast<int>(std::lower_bound(dropped_.begin(), dropped_.end(), call) - dropped_.begin());
}

bool Recording::stale() const {
  for (const Slot& slot : slots_)
    if (slot.kind == Slot::outside && slot.first >= 0 && !slot.created && slot.keep->owners() == 1) return true;
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
  for (std::size_t i = 0; i < inputs_.size(); ++i) point(inputs_[i], inputs[i]);
  for (std::size_t i = 0; i < results_.size(); ++i) point(results_[i], results[i]->data());
  // From the caching allocator, which hands out the same block again unless someone else took it meanwhile.
  if (stats_.arena_bytes > 0) {
    arena_ = StorageRef(Storage::allocate(stats_.arena_bytes));
    char* base = static_cast<char*>(arena_->data());
    if (base != arena_base_) {
      arena_base_ = base;
      for (std::size_t i = 0; i < slots_.size(); ++i)
        if (slots_[i].kind == Slot::inside && slots_[i].first >= 0)
          point(static_cast<int>(i), base + slots_[i].place);
    }
  }
}

void Recording::run(int begin, int end) {
  int now = begin;
  try {
    Unlocked unlocked;
    for (; now < end; ++now) {
      const Step& step = steps_[static_cast<std::size_t>(now)];
      if (detail::watching()) [[unlikely]] {
        if (detail::profiling()) {
          detail::profile(step.name, step.kernel, step.function, step.thunk, views_.data() + step.first,
                          step.count, attributes_.data() + step.attributes,
                          lines_.empty() ? std::string() : lines_[static_cast<std::size_t>(step.line)]);
          continue;
        }
      }
      step.thunk(step.function, views_.data() + step.first, attributes_.data() + step.attributes);
      if (now % 8 == 7) unlocked.poll();
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
  arena_ = StorageRef();
}

}  // namespace ts
