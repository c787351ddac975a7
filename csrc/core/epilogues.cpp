// Finding the pointwise steps that become a product's epilogue.
//
// A group, or a single step, that reads the result of a matrix product, a convolution or a batch norm moves
// to just behind it where nothing stands in its way, and runs on each block of the result as that is
// finished: what was written is still in cache when it is read, and where nobody else reads it, it goes to no
// memory at all.
//
// A sum of a matrix product's result, or of a layer norm's gradient, and another matrix is made by the kernel
// itself, before it stores the result.
#include <algorithm>
#include <cstring>

#include "core/epilogue.h"
#include "core/groups.h"

namespace ts {

namespace {

constexpr std::int64_t kLeastColumns = 16;    // narrower results are written by elements
constexpr std::int64_t kColumnsForLong = 32;  // below it, long arithmetic gains nothing (docs/jit.md)
// Wider results of a matrix product are made in strips of columns. What else the epilogue reads and writes
// would be touched in as many strips, which costs more than reading the result again (docs/jit.md).
constexpr std::int64_t kMostColumns = 63;
constexpr std::int64_t kLeastResult = 2
                                      << 20;  // bytes: smaller results are still in cache when they are read
constexpr int kLooksBack = 16;                // steps

// More than half a nanosecond an element: what is saved in memory is little beside it. Activations are not,
// of floats; of doubles they gain nothing and lose nothing.
bool is_long(Kernel kernel) {
  switch (kernel) {
    case Kernel::power:
    case Kernel::atan2:
    case Kernel::asinh:
    case Kernel::acosh:
    case Kernel::atanh:
    case Kernel::floor_divide:
      return true;
    default:
      return false;
  }
}

// The operand of a product that is its result: the last of most.
int result_of(Kernel kernel, int count) {
  switch (kernel) {
    case Kernel::batch_norm:
      return 3;
    case Kernel::layer_norm_backward:
      return 5;
    default:
      return count - 1;
  }
}

// Of a product's result: the length of a row, where its elements lie side by side as rows of channels or of
// columns; else 0.
std::int64_t row_of(Kernel kernel, const View& y) {
  const auto dense = [&](std::initializer_list<int> axes) {
    std::int64_t expected = 1;
    for (const int axis : axes) {
      if (y.shape[axis] != 1 && y.strides[axis] != expected) return false;
      expected *= y.shape[axis];
    }
    return true;
  };
  switch (kernel) {
    case Kernel::gemm:
      return dense({2, 1, 0}) ? y.shape[2] : 0;
    case Kernel::conv2d:
    case Kernel::conv2d_input_backward:
      return dense({1, 3, 2, 0}) ? y.shape[1] : 0;
    case Kernel::batch_norm:
      return dense({1, 2, 0}) ? y.shape[1] : 0;
    case Kernel::layer_norm_backward:
      return dense({1, 0}) ? y.shape[1] : 0;
    default:
      return 0;
  }
}

// Whether it gains to run steps on the blocks of a result of so many bytes.
bool takes_epilogue(Kernel kernel, std::int64_t row, std::int64_t bytes) {
  if (kernel == Kernel::layer_norm_backward) return false;
  if (kernel == Kernel::batch_norm) return true;  // which makes blocks that the first-level cache holds
  return (kernel != Kernel::gemm || row <= kMostColumns) && bytes >= kLeastResult;
}

}  // namespace

// The product, among the steps before this one, behind which it may go; -1 if there is none.
int Recording::product_before(const Fused& fused, std::size_t number, const std::vector<int>& epilogues,
                              const std::vector<bool>& gone) const {
  const Step& step = steps_[number];
  const auto barrier_within = [&](std::size_t first) {  // between the steps `first` and `number`
    return std::any_of(barriers_.begin(), barriers_.end(), [&](int call) {
      const auto before = std::lower_bound(dropped_.begin(), dropped_.end(), call) - dropped_.begin();
      const auto place = static_cast<std::size_t>(call - before);
      return place > fused.begins[first] && place <= fused.begins[number];
    });
  };
  const std::size_t end = number > kLooksBack ? number - kLooksBack : 0;
  for (std::size_t i = number; i-- > end;) {
    if (gone[i]) continue;  // it stands behind its product
    if (epilogues[i] >= 0 && !independent(steps_[static_cast<std::size_t>(epilogues[i])], step)) return -1;
    const Step& before = steps_[i];
    const bool of_host = before.kernel == Kernel::count && before.thunk != &run_group;  // it may throw
    if (of_host || barrier_within(i)) return -1;
    if (independent(before, step)) continue;
    const int y = before.first + result_of(before.kernel, before.count);
    const std::int64_t row = row_of(before.kernel, views_[static_cast<std::size_t>(y)]);
    return epilogues[i] < 0 && row >= kLeastColumns ? static_cast<int>(i) : -1;
  }
  return -1;
}

// A result that only the epilogue reads lies where the call that reads it last puts its own, if that memory
// is not needed before: so it takes none of its own. What a product adds may lie there, as it is read before
// it is written, a tile at a time: but not if it reads `in_place` from a result that was begun.
void Recording::share_result(int first, int count, const Group& group, int slot, bool in_place) {
  const auto use = [&](int k) -> Use& { return operands_[static_cast<std::size_t>(first + k)]; };
  std::size_t last = 0;
  for (std::size_t c = 0; c < group.calls.size(); ++c)
    for (const FusedOperand& o : group.calls[c].operands)
      if (o.buffer == kFinished) last = c;
  const FusedOperand& y = group.calls[last].operands.back();
  const Use target = use(y.view);
  if (target.slot < 0 || target.slot == slot ||
      y.item != itemsize(views_[static_cast<std::size_t>(first + group.result_view)].dtype))
    return;
  const Slot::Kind kind = slots_[static_cast<std::size_t>(target.slot)].kind;
  if (kind != Slot::inside && kind != Slot::result) return;
  for (int k = 0; k < count; ++k)
    if (use(k).slot == target.slot) return;
  for (std::size_t c = 0; c <= last; ++c)
    for (const FusedOperand& o : group.calls[c].operands)
      if (&o != &y && use(o.view).slot == target.slot &&
          !(in_place && same_view(views_[static_cast<std::size_t>(first + o.view)], use(o.view),
                                  views_[static_cast<std::size_t>(first + y.view)], target)))
        return;
  for (const FusedCall& call : group.calls)
    for (const FusedOperand& o : call.operands)
      if (o.buffer == kFinished) use(o.view).slot = kNothing;
  use(group.result_view).slot = target.slot;
  use(group.result_view).offset = target.offset;
}

// Of a product and a sum of its result, which nobody else reads, with another matrix: the kernel adds that
// itself and writes where the sum is to be, if what is there may be written by then.
void Recording::find_addend(Kernel kernel, Group& group, int first, int count, int slot) {
  if (kernel != Kernel::gemm && kernel != Kernel::layer_norm_backward) return;
  const auto view = [&](int k) -> const View& { return views_[static_cast<std::size_t>(first + k)]; };
  const std::vector<FusedOperand>& add = group.calls[0].operands;
  const FusedOperand& x = add[add[0].buffer == kFinished ? 1 : 0];
  const DType dtype = view(group.result_view).dtype;
  const std::vector<std::int64_t> dense = {group.shape[1], 1};
  if (x.buffer == kFinished || x.strides != dense || x.dtype != dtype || add.back().dtype != dtype) return;
  bool in_place = true;
  if (kernel == Kernel::gemm) {
    const View& bias = view(2);
    const bool plain_bias = operands_[static_cast<std::size_t>(first + 2)].slot == kNothing ||
                            bias.ndim == 0 || bias.strides[bias.ndim - 1] == 1;
    in_place = plain_bias && view(0).shape[2] * itemsize(dtype) <= kBlockBytes;
  }
  share_result(first, count, group, slot, in_place);
  if (operands_[static_cast<std::size_t>(first + group.result_view)].slot != slot) group.addend_view = x.view;
}

// Makes one step of a product and the step `number`, if the latter works on rows and columns of the result.
bool Recording::join_epilogue(const Fused& fused, std::size_t product, std::size_t number, Step& joined) {
  const Step& before = steps_[product];
  const int c = before.first + result_of(before.kernel, before.count);
  const View result = views_[static_cast<std::size_t>(c)];
  const Use written = operands_[static_cast<std::size_t>(c)];
  const std::int64_t row = row_of(before.kernel, result);
  if (written.slot < 0 || (result.dtype != DType::float32 && result.dtype != DType::float64)) return false;
  const Slot& slot = slots_[static_cast<std::size_t>(written.slot)];
  const bool forgotten = slot.kind == Slot::inside && slot.first == static_cast<int>(product) &&
                         slot.last == static_cast<int>(number);
  const Step *const begin = fused.steps.data() + fused.begins[number], *const end = fused.steps.data() +
                                                                                    fused.begins[number + 1];
  if (row < kColumnsForLong && std::any_of(begin, end, [](const Step& s) { return is_long(s.kernel); }))
    return false;
  GroupAxes axes;
  if (!axes.begin(views_[static_cast<std::size_t>(begin->first + begin->count - 1)])) return false;
  // All of the result, in the order of its memory; no other operand of the product is written, and nothing
  // else that it writes is read.
  bool reads = false;
  for (const Step* s = begin; s < end; ++s)
    for (int k = s->first; k < s->first + s->count; ++k) {
      const Use& use = operands_[static_cast<std::size_t>(k)];
      const View& v = views_[static_cast<std::size_t>(k)];
      if (use.slot < 0) continue;
      if (use.slot == written.slot && (use.offset != written.offset || v.dtype != result.dtype ||
                                       v.size() != result.size() || !axes.fits(v, true)))
        return false;
      reads |= use.slot == written.slot && !use.written;
      for (int i = before.first; i < before.first + before.count; ++i) {
        const Use& other = operands_[static_cast<std::size_t>(i)];
        if (i != c && other.slot == use.slot && (use.written || other.written)) return false;
      }
    }
  if (!reads) return false;

  auto group = std::make_unique<Group>();
  group->name = before.name;
  group->shape = axes.shape();
  group->result_view = c - before.first;
  const int first = static_cast<int>(views_.size());
  const auto copy = [&](const Step& s) {
    for (int k = s.first; k < s.first + s.count; ++k) {
      views_.push_back(views_[static_cast<std::size_t>(k)]);
      operands_.push_back(operands_[static_cast<std::size_t>(k)]);
    }
  };
  copy(before);
  std::vector<int> buffered;
  for (const Step* s = begin; s < end; ++s) {
    Step call = *s;
    call.first = static_cast<int>(views_.size());
    copy(*s);
    add_call(*group, axes, call, first, [&](int k) {
      const int slot = operands_[static_cast<std::size_t>(k)].slot;
      if (slot == written.slot) return kFinished;
      // The group alone sees it: it has lost its slot, and goes by the number that it had.
      const int hidden = fused.slots[static_cast<std::size_t>(k - call.first + s->first)];
      return slot == kNothing && hidden >= 0 ? numbered(buffered, hidden) : -1;
    });
    group->name += std::string("+") + s->name;
  }
  join(group->shape, group->calls, row);
  bool joins = group->shape.size() == 2 && group->shape[1] == row &&
               place_buffers(*group, static_cast<int>(buffered.size()), kFusedBlock, kEpilogueBytes);
  if (joins && forgotten && begin->kernel == Kernel::add && end == begin + 1)
    find_addend(before.kernel, *group, first, before.count, written.slot);
  joins &=
      group->addend_view >= 0 || takes_epilogue(before.kernel, row, result.size() * itemsize(result.dtype));
  if (!joins) {
    views_.resize(static_cast<std::size_t>(first));
    operands_.resize(static_cast<std::size_t>(first));
    return false;
  }
  group->product.function = before.function;
  group->product.thunk = before.thunk;
  group->product.attributes.assign(attributes_.begin() + before.attributes,
                                   attributes_.begin() + before.attributes + before.attribute_bytes);
  group->forgotten = forgotten;
  if (forgotten && group->addend_view < 0) share_result(first, before.count, *group, written.slot, false);
  joined = before;
  joined.function = nullptr;
  joined.thunk = &run_product;
  joined.first = first;
  joined.count = static_cast<int>(views_.size()) - first;
  joined.name = group->name.c_str();
  joined.attributes = static_cast<int>(attributes_.size());
  joined.attribute_bytes = sizeof(Group*);
  const Group* const address = group.get();
  attributes_.resize(attributes_.size() + sizeof(address));
  std::memcpy(attributes_.data() + joined.attributes, &address, sizeof(address));
  groups_.push_back(std::move(group));
  return true;
}

void Recording::find_epilogues(const Fused& fused) {
  if (std::find(fused.pointwise.begin(), fused.pointwise.end(), true) == fused.pointwise.end()) return;
  find_lifetimes();
  std::vector<int> epilogues(steps_.size(), -1);
  std::vector<Step> joined(steps_.size());
  std::vector<bool> gone(steps_.size());
  for (std::size_t t = 1; t < steps_.size(); ++t) {
    if (!fused.pointwise[t]) continue;
    const int s = product_before(fused, t, epilogues, gone);
    if (s < 0 || !join_epilogue(fused, static_cast<std::size_t>(s), t, joined[static_cast<std::size_t>(s)]))
      continue;
    epilogues[static_cast<std::size_t>(s)] = static_cast<int>(t);
    gone[t] = true;
    fused_.push_back(static_cast<int>(fused.begins[t]));
  }
  std::sort(fused_.begin(), fused_.end());
  std::size_t kept = 0;
  for (std::size_t i = 0; i < steps_.size(); ++i)
    if (!gone[i]) steps_[kept++] = epilogues[i] >= 0 ? joined[i] : steps_[i];
  steps_.resize(kept);
}

}  // namespace ts
