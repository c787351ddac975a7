#include "ops/loss.h"

#include "python/bindings.h"

namespace ts::python {

void bind_loss(PyObject* m) {
  add_op(m,
         "cross_entropy(x, target, weight=None, ignore_index=-100, reduction='mean', label_smoothing=0.0)"
         " -> y; lse, total",
         &ops::cross_entropy);
  add_op(m,
         "cross_entropy_wide(x, target, weight=None, ignore_index=-100, reduction='mean', "
         "label_smoothing=0.0) -> y; lse, total",
         &ops::cross_entropy_wide);
  add_op(m,
         "cross_entropy_backward(gradient, x, target, weight=None, lse=None, total=None, ignore_index=-100, "
         "reduction='mean',"
         " label_smoothing=0.0)",
         &ops::cross_entropy_backward);
  add_op(m, "ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0) -> y; alpha",
         &ops::ctc_loss);
  add_op(
      m,
      "ctc_loss_backward(gradient, log_probs, targets, input_lengths, target_lengths, loss, alpha, blank=0)",
      &ops::ctc_loss_backward);
}

}  // namespace ts::python
