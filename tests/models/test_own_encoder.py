"""Encoders of a user's own."""

import pytest
from torch import nn

import meta_latent
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import model_folder
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.models import parts
from meta_latent.models.config import EncoderConfig, ModelConfig
from meta_latent.models.encoders import ConvDecoder, ConvEncoder
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.types import Spec


class Mine(ConvEncoder):
    pass


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setattr(parts, "_OTHERS", {})
    meta_latent.register_encoder("mine", Mine, ConvDecoder)


def test_a_registered_encoder_is_made_saved_and_opened(mine, tmp_path):
    built = config.load(ExperimentConfig, [], ["model.encoder.kind=mine", "model.encoder.channels=[4]"]).model
    model = LatentStateModel(Spec({"image_top": (16, 16, 3)}, 2, 2), built)
    assert isinstance(model.encoders["image_top"], Mine)
    model_folder.save(tmp_path / "model", model, {})
    assert isinstance(meta_latent.load(tmp_path / "model").encoders["image_top"], Mine)
    meta_latent.register_encoder("mine", Mine, ConvDecoder)  # the same one again: a module that is imported twice
    with pytest.raises(
        UserError, match="there is an encoder 'conv' already, of the module meta_latent.models.encoders"
    ):
        meta_latent.register_encoder("conv", Mine, ConvDecoder)


def test_the_module_of_an_encoder_may_register_it_anew_and_no_other_may(mine):
    meta_latent.register_encoder("mine", nn.Identity, ConvDecoder)
    assert parts.encoder_classes("mine")[0] is nn.Identity
    code = "import meta_latent\nmeta_latent.register_encoder('mine', int, int)"
    with pytest.raises(UserError, match=f"there is an encoder 'mine' already, of the module {__name__};"):
        exec(code, {"__name__": "elsewhere"})
    assert parts.encoder_classes("mine")[0] is nn.Identity


def test_a_model_whose_encoder_nobody_registered_says_what_to_do(mine, tmp_path, monkeypatch):
    made = ModelConfig(encoder=EncoderConfig(kind="mine", channels=(4,)))
    model_folder.save(tmp_path / "model", LatentStateModel(Spec({"image_top": (16, 16, 3)}, 2, 2), made), {})
    monkeypatch.delitem(parts._OTHERS, "mine")
    with pytest.raises(UserError, match=r"mine.*one of conv, keypoints; imports=\[my_package\] registers your own"):
        meta_latent.load(tmp_path / "model")
    with pytest.raises(UserError, match=r"model.encoder.kind.*one of conv, keypoints"):
        config.load(ExperimentConfig, [], ["model.encoder.kind=mine"])


def test_only_encoders_that_can_are_standardised(mine):
    spec = Spec({"image_top": (16, 16, 3)}, 2, 2)
    LatentStateModel(spec, ModelConfig(encoder=EncoderConfig(kind="mine", channels=(4,), standardise=True)))
    with pytest.raises(UserError, match="standardise"):
        LatentStateModel(spec, ModelConfig(encoder=EncoderConfig(kind="keypoints", standardise=True)))
