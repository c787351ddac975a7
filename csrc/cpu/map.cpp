// The general case of map.h: axes sorted and joined, then flat ranges or tiles.
//
// Legend: axis 0 is the innermost after sorting; a tile has R rows (axis 1) of C columns (axis 0).
#include "cpu/map.h"

#include "cpu/parallel.h"
#include "cpu/stream.h"
#include "cpu/transpose.h"

namespace ts::cpu::TS_ISA {
namespace {

constexpr int kMaxDims = 64;
constexpr std::int64_t kTile = 1024;       // elements of a tile's buffer
constexpr std::int64_t kLargestItem = 16;  // bytes of a complex128
constexpr std::int64_t kStreamRun = 128;   // elements computed before they are streamed
constexpr std::int64_t kPairBytes =
    4096;                               // gathered at once where every second of 4 bytes is taken; half of 8
constexpr std::int64_t kShortRow = 48;  // rows of fewer, though contiguous, are gathered to longer runs

struct Operand {
  char* data;
  std::int64_t item;              // bytes
  std::int64_t stride[kMaxDims];  // bytes
};

// Operand 0 is the output. Strides of the output are positive and ascending.
struct Plan {
  Job job;
  int operands, ndim;
  std::int64_t size[kMaxDims];
  Operand operand[1 + kMaxInputs];
};

// False if there is nothing to do.
bool make_plan(Plan& plan, const View& y, const View* const* x) {
  const View* views[1 + kMaxInputs] = {&y};
  for (int k = 1; k < plan.operands; ++k) views[k] = x[k - 1];
  for (int k = 0; k < plan.operands; ++k) {
    plan.operand[k].data = static_cast<char*>(views[k]->data);
    plan.operand[k].item = itemsize(views[k]->dtype);
  }
  plan.ndim = 0;
  for (int axis = y.ndim - 1; axis >= 0; --axis) {
    const std::int64_t size = y.shape[axis];
    if (size == 0) return false;
    if (size == 1) continue;
    const bool flip = y.strides[axis] < 0;
    const std::int64_t key = (flip ? -y.strides[axis] : y.strides[axis]) * plan.operand[0].item;
    int at = plan.ndim++;
    for (; at > 0 && plan.operand[0].stride[at - 1] > key; --at) {
      plan.size[at] = plan.size[at - 1];
      for (int k = 0; k < plan.operands; ++k) plan.operand[k].stride[at] = plan.operand[k].stride[at - 1];
    }
    plan.size[at] = size;
    for (int k = 0; k < plan.operands; ++k) {
      Operand& o = plan.operand[k];
      const std::int64_t stride = views[k]->strides[axis] * o.item;
      if (flip) o.data += stride * (size - 1);
      o.stride[at] = flip ? -stride : stride;
    }
  }
  int last = 0;  // join axes
  for (int axis = 1; axis < plan.ndim; ++axis) {
    bool joins = true;
    for (int k = 0; k < plan.operands; ++k)
      joins &= plan.operand[k].stride[axis] == plan.size[last] * plan.operand[k].stride[last];
    if (joins) {
      plan.size[last] *= plan.size[axis];
      continue;
    }
    ++last;
    plan.size[last] = plan.size[axis];
    for (int k = 0; k < plan.operands; ++k) plan.operand[k].stride[last] = plan.operand[k].stride[axis];
  }
  if (plan.ndim > 0) plan.ndim = last + 1;
  for (int axis = plan.ndim; axis < 2; ++axis) {  // at least two axes, so that a tile has rows
    plan.size[axis] = 1;
    for (int k = 0; k < plan.operands; ++k) plan.operand[k].stride[axis] = plan.operand[k].item;
  }
  return true;
}

// One value, a register full of it.
void replicate(const char* value, std::int64_t item, char* buffer) {
  switch (item) {
    case 1:
      return Vec<std::uint8_t>(static_cast<std::uint8_t>(*value))
          .store(reinterpret_cast<std::uint8_t*>(buffer));
    case 2: {
      std::int16_t v;
      std::memcpy(&v, value, 2);
      return Vec<std::int16_t>(v).store(reinterpret_cast<std::int16_t*>(buffer));
    }
    case 4: {
      std::int32_t v;
      std::memcpy(&v, value, 4);
      return Vec<std::int32_t>(v).store(reinterpret_cast<std::int32_t*>(buffer));
    }
    case 8: {
      std::int64_t v;
      std::memcpy(&v, value, 8);
      return Vec<std::int64_t>(v).store(reinterpret_cast<std::int64_t*>(buffer));
    }
    default:
      for (int i = 0; i < kVectorBytes; i += 16) std::memcpy(buffer + i, value, 16);
  }
}

// One axis; every operand contiguous or constant.
void run_flat(const Plan& plan) {
  const Operand& y = plan.operand[0];
  const std::int64_t n = plan.size[0];
  const int inputs = plan.operands - 1;
  const Loop loop = plan.job.loop;
  alignas(64) char constant[kMaxInputs][kVectorBytes];
  std::int64_t step[kMaxInputs];
  bool in_place = false;
  const Operand* widest = &y;
  for (int k = 0; k < inputs; ++k) {
    const Operand& x = plan.operand[k + 1];
    step[k] = n == 1 || x.stride[0] != 0;
    if (!step[k])
      replicate(x.data, x.item, constant[k]);
    else if (x.item > widest->item)
      widest = &x;
    in_place |= x.data == y.data;
  }
  const bool streams = n * y.item >= kStreamBytes && !in_place;
  const std::int64_t grain = (even_grain(n, plan.job.grain) + kLine - 1) / kLine * kLine;
  parallel_ranges(n, grain, [&](std::int64_t begin, std::int64_t end) {
    const void* in[kMaxInputs];
    const auto at = [&](std::int64_t i) {
      for (int k = 0; k < inputs; ++k)
        in[k] = step[k] ? plan.operand[k + 1].data + i * plan.operand[k + 1].item : constant[k];
      return in;
    };
    const auto run = [&](std::int64_t from, std::int64_t to) {
      loop(at(from), step, y.data + from * y.item, to - from);
    };
    if (streams) {
      const std::int64_t first = before_line(y.data + begin * y.item, y.item, end - begin);
      run(begin, begin + first);
      begin += first;
      if (at_line(y.data + begin * y.item)) {
        alignas(64) char buffer[kStreamRun * kLargestItem];
        const bool copies = plan.job.copies && step[0];
        for (; begin + kStreamRun <= end; begin += kStreamRun) {
          at(begin);
          for (int k = 0; k < inputs; ++k)
            if (step[k]) ask_ahead(in[k], kStreamRun * plan.operand[k + 1].item);
          if (!copies) loop(in, step, buffer, kStreamRun);
          stream(y.data + begin * y.item, copies ? static_cast<const char*>(in[0]) : buffer,
                 kStreamRun * y.item);
        }
        _mm_sfence();
      }
    } else if (end - begin >= kAlignFrom && !plan.job.copies) {  // see map_line
      const std::int64_t first = before_line(widest->data + begin * widest->item, widest->item, end - begin);
      run(begin, begin + first);
      begin += first;
    }
    run(begin, end);
  });
}

// One axis; the result contiguous, every input contiguous, constant or every second element. These are
// gathered run by run, all operands in turn: the buffers stay in the first level while 16 times as much
// passes it.
void run_pairs(const Plan& plan) {
  const Operand& y = plan.operand[0];
  const std::int64_t n = plan.size[0];
  const int inputs = plan.operands - 1;
  alignas(64) char constant[kMaxInputs][kVectorBytes];
  std::int64_t step[kMaxInputs];
  bool wide = y.item > 4, in_place = false;
  for (int k = 0; k < inputs; ++k) {
    const Operand& x = plan.operand[k + 1];
    wide |= x.item > 4;
    in_place |= x.data == y.data;
    step[k] = x.stride[0] != 0;
    if (!step[k]) replicate(x.data, x.item, constant[k]);
  }
  const bool streams = n * y.item >= kStreamBytes && !in_place;
  const std::int64_t pair_run = wide ? kPairBytes / 16 : kPairBytes / 4;
  const std::int64_t grain = (even_grain(n, plan.job.grain) + kLine - 1) / kLine * kLine;
  parallel_ranges(n, grain, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) char buffer[1 + kMaxInputs][kPairBytes];
    const std::int64_t first = before_line(y.data + begin * y.item, y.item, end - begin);
    for (std::int64_t i = begin, length = first; i < end; i += length, length = pair_run) {
      if (length > end - i) length = end - i;
      char* const to = y.data + i * y.item;
      const void* in[kMaxInputs];
      for (int k = 0; k < inputs; ++k) {
        const Operand& x = plan.operand[k + 1];
        char* const from = x.data + i * x.stride[0];
        in[k] = step[k] ? from : constant[k];
        if (x.stride[0] != 2 * x.item) continue;
        char* const row = plan.job.copies && !streams ? to : buffer[k + 1];
        gather(row, from, x.item, x.stride[0], 0, length, 1);
        in[k] = row;
      }
      if (plan.job.copies && !streams) continue;
      const bool whole = streams && length == pair_run && at_line(to);
      if (!(whole && plan.job.copies)) plan.job.loop(in, step, whole ? buffer[0] : to, length);
      if (whole) stream(to, plan.job.copies ? buffer[1] : buffer[0], length * y.item);
    }
    if (streams) _mm_sfence();
  });
}

// How the tiles are cut.
struct Tiling {
  std::int64_t rows, columns;        // of a full tile
  std::int64_t across, down, total;  // tiles along axis 0, along axis 1, in all
  bool joined;                       // a tile is one run of the loop, not one per row
};

Tiling tile(Plan& plan) {
  // An operand whose nearest neighbours lie on another axis: bring that axis next to axis 0 and cut square
  // tiles.
  bool direct = true, transposed = false;
  for (int k = 0; k < plan.operands; ++k) {
    const Operand& o = plan.operand[k];
    if (o.stride[0] == o.item || (k > 0 && o.stride[0] == 0)) continue;
    direct = false;
    if (k == 0 || transposed) continue;
    int nearest = 0;
    for (int axis = 1; axis < plan.ndim; ++axis) {
      const std::int64_t a = o.stride[axis] < 0 ? -o.stride[axis] : o.stride[axis];
      const std::int64_t b = o.stride[nearest] < 0 ? -o.stride[nearest] : o.stride[nearest];
      if (a != 0 && a < b) nearest = axis;
    }
    if (nearest == 0 || plan.size[nearest] < 4 || plan.size[0] < 4) continue;
    transposed = true;
    for (int axis = nearest; axis > 1; --axis) {  // rotate, the others stay in order
      std::int64_t* s = plan.size;
      const std::int64_t size = s[axis];
      s[axis] = s[axis - 1], s[axis - 1] = size;
      for (int j = 0; j < plan.operands; ++j) {
        std::int64_t* t = plan.operand[j].stride;
        const std::int64_t stride = t[axis];
        t[axis] = t[axis - 1], t[axis - 1] = stride;
      }
    }
  }
  Tiling t;
  t.joined = false;
  if (plan.size[0] < (direct ? kShortRow : 128)) {
    t.columns = plan.size[0];
    t.rows = kTile / t.columns;
    if (transposed) {  // whole squares of registers, for which the buffers of small elements have room
      std::int64_t item = 1;
      for (int k = 0; k < plan.operands; ++k)
        item = item < plan.operand[k].item ? plan.operand[k].item : item;
      const std::int64_t room = kTile * kLargestItem / item / t.columns;
      if (t.rows < 32) t.rows = room < 32 ? room : 32;
      if (t.rows > 16) t.rows = t.rows / 16 * 16;
    }
    if (t.rows > plan.size[1]) t.rows = plan.size[1];
    t.joined = t.rows > 1;
  } else if (transposed) {
    t.columns = plan.size[0] < 64 ? plan.size[0] : 64;
    t.rows = plan.size[1] < 16 ? plan.size[1] : 16;
  } else {
    const std::int64_t longest = direct ? plan.job.grain : kTile;
    t.columns = plan.size[0] < longest ? plan.size[0] : longest;
    t.rows = longest / t.columns < plan.size[1] ? longest / t.columns : plan.size[1];
  }
  t.across = (plan.size[0] + t.columns - 1) / t.columns;
  t.down = (plan.size[1] + t.rows - 1) / t.rows;
  t.total = t.across * t.down;
  for (int axis = 2; axis < plan.ndim; ++axis) t.total *= plan.size[axis];
  return t;
}

struct Cell {
  std::int64_t row, column, index[kMaxDims];  // index of axes 2 and on
};

void run_tile(const Plan& plan, const Tiling& t, const Cell& cell, bool streams) {
  alignas(64) char buffer[1 + kMaxInputs][kTile * kLargestItem];
  const std::int64_t columns =
      cell.column + t.columns < plan.size[0] ? t.columns : plan.size[0] - cell.column;
  const std::int64_t rows = cell.row + t.rows < plan.size[1] ? t.rows : plan.size[1] - cell.row;
  char* base[1 + kMaxInputs];
  std::int64_t down[1 + kMaxInputs], step[kMaxInputs];  // bytes from row to row
  bool constant[1 + kMaxInputs] = {}, scatters = false;
  for (int k = 0; k < plan.operands; ++k) {
    const Operand& o = plan.operand[k];
    char* p = o.data + cell.column * o.stride[0] + cell.row * o.stride[1];
    for (int axis = 2; axis < plan.ndim; ++axis) p += cell.index[axis] * o.stride[axis];
    const bool unit = o.stride[0] == o.item || columns == 1;
    const bool dense = unit && (!t.joined || rows == 1 || o.stride[1] == columns * o.item);
    base[k] = p;
    down[k] = o.stride[1];
    if (k > 0) step[k - 1] = 1;
    if (dense) continue;
    if (k > 0 && o.stride[0] == 0 && (!t.joined || o.stride[1] == 0 || rows == 1)) {
      constant[k] = true;
      step[k - 1] = 0;
      if (down[k] == 0 || rows == 1) replicate(p, o.item, buffer[k]);
      continue;
    }
    base[k] = buffer[k];
    down[k] = columns * o.item;
    if (k == 0)
      scatters = true;
    else
      gather(buffer[k], p, o.item, o.stride[0], o.stride[1], columns, rows);
  }
  const std::int64_t runs = t.joined ? 1 : rows, length = t.joined ? rows * columns : columns;
  for (std::int64_t r = 0; r < runs; ++r) {
    const void* in[kMaxInputs];
    for (int k = 1; k < plan.operands; ++k) {
      if (constant[k]) {
        if (down[k] != 0 && rows > 1) replicate(base[k] + r * down[k], plan.operand[k].item, buffer[k]);
        in[k - 1] = buffer[k];
      } else {
        in[k - 1] = base[k] + r * down[k];
      }
    }
    char* const to = base[0] + r * down[0];
    const std::int64_t bytes = length * plan.operand[0].item;
    if (streams && !scatters && !constant[1] && at_line(to) && bytes % kLine == 0)
      stream(to, static_cast<const char*>(in[0]), bytes);
    else
      plan.job.loop(in, step, to, length);
  }
  if (scatters) {
    const Operand& y = plan.operand[0];
    char* p = y.data + cell.column * y.stride[0] + cell.row * y.stride[1];
    for (int axis = 2; axis < plan.ndim; ++axis) p += cell.index[axis] * y.stride[axis];
    scatter(p, buffer[0], y.item, y.stride[0], y.stride[1], columns, rows);
  }
}

void run_tiles(Plan& plan) {
  const Tiling t = tile(plan);
  const std::int64_t per_piece = plan.job.grain / (t.rows * t.columns);
  std::int64_t bytes = plan.operand[0].item;
  for (int axis = 0; axis < plan.ndim; ++axis) bytes *= plan.size[axis];
  const bool large = plan.job.copies && bytes >= 4 * kStreamBytes;
  parallel_ranges(t.total, per_piece > 1 ? per_piece : 1, [&](std::int64_t begin, std::int64_t end) {
    const bool streams = large;
    Cell cell;
    std::int64_t rest = begin;
    cell.column = rest % t.across * t.columns;
    rest /= t.across;
    cell.row = rest % t.down * t.rows;
    rest /= t.down;
    for (int axis = 2; axis < plan.ndim; ++axis) {
      cell.index[axis] = rest % plan.size[axis];
      rest /= plan.size[axis];
    }
    for (std::int64_t i = begin; i < end; ++i) {
      run_tile(plan, t, cell, streams);
      if ((cell.column += t.columns) < plan.size[0]) continue;
      cell.column = 0;
      if ((cell.row += t.rows) < plan.size[1]) continue;
      cell.row = 0;
      for (int axis = 2; axis < plan.ndim; ++axis) {
        if (++cell.index[axis] < plan.size[axis]) break;
        cell.index[axis] = 0;
      }
    }
    if (streams) _mm_sfence();
  });
}

}  // namespace

void map_strided(Job job, const View& y, const View* const* x, int inputs) {
  Plan plan;
  plan.job = job;
  plan.operands = 1 + inputs;
  if (!make_plan(plan, y, x)) return;
  bool flat = plan.ndim <= 1, pairs = false;
  if (plan.ndim == 0) {
    plan.size[0] = 1;
  } else {
    for (int k = 0; k < plan.operands; ++k) {
      const Operand& o = plan.operand[k];
      const bool pair = k > 0 && o.stride[0] == 2 * o.item && (o.item == 4 || o.item == 8);
      flat &= o.stride[0] == o.item || (k > 0 && o.stride[0] == 0) || pair;
      pairs |= pair;
    }
  }
  if (!flat)
    run_tiles(plan);
  else if (pairs)
    run_pairs(plan);
  else
    run_flat(plan);
}

// One piece, all contiguous. Registers that cross from one cache line into the next cost more, to store
// than to load: what comes before the first whole line of the result (of the first input, where
// that is wider) goes by itself.
void map_line(Job job, const View& y, const View* const* x, int inputs) {
  static constexpr std::int64_t steps[kMaxInputs] = {1, 1, 1};
  const std::int64_t item = itemsize(y.dtype), wide = itemsize(x[0]->dtype), n = y.shape[0];
  const std::int64_t first = wide > item ? before_line(x[0]->data, wide, n) : before_line(y.data, item, n);
  const void* in[kMaxInputs];
  for (int k = 0; k < inputs; ++k) in[k] = x[k]->data;
  if (first) {
    job.loop(in, steps, y.data, first);
    for (int k = 0; k < inputs; ++k) in[k] = static_cast<const char*>(in[k]) + first * itemsize(x[k]->dtype);
  }
  job.loop(in, steps, static_cast<char*>(y.data) + first * item, n - first);
}

}  // namespace ts::cpu::TS_ISA
