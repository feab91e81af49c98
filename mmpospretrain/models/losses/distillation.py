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
from torch.autograd.function import once_differentiable
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from mmpospretrain.checks import check_choice, check_ratio

TINY = 1e-8  # of distances, whose logarithm is taken
LEAST = 1e-30  # of the largest mass of a prototype; below, no mass is spread
# Logits at once, since each chunk reads all prototypes: 128 MB on a CPU, else 1 GB.
CHUNK = {'cpu': 2**25}
LARGE_CHUNK = 2**28
PADDING = 272  # numbers between rows of logits: see `empty_logits`


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


def empty_logits(count: int, prototypes: Tensor) -> Tensor:
    """Memory for (n, K) logits of n answers; prototypes are (K, P).

    Rows are not K apart: a power of two would put them into few lines of a CPU's cache,
    and take products with them a fifth longer.
    """
    width = len(prototypes)
    return prototypes.new_empty(count, width + PADDING)[:, :width]


def product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Matrix product into memory that is there; in half precision under autocast."""
    if torch.is_autocast_enabled(a.device.type):
        return out.copy_(a @ b)  # no autocast looks at `out`
    return torch.mm(a, b, out=out)


def sinkhorn(
    logits: Tensor, temperature: float, iterations: int = 3, inplace: bool = False
) -> Tensor:
    """Targets that use all prototypes alike (Caron et al., SwAV, Sec. 3.1).

    Rows and columns of ``exp(logits / temperature)`` are normed in turn, so that all n
    tokens of all processes together spread evenly over the prototypes.

    Args:
        logits: (n, K); processes may have different n.
        temperature: Below 1 sharpens.
        iterations: Of one norming of columns, and one of rows.
        inplace: Whether logits of float32 are overwritten: at 65,536 prototypes they
            may be 1 GB, which is then not there twice.

    Returns:
        (n, K) float32, rows sum to 1; columns nearly to n / K over all processes.
    """
    shares = logits.detach().to(torch.float32, copy=not inplace)
    highest = shares.amax(dim=1, keepdim=True).div_(temperature)
    scale = shares.new_full((), 1 / temperature)
    torch.addcmul(-highest, shares, scale, out=shares).exp_()  # one pass, not two
    rows = (highest[:, 0] - global_max(highest)).exp()
    # Only the factors of rows and columns change; a product with the matrix reads it
    # once, and nothing of its size is made.
    with torch.autocast(shares.device.type, enabled=False):  # factors are of any size
        for _ in range(iterations):
            mass = global_sum(rows @ shares)
            mass = mass.clamp(min=LEAST * mass.max())
            columns = mass.min() / mass  # up to 1: a common factor is of no matter
            rows = 1 / (shares @ columns)
    return shares.mul_(rows[:, None]).mul_(columns)


def global_max(values: Tensor) -> Tensor:
    """Largest of all processes, of which some may have no values; without gradient."""
    largest = values.max() if values.numel() else values.new_full((), -torch.inf)
    all_reduce(largest, op='max')
    return largest


class Center(nn.Module):
    """Mean of the teacher's logits, followed slowly, and taken away from them (DINO).

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
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets (n, K) of logits (n, K); in training, the logits are remembered."""
        logits = logits.float()
        if self.training:
            self.total += logits.sum(dim=0)
            self.count += len(logits)
        return ((logits - self.center) / temperature).softmax(dim=-1)

    def follow(self) -> None:
        """Move towards the mean of what was seen since the last time, if anything."""
        total, count = global_sum(self.total), global_sum(self.count)
        mean = total / count.clamp(min=1)
        weight = (1 - self.momentum) * (count > 0)
        self.center.lerp_(mean, weight)
        self.total.zero_()
        self.count.zero_()


class PrototypeCrossEntropy(torch.autograd.Function):
    """Cross-entropy over prototypes, whose logits are never there all at once.

    They come in chunks, and the gradient is taken of each as it comes: with 65,536
    prototypes, logits would be most of what a step holds, and moving them most of the
    time that a loss takes.
    """

    @staticmethod
    def forward(ctx, answers, prototypes, targets, weight, temperature):  # noqa: ANN001
        grad_answers = torch.zeros_like(answers)
        grad_prototypes = torch.zeros_like(prototypes)
        total = weight.new_zeros(())
        largest = weight.max() if len(weight) else weight.new_ones(())
        device = answers.device.type
        rows = max(1, CHUNK.get(device, LARGE_CHUNK) // len(prototypes))
        # Of all chunks the same memory: a CPU takes long to get as much.
        scratch = empty_logits(min(rows, len(answers)), prototypes)
        chunks = (x.split(rows) for x in (answers, targets, weight, grad_answers))
        for answer, target, share, grad in zip(*chunks, strict=True):
            logits = scratch[: len(answer)]
            product(answer / temperature, prototypes.T, out=logits)
            logits.sub_(logits.amax(dim=1, keepdim=True))
            agreement = row_products(target, logits)
            mass = logits.exp_().sum(dim=1)
            certain = target.sum(dim=1)
            total += (share * (certain * mass.log() - agreement)).sum()
            # From here on, `logits` is target - softmax. Weights come after products
            # or beside them: float16 has no numbers as small as theirs.
            scale = (certain / mass)[:, None]
            torch.addcmul(target, logits, scale, value=-1, out=logits)
            product(logits, prototypes, out=grad).mul_((share / -temperature)[:, None])
            answer = answer * (share / -largest)[:, None]
            if torch.is_autocast_enabled(device):
                grad_prototypes += logits.T @ answer
            else:
                grad_prototypes.addmm_(logits.T, answer)
        grad_prototypes.mul_(largest / temperature)
        ctx.save_for_backward(grad_answers, grad_prototypes)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # noqa: ANN001
        return *(grad * saved for saved in ctx.saved_tensors), None, None, None


def cross_entropy(
    answers: Tensor,
    prototypes: Tensor,
    targets: Tensor,
    weight: Tensor,
    temperature: float,
) -> Tensor:
    """Weighted sum over tokens; logits are products of answers and prototypes.

    Args:
        answers: (n, P) of the student, float32 even in mixed precision.
        prototypes: (K, P) of the student, likewise.
        targets: (n, K), without gradient; rows may sum to more than 1.
        weight: (n,), at least one above 0.
        temperature: Of the student.

    Returns:
        Scalar, in the type of the answers.
    """
    return PrototypeCrossEntropy.apply(
        answers, prototypes, targets.to(answers), weight.to(answers), temperature
    )


def dino_loss(
    answers: Tensor, prototypes: Tensor, targets: Tensor, temperature: float = 0.1
) -> Tensor:
    """A student's view says what the teacher says of the others (DINO, Eq. 3).

    Args:
        answers: (S, B, P) of the student; its first T views are those of the teacher.
        prototypes: (K, P) of the student.
        targets: (T, B, K) of the teacher.
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
    weight = targets.new_full((wanted.shape[:2].numel(),), 1 / (pairs * len(together)))
    return cross_entropy(
        answers.flatten(0, 1), prototypes, wanted.flatten(0, 1), weight, temperature
    )


def ibot_loss(
    answers: Tensor,
    prototypes: Tensor,
    targets: Tensor,
    weight: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    """Masked patches say what the teacher says of them unmasked (iBOT, Eq. 2).

    Args:
        answers: (n, P) of the masked patches of all images.
        prototypes: (K, P) of the student.
        targets: (n, K).
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
    """Targets from the logits of a teacher.

    Args:
        num_prototypes: K.
        method: ``'sinkhorn'`` (DINOv2) or ``'centering'`` (DINO, iBOT).
        temperature: Of the teacher.
        momentum: What the center keeps of itself; only of ``'centering'``.
        iterations: Of ``'sinkhorn'``.

    Raises:
        ValueError: If the method is unknown or the temperature not above 0.
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
        if not temperature > 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        self.temperature = temperature
        self.iterations = iterations
        centering = method == 'centering'
        self.center = Center(num_prototypes, momentum) if centering else None

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (n, K), which may be overwritten, to targets (n, K) without gradient.

        Targets are float32.
        """
        if self.center is None:
            return sinkhorn(logits, self.temperature, self.iterations, inplace=True)
        return self.center(logits, self.temperature)

    def follow(self) -> None:
        """To be called after every optimizer step: moves the center, if any."""
        if self.center is not None:
            self.center.follow()
