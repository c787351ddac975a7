// Indexing by arrays of integers, and the positions of true.
//
// Every index is checked before anything is read or written. Only the functions with NumPy's names
// (take, take_along_axis) count negative indices from the end; in the others they are errors.
#pragma once

#include <optional>
#include <string>

#include "ops/operand.h"

namespace ts::ops {

// x[..., indices, ...] along `axis`, any shape of indices; None: of the flattened x.
Array take(const Array& x, const Array& indices, std::optional<std::int64_t> axis);
// dy summed into zeros of `shape` at the indices: the gradient of take with respect to x.
Array take_backward(const Array& dy, const Array& indices, const Shape& shape,
                    std::optional<std::int64_t> axis);
Array take_along_axis(const Array& x, const Array& indices, std::int64_t axis);
Array index_select(const Array& x, std::int64_t dim, const Array& index);
// Rows of weight (V, D) at the integers x (*): (*, D). Row padding_idx gets no gradient.
Array embedding(const Array& x, const Array& weight, std::optional<std::int64_t> padding_idx);
Array embedding_backward(const Array& dy, const Array& x, std::int64_t rows,
                         std::optional<std::int64_t> padding_idx);

// y[i][j][k] = x[index[i][j][k]][j][k] for dim 0, and so on; index may be shorter than x off `dim`.
Array gather(const Array& x, std::int64_t dim, const Array& index);
Array gather_backward(const Array& dy, std::int64_t dim, const Array& index, const Shape& shape);
// x[index[i][j][k]][j][k] = src[i][j][k] for dim 0, and so on; of equal destinations the last wins. src may
// be larger than index, or a number.
void scatter_(Array& x, std::int64_t dim, const Array& index, const Operand& src);
Array scatter(const Array& x, std::int64_t dim, const Array& index, const Operand& src);
void scatter_add_(Array& x, std::int64_t dim, const Array& index, const Operand& src);
Array scatter_add(const Array& x, std::int64_t dim, const Array& index, const Operand& src);

// The product ("prod"), maximum ("amax") or minimum ("amin") of x and all src that meet in a place.
Array scatter_reduce(const Array& x, std::int64_t dim, const Array& index, const Operand& src,
                     const std::string& reduce);

// x[:, index[m]] += source[:, m], or = source[:, m], with `dim` in the middle.
void index_add_(Array& x, std::int64_t dim, const Array& index, const Array& source);
Array index_add(const Array& x, std::int64_t dim, const Array& index, const Array& source);
void index_set_(Array& x, std::int64_t dim, const Array& index, const Array& source);
Array index_set(const Array& x, std::int64_t dim, const Array& index, const Array& source);

// x[index] for a vector and many indices, each block of them checked just before it is taken, so that one
// thread reads them from memory once. Empty where that is no gain or an index is negative or out of range:
// the caller then goes its own way.
Array take_elements(const char* op, const Array& x, const Array& index);
// x as int64, counted from the start of an axis of `extent` elements; IndexError where one is not in
// [-extent, extent).
Array checked_positions(const char* operation, const Array& x, std::int64_t axis, std::int64_t extent);
// Positions, in the flattened x, of what is not zero.
Array nonzero_flat(const Array& x);
Array count_nonzero_flat(const Array& x);  // how many there are, 0-d
// int64 (*, num_classes): 1 at each integer's place.
Array one_hot(const Array& x, std::int64_t num_classes);

}  // namespace ts::ops
