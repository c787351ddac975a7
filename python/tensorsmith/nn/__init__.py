"""Layers, losses and initialisation under PyTorch's names: a layer file needs its imports changed and
its weights load.
"""

from tensorsmith.nn import functional, init, utils
from tensorsmith.nn.activation import (
    ELU,
    GELU,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from tensorsmith.nn.attention import MultiheadAttention
from tensorsmith.nn.container import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from tensorsmith.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from tensorsmith.nn.dropout import Dropout
from tensorsmith.nn.flatten import Flatten, Unflatten
from tensorsmith.nn.linear import Identity, Linear
from tensorsmith.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from tensorsmith.nn.module import Module
from tensorsmith.nn.norm import BatchNorm1d, BatchNorm2d, LayerNorm
from tensorsmith.nn.parameter import Parameter
from tensorsmith.nn.pool import AvgPool2d, MaxPool2d
from tensorsmith.nn.rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tensorsmith.nn.sparse import Embedding
from tensorsmith.nn.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "RNNCell",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "Unflatten",
    "functional",
    "init",
    "utils",
]
