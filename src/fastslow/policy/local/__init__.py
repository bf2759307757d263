"""The policy on this machine: a transformers model on one CPU, CUDA or MPS device."""

from fastslow.policy.local.backend import LocalBackend, choose_device
from fastslow.policy.local.sampler import LocalSampler

__all__ = ["LocalBackend", "LocalSampler", "choose_device"]
