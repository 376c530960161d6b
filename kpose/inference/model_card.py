"""What the model card of a saved predictor says; the gaps are filled by huggingface_hub."""

__all__ = ["MODEL_CARD"]

MODEL_CARD = """---
{{ card_data }}
---

Camera pose and 3D shape of the object in a photo, by the Python package kpose:

```python
import kpose

predictor = kpose.Predictor.from_pretrained("this repository")
[prediction] = predictor("photo.jpg")
```

| | |
|---|---|
| crops | {{ image_size }} × {{ image_size }} pixels |
| pose head | {{ head }} |
| training data | {{ training_data | default("not stated", true) }} |
| license of the weights | {{ license | default("not stated", true) }} |
"""
