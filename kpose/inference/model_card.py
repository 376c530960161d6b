"""What the model card of a saved predictor says; the gaps are filled by huggingface_hub."""

import json

from kpose.network import PoseNetwork

__all__ = ["MODEL_CARD", "trust_argument"]

MODEL_CARD = """---
{{ card_data }}
---

Camera pose and 3D shape of the object in a photo, by the Python package kpose:

```python
import kpose

predictor = kpose.Predictor.from_pretrained("this repository"{{ trust }})
[prediction] = predictor("photo.jpg")
```

| | |
|---|---|
| crops | {{ image_size }} × {{ image_size }} pixels |
| pose head | {{ head }} |
| training data | {{ training_data | default("not stated", true) }} |
| license of the weights | {{ license | default("not stated", true) }} |
"""


def trust_argument(network: PoseNetwork) -> str:
    """Write the argument that `Predictor.from_pretrained` needs for classes of other modules; empty without them.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> trust_argument(PoseNetwork(TinyBackbone(width=8), QuaternionHead))
        ''
    """
    parts = (network.backbone, network.head, network.reconstructor)
    modules = sorted({type(part).__module__ for part in parts if part is not None})
    foreign = [module for module in modules if module.partition(".")[0] != "kpose"]
    return f", trusted_modules={json.dumps(foreign)}" if foreign else ""
