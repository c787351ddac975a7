// Finding the groups of steps that fusion makes one of.
#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "core/dispatch.h"
#include "core/groups.h"

namespace ts {

namespace {

constexpr int kMaxCalls = 32;

}  // namespace

void join(std::vector<std::int64_t>& shape, std::vector<FusedCall>& calls, std::int64_t row) {
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape.size() == 1) break;
    if (shape[axis] == 1) {
      shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
      for (FusedCall& c : calls)
        for (FusedOperand& o : c.operands)
          o.strides.erase(o.strides.begin() + static_cast<std::ptrdiff_t>(axis));
    }
  }
  for (std::size_t axis = shape.size(); axis-- > 1;) {
    bool joins = true;
    if (std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(axis), shape.end(), std::int64_t{1},
                        std::multiplies<>()) == row)
      joins = false;
    for (const FusedCall& c : calls)
      for (const FusedOperand& o : c.operands) joins &= o.strides[axis - 1] == o.strides[axis] * shape[axis];
    if (!joins) continue;
    shape[axis - 1] *= shape[axis];
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
    for (FusedCall& c : calls)
      for (FusedOperand& o : c.operands)
        o.strides.erase(o.strides.begin() + static_cast<std::ptrdiff_t>(axis) - 1);
  }
}

// What is read for the last time by a call leaves its buffer to the call's result (pointwise kernels may
// write over what they read), so that as few as can be share the first-level cache. Buffers are contiguous
// and keep the order of the axes; each begins on a line.
bool place_buffers(Group& group, int count, std::int64_t elements, std::size_t room) {
  std::vector<std::size_t> last(static_cast<std::size_t>(count));  // call that uses it
  for (std::size_t c = 0; c < group.calls.size(); ++c)
    for (const FusedOperand& o : group.calls[c].operands)
      if (o.buffer >= 0) last[static_cast<std::size_t>(o.buffer)] = c;
  struct Free {
    std::int64_t place, item;
  };
  std::vector<Free> free;
  std::vector<std::int64_t> place(static_cast<std::size_t>(count), -1);
  std::int64_t end = 0;
  for (std::size_t c = 0; c < group.calls.size(); ++c) {
    std::vector<FusedOperand>& operands = group.calls[c].operands;
    const auto slot = [](const FusedOperand& o) { return static_cast<std::size_t>(o.buffer); };
    for (std::size_t i = 0; i + 1 < operands.size(); ++i) {
      const FusedOperand& o = operands[i];
      const bool again = std::any_of(operands.begin(), operands.begin() + static_cast<std::ptrdiff_t>(i),
                                     [&](const FusedOperand& other) { return other.buffer == o.buffer; });
      if (o.buffer >= 0 && last[slot(o)] == c && !again && o.buffer != operands.back().buffer)
        free.push_back({place[slot(o)], o.item});
    }
    const FusedOperand& y = operands.back();
    if (y.buffer < 0 || place[slot(y)] >= 0) continue;
    const auto found =
        std::find_if(free.rbegin(), free.rend(), [&](const Free& f) { return f.item == y.item; });
    if (found != free.rend()) {
      place[slot(y)] = found->place;
      free.erase(std::next(found).base());
    } else {
      place[slot(y)] = end;
      end += (elements * y.item + 63) / 64 * 64 + 64;
    }
  }
  for (FusedCall& call : group.calls)
    for (FusedOperand& o : call.operands) {
      o.row = o.strides[0] * o.item;
      if (o.buffer >= 0) o.buffer = static_cast<int>(place[static_cast<std::size_t>(o.buffer)]);
    }
  return static_cast<std::size_t>(end) <= room;
}

bool same_view(const View& a, const Use& ua, const View& b, const Use& ub) {
  return ua.offset == ub.offset && a.dtype == b.dtype && a.ndim == b.ndim &&
         std::equal(a.shape, a.shape + a.ndim, b.shape) &&
         std::equal(a.strides, a.strides + a.ndim, b.strides);
}

int numbered(std::vector<int>& list, int x) {
  const auto place = std::find(list.begin(), list.end(), x);
  const auto number = static_cast<int>(place - list.begin());
  if (place == list.end()) list.push_back(x);
  return number;
}

void Recording::add_call(Group& group, const GroupAxes& axes, const Step& step, int first,
                         const std::function<int(int)>& buffer_of) const {
  FusedCall call{step.function, step.thunk, {}, {}};
  call.attributes.assign(attributes_.begin() + step.attributes,
                         attributes_.begin() + step.attributes + step.attribute_bytes);
  for (int k = step.first; k < step.first + step.count; ++k) {
    const View& v = views_[static_cast<std::size_t>(k)];
    call.operands.push_back({k - first, buffer_of(k), 0, itemsize(v.dtype), v.dtype, axes.strides(v)});
  }
  group.calls.push_back(std::move(call));
}

// Takes the longest runs of neighbouring steps. `find_lifetimes` has run.
void Recording::fuse() {
  Fused fused;
  for (const Use& use : operands_) fused.slots.push_back(use.slot);
  for (std::size_t s = 0; s < steps_.size();) {
    std::size_t end = group_end(s);
    const bool pointwise = end > s;
    fused.begins.push_back(s);
    if (!pointwise || !fuse_group(s, end, fused.steps, true)) {
      fused.steps.push_back(steps_[s]);
      fused.pointwise.push_back(pointwise);
      ++s;
      continue;
    }
    fused.pointwise.push_back(groups_.back()->tail == Group::none);
    for (std::size_t k = s + 1; k < end; ++k) fused_.push_back(static_cast<int>(k));
    s = end;
  }
  fused.begins.push_back(steps_.size());
  std::swap(steps_, fused.steps);
  find_epilogues(fused);
}

// Whether the host does something after step `a` and before step `b`, the next.
bool Recording::barrier_between(std::size_t a, std::size_t b) const {
  for (const int call : barriers_) {
    const auto place = static_cast<std::size_t>(
        call - (std::lower_bound(dropped_.begin(), dropped_.end(), call) - dropped_.begin()));
    if (place > a && place <= b) return true;
  }
  return false;
}

// One past the last step of the group that begins at step `begin`.
std::size_t Recording::group_end(std::size_t begin) const {
  GroupAxes axes;
  const auto view = [&](int k) -> const View& { return views_[static_cast<std::size_t>(k)]; };
  const auto use = [&](int k) -> const Use& { return operands_[static_cast<std::size_t>(k)]; };
  std::vector<int> seen;  // views of earlier steps of the group
  std::size_t s = begin;
  for (; s < steps_.size() && s - begin < kMaxCalls; ++s) {
    const Step& step = steps_[s];
    if (!is_pointwise(step.kernel) || step.count > kFusedOperands) break;
    if (s > begin && barrier_between(s - 1, s)) break;
    const int y = step.first + step.count - 1;
    if (s == begin && !axes.begin(view(y))) break;
    bool fits = true;
    for (int k = step.first; fits && k <= y; ++k) {
      fits = axes.fits(view(k), k == y);
      // Elements that the group writes are read as they were written, and nobody else's are written over.
      for (std::size_t i = 0; fits && i < seen.size(); ++i)
        if (use(k).slot >= 0 && use(seen[i]).slot == use(k).slot && (use(k).written || use(seen[i]).written))
          fits = same_view(view(k), use(k), view(seen[i]), use(seen[i]));
    }
    // In place: an input may be exactly the output.
    for (int k = step.first; fits && k < y; ++k)
      if (use(k).slot >= 0 && use(k).slot == use(y).slot) fits = same_view(view(k), use(k), view(y), use(y));
    if (!fits) break;
    for (int k = step.first; k <= y; ++k) seen.push_back(k);
  }
  return s;
}

// Which reduction of what step `last` computes the next step is, if it may end a group.
Group::Tail Recording::tail_of(std::size_t last, std::int64_t& row) const {
  row = 0;
  const std::size_t next = last + 1;
  if (next >= steps_.size() || barrier_between(last, next)) return Group::none;
  const Step& step = steps_[next];
  switch (step.kernel) {
#define REDUCE(name, domain) case Kernel::name:
#define KERNEL(name, ...)
#include "core/kernels.def"
    break;
    default:
      return Group::none;
  }
  const auto y = static_cast<std::size_t>(steps_[last].first + steps_[last].count - 1);
  const auto from = static_cast<std::size_t>(step.first), to = from + 1;
  const View& x = views_[from];
  int reduced;
  std::memcpy(&reduced, attributes_.data() + step.attributes, sizeof(reduced));
  const auto row_major = [](const View& v) {
    std::int64_t expected = 1;
    for (int i = v.ndim - 1; i >= 0; --i) {
      if (v.shape[i] != 1 && v.strides[i] != expected) return false;
      expected *= v.shape[i];
    }
    return true;
  };
  const int slot = operands_[from].slot;
  if (slot < 0 || slot != operands_[y].slot || !same_view(x, operands_[from], views_[y], operands_[y]) ||
      !row_major(x) || !row_major(views_[to]))
    return Group::none;
  if (reduced == x.ndim) {
    const Slot& summed = slots_[static_cast<std::size_t>(slot)];
    const bool forgotten = summed.kind == Slot::inside && summed.last == static_cast<int>(next);
    const bool adds = step.kernel == Kernel::sum || step.kernel == Kernel::mean;
    return adds && forgotten && is_floating(x.dtype) && itemsize(x.dtype) >= 4 ? Group::sum : Group::none;
  }
  row = 1;
  for (int i = x.ndim - reduced; i < x.ndim; ++i) row *= x.shape[i];
  return row >= 2 && row < x.size() ? Group::rows : Group::none;
}

// Makes one step of the steps [begin, end), and of a reduction behind them if it is one of their last result.
bool Recording::fuse_group(std::size_t begin, std::size_t& end, std::vector<Step>& out, bool with_tail) {
  auto group = std::make_unique<Group>();
  const Step &first = steps_[begin], &last = steps_[end - 1];
  GroupAxes axes;
  axes.begin(views_[static_cast<std::size_t>(first.first + first.count - 1)]);
  group->shape = axes.shape();
  std::int64_t row = 0;
  if (with_tail) group->tail = tail_of(end - 1, row);
  const Step* const tail = group->tail != Group::none ? &steps_[end] : nullptr;
  if (tail) {
    // What it writes is nobody else's in the group.
    const int slot = operands_[static_cast<std::size_t>(tail->first + 1)].slot;
    for (int k = first.first; k < last.first + last.count; ++k)
      if (operands_[static_cast<std::size_t>(k)].slot == slot) return fuse_group(begin, end, out, false);
  }
  if (!tail && end - begin < 2) return false;
  const int last_step = static_cast<int>(tail ? end : end - 1);
  // What no step outside the group sees lives in buffers, one for each slot.
  std::vector<int> buffered;
  const auto buffer_of = [&](int k) {
    const View& v = views_[static_cast<std::size_t>(k)];
    const Use& use = operands_[static_cast<std::size_t>(k)];
    const int number = use.slot;
    if (number < 0 || use.offset != 0) return -1;
    const Slot& slot = slots_[static_cast<std::size_t>(number)];
    if (slot.kind != Slot::inside || slot.first < static_cast<int>(begin) || slot.last > last_step ||
        slot.nbytes != v.size() * itemsize(v.dtype))
      return -1;
    return numbered(buffered, number);
  };
  for (std::size_t s = begin; s < end; ++s) {
    add_call(*group, axes, steps_[s], first.first, buffer_of);
    if (s > begin) group->name += '+';
    group->name += steps_[s].name;
  }
  join(group->shape, group->calls, row);
  std::int64_t inner = 1;
  for (std::size_t i = 1; i < group->shape.size(); ++i) inner *= group->shape[i];
  if (inner > kFusedPiece) return tail && fuse_group(begin, end, out, false);
  group->block = std::max<std::int64_t>(1, kFusedBlock / inner);
  group->piece = std::max<std::int64_t>(1, kFusedPiece / inner / group->block) * group->block;
  const FusedOperand& result = group->calls.back().operands.back();
  if ((group->tail == Group::sum && (group->shape.size() != 1 || result.buffer < 0)) ||
      (group->tail == Group::rows && (group->shape.size() < 2 || inner % row != 0)))
    return fuse_group(begin, end, out, false);
  if (!place_buffers(*group, static_cast<int>(buffered.size()), group->block * inner,
                     kScratchBytes - kFusedBuffers))
    return false;
  Step step{nullptr,
            Kernel::count,
            nullptr,
            &run_group,
            first.first,
            0,
            static_cast<int>(attributes_.size()),
            sizeof(Group*),
            last.line};
  if (tail) {
    const View& y = views_[static_cast<std::size_t>(tail->first + 1)];
    group->reduce = reinterpret_cast<void (*)(In, Out, int)>(tail->function);
    group->tail_view = tail->first + 1 - first.first;
    group->tail_dtype = y.dtype;
    group->reduced = group->calls.back().operands.back();
    if (group->tail == Group::rows) {
      group->row_length = row;
      group->rows_each = inner / row;
    } else if (tail->kernel == Kernel::mean) {
      group->reduce = kernels(Device::cpu).sum;
      group->count = views_[static_cast<std::size_t>(tail->first)].size();
    }
    group->name += std::string("+") + tail->name;
    if (group->reduced.buffer >= 0) operands_[static_cast<std::size_t>(tail->first)].slot = kNothing;
    ++end;
  }
  step.count = (tail ? tail->first + tail->count : last.first + last.count) - first.first;
  for (int k = step.first; k < step.first + step.count; ++k) {
    int& slot = operands_[static_cast<std::size_t>(k)].slot;
    if (std::find(buffered.begin(), buffered.end(), slot) != buffered.end()) slot = kNothing;
  }
  step.name = group->name.c_str();
  const Group* address = group.get();
  attributes_.resize(attributes_.size() + sizeof(address));
  std::memcpy(attributes_.data() + step.attributes, &address, sizeof(address));
  groups_.push_back(std::move(group));
  out.push_back(step);
  return true;
}

}  // namespace ts
