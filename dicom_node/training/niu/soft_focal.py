"""The focal loss of [Niu2023]'s density network for a share instead of a class, and the share that a probability means.

The paper trains a softmax of two outputs with an alpha-balanced focal loss and reports a continuous density; how one
becomes the other it does not say. Read here: the density is a share t of a full scale, both outputs are weighted by it,

    L(p, t) = -alpha t (1 - p)^gamma log p - (1 - alpha) (1 - t) p^gamma log(1 - p),

which is the paper's loss for t = 0 and 1. Its minimum is not at p = t. Where it is follows from dL/dp = 0, which is
linear in t, so the trained probability is turned back into a share without any fit.
"""

import torch
from torch import Tensor

ALPHA, GAMMA = 0.6, 2.0
"""[Niu2023], appendix 1."""

CLEAR = 1e-6
"""Probabilities are kept this far from 0 and 1."""


def soft_focal(logits: Tensor, share: Tensor) -> Tensor:
    """Return the mean loss.

    Parameters
    ----------
    logits : (image, 2)
        Of "none" and "full".
    share : (image,)
        0 to 1.
    """
    log_none, log_full = torch.log_softmax(logits, dim=1).unbind(1)
    p = log_full.exp()
    loss = -ALPHA * share * (1 - p) ** GAMMA * log_full - (1 - ALPHA) * (1 - share) * p**GAMMA * log_none
    return loss.mean()


def share_of(logits: Tensor) -> Tensor:
    """Return the share whose loss the logits minimise.

    Parameters
    ----------
    logits : (image, 2)

    Returns
    -------
    (image,)
        0 to 1; grows with the probability of "full".
    """
    p = torch.softmax(logits.double(), dim=1)[:, 1].clamp(CLEAR, 1 - CLEAR)
    q = 1 - p
    full = ALPHA * (q**GAMMA / p - GAMMA * q ** (GAMMA - 1) * p.log())
    none = (1 - ALPHA) * (p**GAMMA / q - GAMMA * p ** (GAMMA - 1) * q.log())
    return none / (none + full)
