import pytest
import torch
from transformers import BertConfig, ResNetBackbone, ResNetConfig

from kpose.backbones import TransformersBackbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
    path = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(1)  # not the seed of the tests, whose random weights would be these
    ResNetBackbone(config).save_pretrained(path)
    return path


def test_local_folder_gives_its_weights_without_a_network(folder):
    first, second = (TransformersBackbone(folder) for _ in range(2))
    image = torch.rand(2, 3, 64, 64)
    for a, b in zip(first(image).maps, second(image).maps, strict=True):
        assert torch.equal(a, b)


def test_spec_says_what_forward_gives(folder):
    backbone = TransformersBackbone(folder, out_stages=(2, 3, 4))
    assert backbone.spec.channels == (16, 24, 32)
    assert backbone.spec.strides == (8, 16, 32)
    maps = backbone(torch.rand(1, 3, 96, 64)).maps
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 12, 8), (24, 6, 4), (32, 3, 2)]


def test_frozen_is_a_switch(folder):
    assert not any(p.requires_grad for p in TransformersBackbone(folder).train().parameters())
    trained = TransformersBackbone(folder, frozen=False).train()
    assert trained.training
    assert trained(torch.rand(2, 3, 64, 64)).maps[0].requires_grad


def test_random_weights_when_not_pretrained(folder):
    loaded = TransformersBackbone(folder).state_dict()
    random = TransformersBackbone(folder, pretrained=False).state_dict()
    name = "model.embedder.embedder.convolution.weight"
    assert not torch.equal(loaded[name], random[name])


def test_stage_that_does_not_exist(folder):
    with pytest.raises(ValueError, match=r"out_stages within 0 and 4; got \(7,\)"):
        TransformersBackbone(folder, out_stages=(7,))


def test_model_without_backbone_class(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert'"):
        TransformersBackbone(tmp_path)


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def random_backbone(model_type, **config):
    return TransformersBackbone(model_type, (1, 2), pretrained=False, config={"model_type": model_type, **config})


def test_pictures_between_patches_are_refused():
    backbone = random_backbone("dinov2", **SMALL)
    assert backbone.spec.strides == (14, 14)
    with pytest.raises(ValueError, match=r"multiples of 14 pixels.*got 256 x 252. Take 252 x 252 or 266 x 266"):
        backbone(torch.zeros(1, 3, 252, 256))
    assert backbone(torch.zeros(1, 3, 28, 42)).maps[0].shape[-2:] == (2, 3)


def test_an_architecture_that_cannot_do_a_size_says_so_in_one_line():
    hiera = random_backbone("hiera", embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
    with pytest.raises(
        ValueError, match=r"^The architecture 'hiera' .* cannot do images of 256 x 256 pixels .*224"
    ):
        hiera(torch.zeros(1, 3, 256, 256))
    with pytest.raises(ValueError, match="square images; 'vitpose_backbone' takes 192 x 256") as caught:
        random_backbone("vitpose_backbone", **SMALL)
    assert "\n" not in str(caught.value)


def test_an_architecture_that_can_do_its_own_size_only():
    windows = random_backbone("lw_detr_vit", **SMALL, image_size=256, window_block_indices=[0])
    assert windows.spec.strides == (16, 16)
    with pytest.raises(ValueError, match=r"'lw_detr_vit' .* cannot do images of 224 x 224 pixels"):
        windows(torch.zeros(1, 3, 224, 224))


def test_real_resnet50(backbone_folder):
    backbone = TransformersBackbone(backbone_folder)
    assert backbone.spec.channels == (256, 512, 1024, 2048)
    assert backbone.spec.strides == (4, 8, 16, 32)
    assert backbone(torch.rand(1, 3, 64, 64)).maps[3].std() > 0


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "no/folder/here"])
def test_a_folder_that_is_not_there_is_named(name):
    with pytest.raises(FileNotFoundError, match=f"^There is no folder {name}"):
        TransformersBackbone(name)
    assert TransformersBackbone(name, pretrained=False, config={"model_type": "resnet"})  # it is not looked up
