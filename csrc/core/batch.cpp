// Independent steps at once: where products are too small to keep all threads busy, each thread takes one.
//
// A call on several threads costs some 5 us beyond its share of the work: they pack, wait and meet. The
// gradients of a layer's input, weight and bias, say, need nothing of each other, and two calls side by side
// on a thread each have none of that; but one of them ends last. No bit changes: a kernel's result does not
// depend on its threads.
#include <algorithm>
#include <numeric>

#include "core/cost.h"
#include "core/recording.h"
#include "core/threads.h"

namespace ts {

namespace {

constexpr int kMostSteps = 16;   // of a batch
constexpr double kLeast = 20e3;  // ns: two products of this make a batch
constexpr double kMost = 2e6;    // a step that lasts longer keeps all threads busy, and Ctrl-C waits for it
constexpr double kFlops = 110, kBytes = 12;     // a nanosecond, on one thread
constexpr double kMeeting = 5e3, kStart = 3e3;  // ns: of a call on all threads; of a batch
constexpr double kUneven = 1.15;                // costs are estimates, and whole calls cannot be evened out

// The makespan of the first `count`, the longest first, on so many threads.
double makespan(const std::vector<double>& cost, int count, int threads) {
  std::vector<double> busy(static_cast<std::size_t>(threads));
  for (int i = 0; i < count; ++i)
    *std::min_element(busy.begin(), busy.end()) += cost[static_cast<std::size_t>(i)];
  return *std::max_element(busy.begin(), busy.end());
}

double on_all_threads(double cost, int threads) { return std::min(cost, cost / threads + kMeeting); }

// How many of the steps should go together.
int choose(const Batch& batch, int threads) {
  const int count = static_cast<int>(batch.order.size());
  const int large = static_cast<int>(
      std::count_if(batch.cost.begin(), batch.cost.end(), [](double c) { return c >= kLeast; }));
  const auto alone = [&](int first) {
    return std::accumulate(batch.cost.begin() + first, batch.cost.end(), 0.0,
                           [&](double sum, double c) { return sum + on_all_threads(c, threads); });
  };
  int best = 0;
  double least = alone(0);
  for (const int together : {count, large / threads * threads}) {
    if (together < 2) continue;
    const double time = kUneven * makespan(batch.cost, together, threads) + kStart + alone(together);
    if (time < least) least = time, best = together;
  }
  return best;
}

}  // namespace

// They share no memory that one of them writes.
bool Recording::independent(const Step& a, const Step& b) const {
  for (int i = a.first; i < a.first + a.count; ++i)
    for (int j = b.first; j < b.first + b.count; ++j) {
      const Use &x = operands_[static_cast<std::size_t>(i)], &y = operands_[static_cast<std::size_t>(j)];
      if (x.slot >= 0 && x.slot == y.slot && (x.written || y.written)) return false;
    }
  return true;
}

// The longest runs of steps that share no memory that one of them writes.
void Recording::find_batches() {
  const auto flops = [&](const Step& step) {
    return flops_of(step.kernel, views_.data() + step.first, attributes_.data() + step.attributes) / kFlops;
  };
  // What moves bytes gains nothing: the threads share the memory.
  const auto large = [&](int s) { return flops(steps_[static_cast<std::size_t>(s)]) >= kLeast; };
  const auto cost = [&](const Step& step) {
    double bytes = 0;
    for (int k = step.first; k < step.first + step.count; ++k)
      if (operands_[static_cast<std::size_t>(k)].slot >= 0)
        bytes += bytes_of(views_[static_cast<std::size_t>(k)]);
    return std::max(flops(step), bytes / kBytes);
  };
  const auto barrier_before = [&](int s) {
    return std::any_of(barriers_.begin(), barriers_.end(), [&](int call) { return position(call) == s; });
  };
  // Functions of the host may throw, and of two that do the first must be heard.
  const auto fits = [&](const Step& step) {
    return (step.kernel != Kernel::count || step.thunk == &run_group) && cost(step) <= kMost;
  };
  const int count = static_cast<int>(steps_.size());
  for (int begin = 0; begin < count;) {
    if (!large(begin)) {
      ++begin;
      continue;
    }
    Batch batch{begin, begin, {}, {}};
    for (int s = begin; s < count && s - begin < kMostSteps; ++s) {
      const Step& step = steps_[static_cast<std::size_t>(s)];
      bool joins = fits(step) && (s == begin || !barrier_before(s));
      for (int k = begin; joins && k < s; ++k) joins = independent(steps_[static_cast<std::size_t>(k)], step);
      if (!joins) break;
      batch.end = s + 1;
      batch.order.push_back(s);
    }
    std::stable_sort(batch.order.begin(), batch.order.end(), [&](int a, int b) {
      return cost(steps_[static_cast<std::size_t>(a)]) > cost(steps_[static_cast<std::size_t>(b)]);
    });
    for (const int s : batch.order) batch.cost.push_back(cost(steps_[static_cast<std::size_t>(s)]));
    if (std::count_if(batch.order.begin(), batch.order.end(), large) < 2) {
      ++begin;
      continue;
    }
    begin = batch.end;
    batches_.push_back(std::move(batch));
    steps_[static_cast<std::size_t>(batches_.back().begin)].batch = static_cast<int>(batches_.size());
  }
}

void Recording::drop_batches() {
  batches_.clear();
  for (Step& step : steps_) step.batch = 0;
}

std::vector<int> Recording::together() const {
  std::vector<int> numbers(steps_.size());
  for (std::size_t b = 0; b < batches_.size(); ++b)
    for (const int s : batches_[b].order) numbers[static_cast<std::size_t>(s)] = static_cast<int>(b) + 1;
  return numbers;
}

void Recording::run_batch(Batch& batch) {
  const int threads = num_threads();
  if (batch.threads != threads) {
    batch.threads = threads;
    batch.together = threads > 1 ? choose(batch, threads) : 0;
  }
  struct Work {
    const Recording& r;
    const Batch& batch;
    void step(std::int64_t number) const {
      const Step& s = r.steps_[static_cast<std::size_t>(batch.order[static_cast<std::size_t>(number)])];
      s.thunk(s.function, r.views_.data() + s.first, r.attributes_.data() + s.attributes);
    }
  } work{*this, batch};
  parallel_for(
      batch.together, [](void* w, std::int64_t number) { static_cast<Work*>(w)->step(number); }, &work);
  for (std::size_t i = static_cast<std::size_t>(batch.together); i < batch.order.size(); ++i)
    work.step(static_cast<std::int64_t>(i));
}

}  // namespace ts
