// Orders and counts: sort, argsort, topk, searchsorted, bincount, histogram.
#pragma once

#include "ops/check.h"

namespace ts::ops {

// Along one axis; NaN last, whichever the direction.
Array sort(const Array& x, std::int64_t axis, bool descending);
Array argsort(const Array& x, std::int64_t axis, bool descending);  // stable, int64
// The positions of the k largest or smallest along an axis, best first; NaN is above every number.
Array topk_index(const Array& x, std::int64_t k, std::int64_t axis, bool largest);
// (..., K): the elements that a sort along the last axis would put at `places`, (K) int64 ascending; NaN of
// rows with NaN. On the CPU.
Array order_statistics(const Array& x, const Array& places);
// For every x how many of `sorted` are before it: < x, or <= x with `right`. sorted has one dimension, or all
// but the last of x's.
Array searchsorted(const Array& sorted, const Array& x, bool right);
// Which elements of a sorted x (N,) differ from the one before, the first included; `one_nan`: NaNs are
// equal.
Array run_starts(const Array& x, bool one_nan);
// How often each of 0 ... max(x) (at least minlength - 1) occurs in x.
Array bincount(const Array& x, std::int64_t minlength);
// The distinct integers of x (N,) in order, by counting; empty where they lie too far apart for that.
Array distinct_integers(const Array& x);
// Counts between increasing edges (B + 1); `uniform`: they are equally spaced, which is only a hint.
Array histogram_counts(const Array& x, const Array& edges, bool uniform);

}  // namespace ts::ops
