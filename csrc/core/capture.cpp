// Capture: the door's calls as steps, the storages behind their views as slots.
#include <algorithm>
#include <chrono>

#include "core/launch.h"
#include "core/profile.h"
#include "core/recording.h"

namespace ts {

namespace {

constinit thread_local Capture* t_capture [[gnu::tls_model("initial-exec")]] = nullptr;
std::mutex g_mutex;
std::vector<Capture*> g_captures;  // of all threads
std::string (*g_line)() = nullptr;
LineKey (*g_line_key)() = nullptr;

}  // namespace

namespace detail {

constinit std::atomic<int> g_watchers{0};

namespace {
thread_local Call t_call{};
}

Call fresh_call() { return std::move(t_call); }

void used_call(Call&& call) {
  call.views.clear();
  call.writes.clear();
  call.attributes.clear();
  t_call = std::move(call);
}

void watched(const Call& call) {
  if (t_capture) t_capture->record(call);
  // What a function of the host launches is a part of it.
  struct Within {
    Capture* capture = exchange_capture(nullptr);
    ~Within() { exchange_capture(capture); }
  } within;
  if (profiling())
    profile(call, g_line ? g_line() : std::string());
  else
    call.thunk(call.function, call.views.data(), call.attributes.data());
}

void storage_created(const Storage* storage) {
  if (t_capture) t_capture->created(storage);
}

void storage_destroyed(const Storage* storage) {
  const std::lock_guard lock(g_mutex);
  for (Capture* c : g_captures) c->destroyed(storage);
}

void read_on_host(const char* operation, const Storage*) {
  if (!t_capture) return;
  t_capture->refuse(std::string(operation) +
                    ": reads a value on the host, which a recording cannot do: its replays would go on with "
                    "the value of the step that was recorded. Return the tensor and read it outside of the "
                    "jitted function, or choose with where()");
}

}  // namespace detail

Capture* current_capture() { return t_capture; }
Capture* exchange_capture(Capture* capture) { return std::exchange(t_capture, capture); }
void set_line_hooks(std::string (*line)(), LineKey (*key)()) {
  g_line = line;
  g_line_key = key;
}

void Capture::begin() {
  if (t_capture) runtime_error("jit: a capture is already running on this thread");
  {
    const std::lock_guard lock(g_mutex);
    g_captures.push_back(this);
  }
  // Enough for a small step, which is recorded in microseconds.
  slots_.reserve(128);
  live_.reserve(256);
  recording_->steps_.reserve(32);
  recording_->operands_.reserve(128);
  recording_->views_.reserve(128);
  recording_->extents_.reserve(512);
  recording_->attributes_.reserve(1024);
  detail::g_watchers.fetch_add(1);
  active_ = true;
  t_capture = this;
}

void Capture::end() {
  if (!active_) return;
  if (t_capture == this) t_capture = nullptr;
  active_ = false;
  detail::g_watchers.fetch_sub(1);
  const std::lock_guard lock(g_mutex);
  g_captures.erase(std::find(g_captures.begin(), g_captures.end(), this));
}

Capture::~Capture() { end(); }

void Capture::refuse(const std::string& why) {
  if (refusal.empty()) {
    refusal = why;
    if (g_line) refusal += " (" + g_line() + ")";
  }
  if (!lenient) runtime_error("jit: ", refusal);
}

void Capture::created(const Storage* storage) {
  const std::lock_guard lock(mutex_);
  Slot slot;
  slot.kind = Slot::inside;
  slot.created = true;
  slot.device = storage->device();
  slot.nbytes = storage->nbytes();
  slot.alive = const_cast<Storage*>(storage);
  live_[storage] = static_cast<int>(slots_.size());
  slots_.push_back(std::move(slot));
}

void Capture::destroyed(const Storage* storage) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(storage);
  if (found == live_.end()) return;
  slots_[static_cast<std::size_t>(found->second)].alive = nullptr;
  live_.erase(found);
}

int Capture::slot_of(const Storage* storage) const {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(storage);
  return found == live_.end() ? -1 : found->second;
}

int Capture::bind(const Array& array) {
  const std::lock_guard lock(mutex_);
  Storage* storage = array.storage();
  const auto [place, fresh] = live_.try_emplace(storage, static_cast<int>(slots_.size()));
  if (fresh) {
    Slot slot;
    slot.device = storage->device();
    slot.nbytes = storage->nbytes();
    slot.alive = storage;
    slots_.push_back(std::move(slot));
  }
  Slot& slot = slots_[static_cast<std::size_t>(place->second)];
  if (slot.kind != Slot::input) {
    slot.kind = Slot::input;
    slot.number = static_cast<int>(recording_->inputs_.size());
    recording_->inputs_.push_back(place->second);
  }
  return slot.number;
}

int Capture::see(const View& view, bool written) {
  auto* storage = const_cast<Storage*>(view.storage);
  const auto [place, fresh] = live_.try_emplace(storage, static_cast<int>(slots_.size()));
  if (fresh) {
    Slot slot;  // not made within: it was there before
    slot.device = storage->device();
    slot.nbytes = storage->nbytes();
    slot.alive = storage;
    slots_.push_back(std::move(slot));
  }
  const int number = place->second;
  Slot& slot = slots_[static_cast<std::size_t>(number)];
  // Memory that was taken over from elsewhere is not ours to place, though this storage was made within.
  if (slot.kind == Slot::inside && storage->adopted()) slot.kind = Slot::outside;
  if (slot.kind == Slot::outside && !slot.keep) {
    slot.keep = (storage->retain(), StorageRef(storage));
  } else if (slot.kind == Slot::inside && !slot.written && !written) {
    // Read before any kernel wrote it: its elements came from the host.
    slot.kind = Slot::constant;
    slot.keep = (storage->retain(), StorageRef(storage));
  }
  (written ? slot.written : slot.read) = true;
  const int step = steps();
  if (slot.first < 0) slot.first = step;
  slot.last = step;
  return number;
}

void Capture::record(const Call& call) {
  Recording& r = *recording_;
  if (!refusal.empty()) return;
  Step step{call.name,
            call.kernel,
            call.function,
            call.thunk,
            static_cast<int>(r.views_.size()),
            static_cast<int>(call.views.size()),
            static_cast<int>(r.attributes_.size()),
            static_cast<int>(call.attributes.size()),
            0};
  constexpr std::size_t kFew = 16;
  int few[kFew];
  std::vector<int> many(call.views.size() > kFew ? call.views.size() : 0);
  int* const slots = many.empty() ? few : many.data();
  for (std::size_t i = 0; i < call.views.size(); ++i) {
    const View& view = call.views[i];
    slots[i] = kNothing;
    if (!view.data) continue;
    if (!view.storage && call.writes[i]) {
      refuse(std::string(call.name) +
             ": the shape of its result depends on values, which may differ at the next call");
      return;
    }
  }
  // Reads first: a call may read and write what nobody wrote before.
  {
    const std::lock_guard lock(mutex_);
    for (const bool written : {false, true})
      for (std::size_t i = 0; i < call.views.size(); ++i)
        if (call.writes[i] == written && call.views[i].storage && call.views[i].data)
          slots[i] = see(call.views[i], written);
  }
  for (std::size_t i = 0; i < call.views.size(); ++i) {
    View view = call.views[i];
    Use use{slots[i], 0, call.writes[i] != 0};
    if (view.data && view.storage) {
      use.offset = static_cast<char*>(view.data) - static_cast<char*>(view.storage->data());
    } else if (view.data) {
      // From the caller's stack: its elements are kept, from the lowest to the highest that the strides
      // reach.
      std::int64_t low = 0, high = 0;
      for (int k = 0; k < view.ndim; ++k) {
        const std::int64_t reach = (view.shape[k] - 1) * view.strides[k];
        (reach < 0 ? low : high) += reach;
      }
      const std::int64_t item = itemsize(view.dtype);
      const std::size_t at = (r.pool_.size() + 15) / 16 * 16;
      const auto bytes = view.size() ? static_cast<std::size_t>((high - low + 1) * item) : 0;
      r.pool_.resize(at + bytes);
      if (bytes) std::memcpy(r.pool_.data() + at, static_cast<char*>(view.data) + low * item, bytes);
      use.slot = kPool;
      use.offset = static_cast<std::int64_t>(at) - low * item;
    }
    // Where the shape lies is known when all are in: an index for now.
    const auto extents = r.extents_.size();
    r.extents_.insert(r.extents_.end(), view.shape, view.shape + view.ndim);
    r.extents_.insert(r.extents_.end(), view.strides, view.strides + view.ndim);
    view.shape = view.strides = nullptr;
    view.storage = nullptr;
    view.data = reinterpret_cast<void*>(extents);
    r.views_.push_back(view);
    r.operands_.push_back(use);
  }
  r.attributes_.insert(r.attributes_.end(), call.attributes.begin(), call.attributes.end());
  if (g_line) {
    const auto [place, fresh] = line_numbers_.try_emplace(g_line_key(), static_cast<int>(r.lines_.size()));
    if (fresh) r.lines_.push_back(g_line());
    step.line = place->second;
  }
  r.steps_.push_back(step);
}

std::vector<std::string> Capture::escaped(const std::vector<const Storage*>& handed_out) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.created || !slot.alive || !slot.written || slot.alive->adopted()) continue;
    const auto owners = std::count(handed_out.begin(), handed_out.end(), slot.alive) + (slot.keep ? 1 : 0);
    if (slot.alive->owners() <= owners) continue;
    for (const Step& step : recording_->steps_) {
      const auto wrote = [&](int k) {
        const Use& use = recording_->operands_[static_cast<std::size_t>(k)];
        return use.slot == static_cast<int>(i) && use.written;
      };
      bool found = false;
      for (int k = step.first; k < step.first + step.count; ++k) found |= wrote(k);
      if (!found) continue;
      lines.push_back(std::string(step.name) +
                      (recording_->lines_.empty()
                           ? ""
                           : " at " + recording_->lines_[static_cast<std::size_t>(step.line)]));
      break;
    }
  }
  return lines;
}

std::unique_ptr<Recording> Capture::finish(const std::vector<Storage*>& results) {
  end();
  Recording& r = *recording_;
  for (Slot& slot : slots_)
    if (slot.kind == Slot::constant && slot.written)
      runtime_error("jit: memory that was filled without a kernel is then written in place; copy it first");
  for (Storage* storage : results) {
    Slot& slot = slots_[static_cast<std::size_t>(slot_of(storage))];
    slot.kind = Slot::result;
    slot.number = static_cast<int>(r.results_.size());
    r.results_.push_back(static_cast<int>(&slot - slots_.data()));
  }
  r.slots_ = std::move(slots_);
  // Two storages may be views of one NumPy array, made apart: then what the steps write may be what others
  // read.
  bool apart = true;
  std::vector<std::pair<const char*, const char*>> ranges;
  for (const Slot& slot : r.slots_) {
    const Storage* s = slot.keep ? slot.keep.get() : slot.kind == Slot::input ? slot.alive : nullptr;
    if (s)
      ranges.emplace_back(static_cast<const char*>(s->data()),
                          static_cast<const char*>(s->data()) + s->nbytes());
  }
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) apart &= ranges[i].first >= ranges[i - 1].second;
  r.plan(apart);
  return std::move(recording_);
}

}  // namespace ts
