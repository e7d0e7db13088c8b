"""The PyTorch side of benchmarks/peers.py: one step, and the forms that people use."""

import copy
import functools
import importlib
import importlib.metadata
import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jvp
from torch.nn import functional as F

from benchmarks.torch_steps import LEARNING_RATE, Steps

FORMS = {  # name in tables -> method of `Peer`, and the package that it needs
    "ERM": ("erm", "torch"),
    "TorchOpt, MetaSGD": ("torchopt", "torchopt"),
    "higher": ("higher", "higher"),
    "torch.func, grad of grad": ("meta", "torch"),
    "the authors' construction": ("construction", "torch"),
    "forward mode by hand": ("forward_mode", "torch"),
}


class Peer(Steps):
    """The steps from given weights and batches; all forms compute the same.

    Gradients are asked for with respect to the weighting net alone where an interface
    lets one choose, which saves the ones of the classifier that nobody needs.
    """

    def __init__(self, name: str, problem: dict[str, Any], *, channels_last: bool):
        """Takes over a `problem`, as `peers_jax.Side.make` returns it."""
        given = problem["batch"]["image"]
        super().__init__(
            name,
            batch_size=len(given),
            dtype=str(given.dtype),
            device="cpu",
            channels_last=channels_last,
        )
        layout = torch.channels_last if channels_last else torch.contiguous_format
        for net in (self.net, self.gate):
            net.to(getattr(torch, str(given.dtype)))
        self.batch, self.meta_batch = (
            (
                torch.tensor(batch["image"]).contiguous(memory_format=layout),
                torch.tensor(batch["label"], dtype=torch.int64),
                torch.tensor(batch["family"], dtype=torch.int64)[:, None],
            )
            for batch in (problem["batch"], problem["meta_batch"])
        )
        self._given = problem["params"], problem["theta"]
        self._learned = (
            _parameters(self.net, self.batch[0]),
            list(self.theta.values()),
        )
        self._copy = copy.deepcopy(self.net)
        self._virtual_tx = torch.optim.SGD(self.params.values(), LEARNING_RATE)
        self._meta_sgd = None
        self.reset()

    def reset(self) -> None:
        """Back to the given weights, and to optimizers that have seen nothing."""
        for learned, given in zip(self._learned, self._given, strict=True):
            for p, value in zip(learned, given, strict=True):
                if p.shape != value.shape:
                    raise ValueError(f"{value.shape} is given for {tuple(p.shape)}")
                p.data.copy_(torch.tensor(value))
        self.tx.state.clear()
        self.meta_tx.state.clear()

    def learned(self) -> dict[str, list[np.ndarray]]:
        """Parameters, those of the weighting net, and Adam's mean of its gradients."""
        params, theta = self._learned
        means = [self.meta_tx.state[p].get("exp_avg") for p in theta]
        return {
            "params": [p.detach().numpy() for p in params],
            "theta": [p.detach().numpy() for p in theta],
            "gradient": [m.numpy() for m in means if m is not None],
        }

    def torchopt(self) -> None:
        """TorchOpt's differentiable optimizer steps within the module."""
        torchopt = importlib.import_module("torchopt")
        if self._meta_sgd is None:
            self._meta_sgd = torchopt.MetaSGD(self.net, lr=LEARNING_RATE)
        before = torchopt.extract_state_dict(self.net, by="reference")
        self._meta_sgd.step(self._weighted_loss_of(self.net))
        gradient = self._theta_gradient(self._meta_loss(self.net))
        torchopt.recover_state_dict(self.net, before)
        self._real_step(gradient)

    def higher(self) -> None:
        """A functional copy of the module and of its optimizer, for one step."""
        higher = importlib.import_module("higher")
        with higher.innerloop_ctx(self.net, self._virtual_tx) as (ahead, virtual_tx):
            virtual_tx.step(self._weighted_loss_of(ahead))
            gradient = self._theta_gradient(self._meta_loss(ahead))
        self._real_step(gradient)

    def construction(self) -> None:
        """As the authors build it: a second net, loaded with the weights of the first.

        Its step stays in the graph, and a second backward pass goes through all of it.
        Theirs builds the second net anew in each step and evaluates the weighting net
        sample by sample; neither is needed.
        """
        self._copy.load_state_dict(self.net.state_dict())
        params = dict(self._copy.named_parameters())
        gradient = torch.autograd.grad(
            self._weighted_loss_of(self._copy), params.values(), create_graph=True
        )
        gradient = _named(params, gradient)
        ahead = {k: p - LEARNING_RATE * gradient[k] for k, p in params.items()}
        self._meta_loss(lambda x: functional_call(self._copy, ahead, (x,))).backward()
        self._copy.zero_grad()
        self._real_step([p.grad for p in self.theta.values()])

    def forward_mode(self) -> None:
        """No second backward pass: the slopes of all losses in one direction instead.

        With g the gradient of the meta loss at the virtual step, the loss of sample i
        changes by d_i along g, and the meta gradient is that of -lr/n sum_i v_i d_i.
        Virtual and real step share one forward pass.
        """
        losses = self._losses_of(self.net)
        weights = self._weights(self.theta, losses)
        params = {k: p.detach() for k, p in self.params.items()}
        virtual = self._params_gradient(losses, weights, retain_graph=True)
        virtual = _named(params, virtual)
        ahead = {
            k: (p - LEARNING_RATE * virtual[k]).requires_grad_()
            for k, p in params.items()
        }
        meta_loss = self._losses(ahead, self.meta_batch).mean()
        slopes = torch.autograd.grad(meta_loss, list(ahead.values()))
        _, along = jvp(
            lambda params: self._losses(params, self.batch),
            (params,),
            (_named(ahead, slopes),),
        )
        gradient = self._theta_gradient(-LEARNING_RATE * (weights * along).mean())
        self._update(self.meta_tx, self.theta, _named(self.theta, gradient))
        real = self._params_gradient(losses, self._weights(self.theta, losses))
        self._update(self.tx, self.params, _named(self.params, real))

    def _losses_of(self, net):
        return F.cross_entropy(net(self.batch[0]), self.batch[1], reduction="none")

    def _weighted_loss_of(self, net):
        losses = self._losses_of(net)
        return (self._weights(self.theta, losses) * losses).mean()

    def _meta_loss(self, net):
        return F.cross_entropy(net(self.meta_batch[0]), self.meta_batch[1])

    def _theta_gradient(self, loss):
        return torch.autograd.grad(loss, list(self.theta.values()))

    def _params_gradient(self, losses, weights, **options):
        loss = (weights.detach() * losses).mean()
        return torch.autograd.grad(loss, list(self.params.values()), **options)

    def _real_step(self, gradient):
        """Trains the weighting net, and the classifier by it, from a new forward."""
        self._update(self.meta_tx, self.theta, _named(self.theta, gradient))
        losses = self._losses_of(self.net)
        real = self._params_gradient(losses, self._weights(self.theta, losses))
        self._update(self.tx, self.params, _named(self.params, real))


class Side:
    """What a worker of benchmarks/peers.py does with PyTorch."""

    def versions(self) -> dict[str, Any]:
        """Packages, and PyTorch's threads."""
        packages = {package for _, package in FORMS.values()} - _unusable().keys()
        versions = {p: importlib.metadata.version(p) for p in sorted(packages)}
        return versions | {"torch_threads": torch.get_num_threads()}

    def left_out(self) -> dict[str, str]:
        """Forms whose package cannot be used, and why."""
        unusable = _unusable()
        return {f: unusable[p] for f, (_, p) in FORMS.items() if p in unusable}

    def make(self, name: str, problem: dict[str, Any]) -> list[str]:
        """Prepares the steps of a net in two layouts; returns the forms there are."""
        layouts = {"channels first": False, "channels last": True}
        if name == "mlp":
            del layouts["channels last"]
        self._peers = {
            layout: Peer(name, problem, channels_last=last)
            for layout, last in layouts.items()
        }
        self._layout = dict.fromkeys(FORMS, "channels first")
        return [form for form in FORMS if form not in self.left_out()]

    def calibrate(self, form: str) -> dict[str, Any]:
        """Takes the faster layout; returns it and the seconds of one step."""
        tried = []
        for layout in self._peers:
            self._layout[form] = layout
            self.seconds(form, 1)  # warms up
            tried.append((self.seconds(form, 1), layout))
        seconds, self._layout[form] = min(tried)
        return {"seconds": seconds, "layout": self._layout[form]}

    def seconds(self, form: str, steps: int) -> float:
        """Of a step, from the given weights on; of several, one more goes before."""
        peer = self._peers[self._layout[form]]
        step = getattr(peer, FORMS[form][0])
        peer.reset()
        if steps > 1:
            step()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps

    def after(self, form: str) -> dict[str, list[np.ndarray]]:
        """What one step from the given weights has learned, in `channels first`."""
        peer = self._peers["channels first"]
        peer.reset()
        getattr(peer, FORMS[form][0])()
        return peer.learned()


@functools.cache
def _unusable() -> dict[str, str]:
    """Packages that are missing or break under this PyTorch -> the reason."""
    reasons = {}
    for _, package in FORMS.values():
        try:
            importlib.import_module(package)
        except Exception as error:
            reasons[package] = f"{type(error).__name__}: {error}"
    return reasons


def _named(params, gradient):
    return dict(zip(params, gradient, strict=True))


def _parameters(net: nn.Module, images: torch.Tensor) -> list[nn.Parameter]:
    """In the order in which layers are called, a kernel before its bias."""
    found = []

    def note(layer, *_):
        found.extend(p for p in (layer.weight, layer.bias) if p is not None)

    layers = [m for m in net.modules() if getattr(m, "weight", None) is not None]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        net(images[:2])
    for hook in hooks:
        hook.remove()
    return found
