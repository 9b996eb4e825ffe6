"""Layer-wise decay of the learning rate: when a pretrained network is fine-tuned, its lower layers move less.

Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.2; for BERT Sun,
Qiu, Xu and Huang, "How to Fine-Tune BERT for Text Classification?", 2019, section 5.3.4.
"""

from __future__ import annotations

import math

from tunewright.engines.errors import FixArgument


def layerwise_rates(lr: float, decay: float, layers: int) -> list[float]:
    """The learning rates of embeddings, layer 1 to layer `layers`, and head: `layers` + 2 numbers, lowest part first.

    The embeddings are layer 0. Layer i of L has lr * decay^(L - i), so `lr` is the rate of the topmost layer, which the
    head shares. A `decay` of 1 treats all alike. Raises FixArgument.

    Tune `lr` and `decay` together: Float(1e-5, 1e-3, log=True) and Float(0.6, 1.0).
    """
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise FixArgument("must be a whole number above zero", field="layers", value=layers, fix="layers=12")
    if not (lr > 0 and math.isfinite(lr)):
        raise FixArgument("must be a number above zero", field="lr", value=lr, fix="lr=2e-5")
    if not 0 < decay <= 1:
        raise FixArgument("must be above 0 and at most 1", field="decay", value=decay, fix="decay=0.9")
    # Sun et al. 2019, eq. 2: eta^(k-1) = xi * eta^k, from the top down
    body = [lr * decay ** (layers - i) for i in range(layers + 1)]
    return [*body, lr]
