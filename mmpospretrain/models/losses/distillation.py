"""A student that is to say what its teacher says: DINO, iBOT, KoLeo (DINOv2, PosField).

Both answer by a distribution over prototypes. The teacher's is sharpened and kept from
falling for one prototype, by centering or by Sinkhorn-Knopp.

Every function here sees the global batch: two processes with half the images each say
what one with all of them says.

Letters: B images, S views that the student sees, T that the teacher sees, n tokens,
K prototypes, P their width, D embedding width.
"""

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from mmpospretrain.checks import check_at_least, check_choice, check_ratio
from mmpospretrain.registry import MODELS

from .prototype_cross_entropy import (
    Targets,
    check_temperature,
    cross_entropy,
    similarities,
)

TINY = 1e-8  # of distances, whose logarithm is taken
LEAST = 1e-30  # of the largest mass of a prototype; below, no mass is spread


def global_sum(values: Tensor) -> Tensor:
    """Sum over the processes; without gradient."""
    values = values.clone()
    all_reduce(values, op='sum')
    return values


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


def centering(shares: Tensor, center: Tensor, temperature: float) -> Targets:
    """Targets less what prototypes get on average (Caron et al., DINO, Sec. 3.1).

    Args:
        shares: (n, K), powers of e of the teacher's cosines over its temperature.
        center: (K,), their mean cosines; see :class:`Center`.
        temperature: Of the teacher.

    Returns:
        (n, K): the softmax of cosines less their mean, over the temperature.
    """
    # Its mean keeps the exponents small: norming rows takes out a common factor.
    return Targets(shares, ((center.mean() - center) / temperature).exp())


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


class StudentLoss(nn.Module):
    """Base of the losses that have the student's temperature.

    Args:
        student_temperature: Below 1 sharpens.

    Raises:
        ValueError: If it is too low.
    """

    def __init__(self, student_temperature: float = 0.1) -> None:
        super().__init__()
        check_temperature('student_temperature', student_temperature)
        self.temperature = student_temperature


@MODELS.register_module()
class DINOLoss(StudentLoss):
    """:func:`dino_loss` as a module."""

    def forward(self, answers: Tensor, prototypes: Tensor, targets: Tensor) -> Tensor:
        """See :func:`dino_loss`."""
        return dino_loss(answers, prototypes, targets, self.temperature)


@MODELS.register_module()
class IBOTLoss(StudentLoss):
    """:func:`ibot_loss` as a module."""

    def forward(
        self, answers: Tensor, prototypes: Tensor, targets: Targets, weight: Tensor
    ) -> Tensor:
        """See :func:`ibot_loss`."""
        return ibot_loss(answers, prototypes, targets, weight, self.temperature)


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


@MODELS.register_module()
class KoLeoLoss(nn.Module):
    """:func:`koleo_loss` as a module.

    Args:
        loss_weight: With 0, nobody looks for neighbours: a single image will do.

    Raises:
        ValueError: If it is below 0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_at_least('loss_weight', loss_weight, 0)
        self.loss_weight = loss_weight

    def forward(self, features: Tensor) -> Tensor:
        """See :func:`koleo_loss`."""
        if not self.loss_weight:
            return features.new_zeros((), dtype=torch.float32)
        return self.loss_weight * koleo_loss(features)


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
        self.center = None
        if method == 'centering':
            self.center = Center(num_prototypes, momentum)

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
        return centering(shares, self.center.center, self.temperature)

    def follow(self) -> None:
        """To be called after every optimizer step: moves the center, if any."""
        if self.center is not None:
            self.center.follow()
