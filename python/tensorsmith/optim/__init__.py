"""Optimizers and learning-rate schedules under PyTorch's names;
each step is one fused kernel call a group (LBFGS, Adafactor and Muon: operations on whole arrays).
"""

from tensorsmith.optim import lr_scheduler, swa_utils
from tensorsmith.optim.adadelta import Adadelta
from tensorsmith.optim.adafactor import Adafactor
from tensorsmith.optim.adagrad import Adagrad
from tensorsmith.optim.adam import Adam, AdamW
from tensorsmith.optim.adamax import Adamax
from tensorsmith.optim.asgd import ASGD
from tensorsmith.optim.lamb import LAMB
from tensorsmith.optim.lbfgs import LBFGS
from tensorsmith.optim.lion import Lion
from tensorsmith.optim.muon import Muon
from tensorsmith.optim.nadam import NAdam
from tensorsmith.optim.optimizer import Optimizer
from tensorsmith.optim.radam import RAdam
from tensorsmith.optim.rmsprop import RMSprop
from tensorsmith.optim.rprop import Rprop
from tensorsmith.optim.sgd import SGD
from tensorsmith.optim.sparse_adam import SparseAdam

__all__ = [
    "ASGD",
    "LAMB",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
    "swa_utils",
]
