"""The steps of benchmarks/gpu_steps.py in PyTorch, on the same card.

    python benchmarks/torch_steps.py --jsonl=steps.jsonl --seconds=60 --dtype=bfloat16

Ordinary training by autograd, and the exact meta step as torch.func writes it, a
gradient through a gradient; channels last, parameters in float32. Running statistics
are left out, in PyTorch's favour, and its count of FLOPs is a twelfth higher, for it
takes padding for work. Needs PyTorch alone.
"""

from functools import partial

import torch
from torch.func import functional_call, grad
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rows import Rows, command_line, cost, seconds_per_call
from benchmarks.torch_nets import (
    NUM_CLASSES,
    NUM_FAMILIES,
    build,
    build_gate,
    image_shape,
)

LEARNING_RATE = 0.1


class Steps:
    """Both steps on random images; they change parameters in place."""

    def __init__(self, name, *, batch_size, dtype, device, channels_last=True):
        torch.manual_seed(0)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net = build(name).to(device, memory_format=layout)
        self.params = dict(self.net.named_parameters())
        self.gate = build_gate().to(device)
        self.theta = dict(self.gate.named_parameters())
        self.tx = torch.optim.SGD(
            self.params.values(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4
        )
        self.meta_tx = torch.optim.Adam(self.theta.values(), 1e-3)

        def batch():
            images = torch.randn(batch_size, *image_shape(name), device=device)
            images = images.to(getattr(torch, dtype), memory_format=layout)
            label = torch.randint(NUM_CLASSES, (batch_size,), device=device)
            family = torch.randint(NUM_FAMILIES, (batch_size, 1), device=device)
            return images, label, family

        self.batch, self.meta_batch = batch(), batch()

    def erm(self):
        """One step of ordinary training."""
        images, label, _ = self.batch
        self.tx.zero_grad()
        F.cross_entropy(self.net(images), label).backward()
        self.tx.step()

    def meta(self):
        """One exact meta step: virtual step, gradient of the weights, real step."""
        params = {k: p.detach() for k, p in self.params.items()}
        theta = {k: p.detach() for k, p in self.theta.items()}

        def lookahead_loss(theta):
            gradient = grad(self._weighted_loss)(params, theta)
            ahead = {k: p - LEARNING_RATE * gradient[k] for k, p in params.items()}
            return self._losses(ahead, self.meta_batch).mean()

        self._update(self.meta_tx, self.theta, grad(lookahead_loss)(theta))
        theta = {k: p.detach() for k, p in self.theta.items()}
        self._update(self.tx, self.params, grad(self._weighted_loss)(params, theta))

    def _losses(self, params, batch):
        logits = functional_call(self.net, params, (batch[0],))
        return F.cross_entropy(logits, batch[1], reduction="none")

    def _weights(self, theta, losses):
        every = functional_call(self.gate, theta, (losses.detach()[:, None],))
        return torch.sigmoid(every.gather(1, self.batch[2]))[:, 0]

    def _weighted_loss(self, params, theta):
        losses = self._losses(params, self.batch)
        return (self._weights(theta, losses) * losses).mean()

    def _update(self, tx, params, gradient):
        for name, p in params.items():
            p.grad = gradient[name]
        tx.step()
        tx.zero_grad()


def measure(step, at_least, *, batch_size, dtype, device):
    """A row of one kind of step."""
    on_card = device == "cuda"
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    if on_card:
        torch.cuda.reset_peak_memory_stats()

    def call(repeats):
        for _ in range(repeats):
            step()
        if on_card:
            torch.cuda.synchronize()

    row = cost(
        seconds_per_call(call, at_least),
        batch_size=batch_size,
        flops=counter.get_total_flops(),
        device=torch.cuda.get_device_name() if on_card else device,
        dtype=dtype,
    )
    if on_card:
        row["memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return row


def main() -> None:
    """Parses the command line; measures and writes row after row."""
    parser = command_line(__doc__, seconds=60)
    parser.add_argument("--compile", action="store_true", help="also by torch.compile")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    sizes = {"batch_size": args.batch_size, "dtype": args.dtype}
    rows = Rows(
        args.jsonl,
        args.seconds,
        **sizes,
        framework=f"torch {torch.__version__}",
        device=torch.cuda.get_device_name() if device == "cuda" else device,
    )
    for name in args.models.split(","):
        steps = Steps(name, **sizes, device=device)
        variants = {"ERM": steps.erm, "meta_step, equal meta batch": steps.meta}
        if args.compile:
            variants["ERM, torch.compile"] = torch.compile(steps.erm)
        for variant, step in variants.items():
            row = partial(measure, step, args.at_least, **sizes, device=device)
            rows.add(row, net=name, variant=variant)


if __name__ == "__main__":
    main()
