"""Optimizers and learning-rate schedules under PyTorch's names;
each step is one fused kernel call a group.
"""

from tensorsmith.optim import lr_scheduler
from tensorsmith.optim.adadelta import Adadelta
from tensorsmith.optim.adagrad import Adagrad
from tensorsmith.optim.adam import Adam, AdamW
from tensorsmith.optim.lion import Lion
from tensorsmith.optim.optimizer import Optimizer
from tensorsmith.optim.rmsprop import RMSprop
from tensorsmith.optim.sgd import SGD

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Lion", "Optimizer", "RMSprop", "lr_scheduler"]
