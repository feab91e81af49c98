"""Cross-entropy over prototypes, of which there are so many that their logits are not
kept: the largest tensors of DINOv2 and PosField, and how they are kept small.

Letters: n tokens, K prototypes, P their width.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

COLDEST = 0.02  # of temperatures: e to the 1 / .02 can still be summed in float32
# Bytes of logits at once, of a loss: each chunk reads all prototypes.
CHUNK = {'cpu': 2**28}
LARGE_CHUNK = 2**30
# Numbers between the rows of logits. On a CPU, rows that are a power of two apart fall
# into few lines of its cache, and products with them take a fifth longer.
PADDING = {'cpu': 272}


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """Product of each row with that of another matrix: (n, K) and (n, K) to (n,).

    Without a matrix of what is summed, for which a CPU takes longer than for the sum.
    """
    with torch.autocast(a.device.type, enabled=False):  # too many to add in half
        return torch.bmm(a[:, None], b[..., None])[:, 0, 0]


def in_bfloat16(values: Tensor) -> bool:
    """Whether products of such values are taken, and kept, in bfloat16.

    In float16 they are taken, but not kept: it has no numbers as small as shares.
    """
    device = values.device.type
    return (
        torch.is_autocast_enabled(device)
        and torch.get_autocast_dtype(device) == torch.bfloat16
    )


def similarities(
    answers: Tensor, prototypes: Tensor, temperature: float, out: Tensor | None = None
) -> Tensor:
    """Cosines over the temperature, whose powers of e are numbers without any shift.

    Most are about 0, where half precision has its digits: to take the largest from all
    would cost the others what tells them apart.

    Args:
        answers: (n, P), rows of norm 1.
        prototypes: (K, P), likewise.
        temperature: Below 1 sharpens; see :func:`check_temperature`.
        out: Where they shall be, except in bfloat16.

    Returns:
        (n, K), in bfloat16 under its autocast.
    """
    factors = answers / temperature, prototypes.T
    if in_bfloat16(answers):
        return torch.mm(*factors)
    if out is None:
        out = empty_logits(len(answers), prototypes)
    if torch.is_autocast_enabled(answers.device.type):
        return out.copy_(torch.mm(*factors))  # no autocast looks at `out`
    return torch.mm(*factors, out=out)


def check_temperature(name: str, temperature: float) -> None:
    """Raise a ValueError below what cosines may be divided by: the papers have .04."""
    if not temperature >= COLDEST:
        raise ValueError(
            f'{name} must be at least {COLDEST}, below which powers of e overflow; got '
            f'{temperature}'
        )


def empty_logits(count: int, prototypes: Tensor) -> Tensor:
    """Memory for (n, K) logits of n answers; prototypes are (K, P)."""
    width = len(prototypes)
    padded = width + PADDING.get(prototypes.device.type, 0)
    return prototypes.new_empty(count, padded)[:, :width]


class Targets(NamedTuple):
    """What a teacher says of n tokens: rows of ``matrix * columns``, normed to sum 1.

    A product with them is one with the matrix; they are seldom multiplied out.
    """

    matrix: Tensor
    """(n, K), not below 0."""
    columns: Tensor
    """(K,), above 0."""

    def dense(self) -> Tensor:
        """All of them, (n, K), in float32 or better."""
        unnormed = self.matrix * self.columns
        return unnormed / unnormed.sum(dim=1, keepdim=True)


def by_gaps(
    answers: Tensor,
    prototypes: Tensor,
    targets: Targets,
    weight: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy and its gradients, by what is between targets and softmax.

    Three products with the prototypes, and some passes over memory: what is cheap where
    products are dear.

    Args:
        answers: As of :func:`cross_entropy`, and so on.

    Returns:
        The loss, and its gradients by answers (n, P) and by prototypes (K, P).
    """
    loss = weight.new_zeros(())
    grad_answers = torch.zeros_like(answers)
    grad_prototypes = torch.zeros_like(prototypes)
    largest = weight.max() if len(weight) else weight.new_ones(())
    half = torch.is_autocast_enabled(answers.device.type)
    # Of all chunks the same memory: a CPU takes long to get as much.
    rows = chunk_rows(prototypes, matrices=2)
    scratch, wanted = (
        empty_logits(min(rows, len(answers)), prototypes) for _ in range(2)
    )
    chunks = (x.split(rows) for x in (answers, targets.matrix, weight, grad_answers))
    for answer, matrix, share, grad in zip(*chunks, strict=True):
        target = torch.mul(matrix, targets.columns, out=wanted[: len(answer)])
        target.div_(target.sum(dim=1, keepdim=True))
        logits = scratch[: len(answer)]
        logits = similarities(answer, prototypes, temperature, out=logits)
        agreement = row_products(target, logits)
        mass = logits.exp_().sum(dim=1)
        loss += (share * (mass.log() - agreement)).sum()
        # Weights come after products or beside them: float16 has no numbers as small.
        scale = (1 / mass)[:, None]
        gap = torch.addcmul(target, logits, scale, value=-1, out=logits)
        grad.copy_(gap @ prototypes).mul_((share / -temperature)[:, None])
        answer = answer * (share / -largest)[:, None]
        if half:
            grad_prototypes += gap.T @ answer
        else:
            grad_prototypes.addmm_(gap.T, answer)
    return loss, grad_answers, grad_prototypes.mul_(largest / temperature)


def by_products(
    answers: Tensor,
    prototypes: Tensor,
    targets: Targets,
    weight: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`by_gaps`, by the mean prototypes of student and teacher.

    The gradient by an answer is the difference of what student and teacher say on
    average, and so is that by a prototype. Five products, and hardly a pass over
    memory: what is cheap in bfloat16 on a GPU, where a product takes as long as a pass.
    """
    loss = weight.new_zeros(())
    grad_answers = torch.zeros_like(answers)
    pulled, pushed = (torch.zeros_like(prototypes) for _ in range(2))
    # What products take, here and not for each of them; rounded once and for all.
    narrow = torch.bfloat16 if in_bfloat16(answers) else answers.dtype
    matrix, columns = (x.to(narrow) for x in targets)
    rounded = columns.to(prototypes)[:, None]
    scaled = (prototypes * rounded).to(narrow)
    prototypes = prototypes.to(narrow)
    rows = chunk_rows(prototypes)
    chunks = (x.split(rows) for x in (answers, matrix, weight, grad_answers))
    for answer, matrix, share, grad in zip(*chunks, strict=True):
        shares = similarities(answer, prototypes, temperature).exp_()
        mass = shares.sum(dim=1, keepdim=True, dtype=answer.dtype)
        says = shares @ prototypes / mass
        wanted = (matrix @ columns).to(answer)[:, None]
        should_say = matrix @ scaled / wanted
        agreement = (answer * should_say).sum(dim=1) / temperature
        loss += (share * (mass[:, 0].log() - agreement)).sum()
        share = share[:, None] / temperature
        torch.mul(says - should_say, share, out=grad)
        answer = answer * share
        pushed += shares.T @ (answer / mass)
        pulled += matrix.T @ (answer / wanted)
    return loss, grad_answers, pushed.addcmul_(pulled, rounded, value=-1)


def chunk_rows(prototypes: Tensor, matrices: int = 1) -> int:
    """How many answers are compared with all prototypes at once.

    Args:
        prototypes: (K, P), in the type of the logits.
        matrices: How many there are of the size of the logits.
    """
    row = len(prototypes) * prototypes.element_size() * matrices
    return max(1, CHUNK.get(prototypes.device.type, LARGE_CHUNK) // row)


class PrototypeCrossEntropy(torch.autograd.Function):
    """Cross-entropy over prototypes, whose logits are never there all at once.

    They come in chunks, and the gradient is taken of each as it comes: with 65,536
    prototypes, logits would be most of what a step holds, and moving them most of the
    time that a loss takes.
    """

    @staticmethod
    def forward(ctx, answers, prototypes, matrix, columns, weight, temperature):  # noqa: ANN001
        how = by_products if in_bfloat16(answers) else by_gaps
        targets = Targets(matrix, columns)
        loss, *gradients = how(answers, prototypes, targets, weight, temperature)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # noqa: ANN001
        return *(grad * saved for saved in ctx.saved_tensors), None, None, None, None


def cross_entropy(
    answers: Tensor,
    prototypes: Tensor,
    targets: Targets,
    weight: Tensor,
    temperature: float,
) -> Tensor:
    """Weighted sum over tokens; logits are products of answers and prototypes.

    Args:
        answers: (n, P) of the student, rows of norm 1, float32 even in mixed precision.
        prototypes: (K, P) of the student, likewise.
        targets: Of n tokens, without gradient.
        weight: (n,), at least one above 0.
        temperature: Of the student.

    Returns:
        Scalar, in the type of the answers.
    """
    return PrototypeCrossEntropy.apply(
        answers, prototypes, *targets, weight.to(answers), temperature
    )
