"""A student that is to say what its teacher says: DINO, iBOT, KoLeo (DINOv2, PosField).

Both answer by a distribution over prototypes. The teacher's is sharpened and kept from
falling for one prototype, by centering or by Sinkhorn-Knopp.

Every function here sees the global batch: two processes with half the images each say
what one with all of them says.

Letters: B images, S views that the student sees, T that the teacher sees, n tokens,
K prototypes, P their width, D embedding width.
"""

from typing import NamedTuple

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from mmpospretrain.checks import check_choice, check_ratio

TINY = 1e-8  # of distances, whose logarithm is taken
LEAST = 1e-30  # of the largest mass of a prototype; below, no mass is spread
COLDEST = 0.02  # of temperatures: e to the 1 / .02 can still be summed in float32
# Bytes of logits at once, of a loss: each chunk reads all prototypes.
CHUNK = {'cpu': 2**28}
LARGE_CHUNK = 2**30
# Numbers between the rows of logits. On a CPU, rows that are a power of two apart fall
# into few lines of its cache, and products with them take a fifth longer.
PADDING = {'cpu': 272}


def global_sum(values: Tensor) -> Tensor:
    """Sum over the processes; without gradient."""
    values = values.clone()
    all_reduce(values, op='sum')
    return values


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


def sinkhorn(shares: Tensor, iterations: int = 3) -> Targets:
    """Targets that use all prototypes alike (Caron et al., SwAV, Sec. 3.1).

    Rows and columns are normed in turn, so that all n tokens of all processes together
    spread evenly over the prototypes. Only their factors change; a product with the
    matrix reads it once, and nothing of its size is made.

    Args:
        shares: (n, K) above 0; processes may have different n.
        iterations: Of one norming of columns, and one of rows.

    Returns:
        (n, K): rows sum to 1, columns nearly to n / K over all processes.
    """
    wide = torch.promote_types(shares.dtype, torch.float32)
    columns = shares.new_ones(shares.shape[1], dtype=wide)
    with torch.autocast(shares.device.type, enabled=False):  # factors are of any size
        for iteration in range(iterations):
            if iteration == 0:
                mass = shares.sum(dim=0, dtype=wide)
            else:
                rows = 1 / (shares @ columns.to(shares))
                mass = (rows @ shares).to(wide)
            mass = global_sum(mass)
            # At least LEAST, for without any token there is no mass.
            mass = mass.clamp(min=(LEAST * mass.max()).clamp(min=LEAST))
            # A common factor is of no matter: as far above 1 as below.
            columns = mass.min().sqrt() * mass.max().sqrt() / mass
    return Targets(shares, columns)


class Center(nn.Module):
    """Mean of the teacher's cosines, followed slowly, and taken away from them (DINO).

    What it sees waits until :meth:`follow` is called, after the optimizer step: so a
    batch in several parts counts as one.

    Args:
        num_prototypes: K.
        momentum: What the center keeps of itself.
    """

    def __init__(self, num_prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        check_ratio('momentum', momentum, closed=True)
        self.momentum = momentum
        self.register_buffer('center', torch.zeros(num_prototypes))
        self.register_buffer('total', torch.zeros(num_prototypes), persistent=False)
        self.register_buffer('count', torch.zeros(()), persistent=False)

    @torch.no_grad()
    def see(self, answers: Tensor, prototypes: Tensor) -> None:
        """Remember the cosines of answers (n, P) to prototypes (K, P)."""
        with torch.autocast(answers.device.type, enabled=False):
            self.total += prototypes @ answers.sum(dim=0)
        self.count += len(answers)

    def follow(self) -> None:
        """Move towards the mean of what was seen since the last time, if anything."""
        total, count = global_sum(self.total), global_sum(self.count)
        mean = total / count.clamp(min=1)
        weight = (1 - self.momentum) * (count > 0)
        self.center.lerp_(mean, weight)
        self.total.zero_()
        self.count.zero_()


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


def dino_loss(
    answers: Tensor, prototypes: Tensor, targets: Tensor, temperature: float = 0.1
) -> Tensor:
    """A student's view says what the teacher says of the others (DINO, Eq. 3).

    Args:
        answers: (S, B, P) of the student; its first T views are those of the teacher.
        prototypes: (K, P) of the student.
        targets: (T, B, K) of the teacher, each summing to 1.
        temperature: Of the student.

    Returns:
        Scalar: the mean over images and pairs of views.

    Raises:
        ValueError: If there is no pair of different views.
    """
    seen, known = len(answers), len(targets)
    pairs = (seen - 1) * known
    if not pairs:
        raise ValueError('the student sees nothing but the only view of the teacher')
    together = targets.sum(dim=0)  # the loss is linear in the targets
    wanted = together.expand(seen, -1, -1).clone()
    wanted[:known] -= targets
    count = wanted.new_full((seen, 1), known)
    count[:known] -= 1
    weight = (count / (pairs * len(together))).expand(-1, len(together))
    # The only view that a teacher sees is told nothing.
    told = slice(int(known == 1), None)
    answers, wanted, weight = (x[told].flatten(0, 1) for x in (answers, wanted, weight))
    targets = Targets(wanted, wanted.new_ones(wanted.shape[1]))
    return cross_entropy(answers, prototypes, targets, weight, temperature)


def ibot_loss(
    answers: Tensor,
    prototypes: Tensor,
    targets: Targets,
    weight: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    """Masked patches say what the teacher says of them unmasked (iBOT, Eq. 2).

    Args:
        answers: (n, P) of the masked patches of all images.
        prototypes: (K, P) of the student.
        targets: Of the same n patches.
        weight: (n,), one over the masked patches of the image and the number of images.
        temperature: Of the student.

    Returns:
        Scalar: the weighted sum; 0 if nothing is masked.
    """
    return cross_entropy(answers, prototypes, targets, weight, temperature)


def koleo_loss(features: Tensor) -> Tensor:
    """Spreads images apart: minus the log of the distance to the nearest (KoLeo).

    Sablayrolles et al., Spreading vectors for similarity search, Eq. 3.

    Args:
        features: (B, D), normed here.

    Returns:
        Scalar: the mean over the images, with neighbours among those of all processes.

    Raises:
        ValueError: If there is but one image.
    """
    features = F.normalize(features.float(), dim=-1)
    everyone = features
    if get_world_size() > 1:
        everyone = torch.cat(all_gather(features.contiguous()))
    if len(everyone) < 2:
        raise ValueError('KoLeo needs 2 images or more: one has no neighbour')
    # In half precision, those that are nearly the same would all be nearest.
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        similarity = features @ everyone.T  # (B, all)
        own = torch.arange(len(features), device=features.device)
        if get_world_size() > 1:
            own = own + len(features) * torch.distributed.get_rank()
        similarity.scatter_(1, own[:, None], -torch.inf)
        nearest = similarity.argmax(dim=1)
    distance = (features - everyone[nearest]).norm(dim=-1)
    return -(distance + TINY).log().mean()


class TeacherTargets(nn.Module):
    """Targets from the answers of a teacher.

    Args:
        num_prototypes: K.
        method: ``'sinkhorn'`` (DINOv2) or ``'centering'`` (DINO, iBOT).
        temperature: Of the teacher.
        momentum: What the center keeps of itself; only of ``'centering'``.
        iterations: Of ``'sinkhorn'``.

    Raises:
        ValueError: If the method is unknown or the temperature too low.
    """

    def __init__(
        self,
        num_prototypes: int,
        method: str = 'sinkhorn',
        temperature: float = 0.04,
        momentum: float = 0.9,
        iterations: int = 3,
    ) -> None:
        super().__init__()
        check_choice('method', method, ('sinkhorn', 'centering'))
        check_temperature('temperature', temperature)
        self.temperature = temperature
        self.iterations = iterations
        centering = method == 'centering'
        self.center = Center(num_prototypes, momentum) if centering else None

    @torch.no_grad()
    def forward(self, answers: Tensor, prototypes: Tensor) -> Targets:
        """Targets, without gradient, of a teacher's answers.

        Args:
            answers: (n, P), rows of norm 1, float32.
            prototypes: (K, P), likewise.
        """
        shares = similarities(answers, prototypes, self.temperature).exp_()
        if self.center is None:
            return sinkhorn(shares, self.iterations)
        if self.training:
            self.center.see(answers, prototypes)
        center = self.center.center
        return Targets(shares, ((center.mean() - center) / self.temperature).exp())

    def follow(self) -> None:
        """To be called after every optimizer step: moves the center, if any."""
        if self.center is not None:
            self.center.follow()
