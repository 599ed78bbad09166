"""Convolutional nets: described by lists of layers, counted by arithmetic, computed by torch.

Source: Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks".
"""

from striate.models.convnet.cifar import cifar_net as cifar_net
from striate.models.convnet.layers import NetSpec as NetSpec
from striate.models.convnet.named import named_net as named_net
from striate.models.convnet.net import ConvNet as ConvNet
from striate.models.convnet.profiles import PROFILES as PROFILES
from striate.models.convnet.profiles import alexnet as alexnet
from striate.models.convnet.profiles import profile as profile
