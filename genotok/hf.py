"""Models for transformers: after `import genotok.hf` its Auto classes read what `GenomicLM.save_pretrained` wrote.

```python
import genotok.hf
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("run")
```

`model.genomic` is the `GenomicLM` itself, with its tokenizer and `generate`. The package works without transformers;
this module needs it (`pip install genotok[hf]`).
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput, MaskedLMOutput
from transformers.utils import ModelOutput

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.config import MODEL_TYPE
from genotok.models.saved import CONFIG_NAME, config_text

# What the Auto classes hand on and what does not concern the weights.
_HANDED_ON = {"adapter_kwargs", "trust_remote_code", "code_revision", "low_cpu_mem_usage", "use_safetensors"}


class GenotokConfig(PretrainedConfig):
    """A `ModelConfig` in the form of transformers: each of its keys is an attribute."""

    model_type = MODEL_TYPE

    def __init__(self, **values: Any):
        keys = {item.name for item in fields(ModelConfig)}
        own = {key: values.pop(key) for key in list(values) if key in keys}
        super().__init__(**{**values, "tie_word_embeddings": False})  # genotok ties its own
        for key, value in own.items():
            setattr(self, key, value)

    @property
    def hidden_size(self) -> int:
        """Width of the outermost stage."""
        return self.architecture().d_model[0]

    def architecture(self) -> ModelConfig:
        """The configuration as genotok has it.

        Raises:
            InputError: a key is missing or does not fit.
        """
        known = vars(self)
        return ModelConfig.from_dict(
            {item.name: known[item.name] for item in fields(ModelConfig) if item.name in known}
        )

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Write `config.json` as genotok does."""
        with atomic_path(Path(save_directory) / CONFIG_NAME) as path:
            path.write_text(config_text(self.architecture()))


class GenotokPreTrainedModel(PreTrainedModel):
    """A `GenomicLM` whose parts are this module's own, under the names that its file of weights has.

    Args:
        config: the architecture.
        genomic: the model, where there is one already.
    """

    config_class = GenotokConfig
    main_input_name = "input_ids"

    def __init__(self, config: GenotokConfig, genomic: GenomicLM | None = None):
        super().__init__(config)
        genomic = genomic or GenomicLM(config.architecture())
        for name, part in genomic.named_children():
            self.add_module(name, part)
        self.__dict__["genomic"] = genomic  # past torch, which would name each parameter twice
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: `GenomicLM` has drawn its weights."""

    def get_input_embeddings(self) -> torch.nn.Module:
        """The embedding of the tokens."""
        return self.genomic.embedding

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *_: Any,
        config: GenotokConfig | None = None,
        revision: str | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: torch.device | str | None = None,
        **others: Any,
    ) -> "GenotokPreTrainedModel":
        """Read a model as `GenomicLM.from_pretrained` does.

        Args:
            source: a folder or a name on the Hub.
            config: of the Auto class; its architecture must be that of the weights.
            revision: branch, tag or commit of the Hub.
            dtype, torch_dtype: of the parameters, which are float32; `torch.autocast` gives bf16 products.
            device_map: one device, or `auto` for the GPU where there is one.

        Raises:
            InputError: the model cannot be read, or another option of transformers is asked for.
        """
        for key in others:
            if not key.startswith("_") and key not in _HANDED_ON:
                raise InputError(f"{key}: genotok's models cannot be read with this option of transformers")
        if (wanted := dtype or torch_dtype) not in (None, "auto", "float32", torch.float32):
            raise InputError(
                f"dtype: {wanted} is not for parameters of genotok, which are float32; use torch.autocast"
            )
        if device_map == "auto":
            device_map = "cuda" if torch.cuda.is_available() else "cpu"
        if isinstance(device_map, dict):
            raise InputError("device_map: genotok's models lie on one device; give its name")
        genomic = GenomicLM.from_pretrained(source, device_map or "cpu", revision=revision)
        config = config or GenotokConfig(**genomic.config.to_dict())
        if config.architecture() != genomic.config:
            raise InputError(f"config: is not the configuration of the weights in {source}")
        return cls(config, genomic).eval()

    def save_pretrained(
        self, save_directory: str | Path, is_main_process: bool = True, push_to_hub: bool = False, **_: Any
    ) -> None:
        """Write the folder that genotok reads; see `GenomicLM.save_pretrained`.

        Raises:
            InputError: it should be pushed to the Hub as well.
        """
        if push_to_hub:
            raise InputError("push_to_hub: save the model, and upload the folder with `hf upload`")
        if is_main_process:
            self.genomic.save_pretrained(save_directory)


def _lengths(attention_mask: Tensor | None) -> Tensor | None:
    """(B, L) ones in front of zeros to (B,) numbers of ones.

    Raises:
        InputError: a zero stands in front of a one.
    """
    if attention_mask is None:
        return None
    real = attention_mask.bool()
    lengths = real.sum(1)
    if not torch.equal(real, torch.arange(real.shape[1], device=real.device) < lengths[:, None]):
        raise InputError("attention_mask: padding must stand behind each sequence (padding_side='right')")
    return lengths


def _given(output: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple:
    return output.to_tuple() if return_dict is False else output


class GenotokModel(GenotokPreTrainedModel):
    """States after the final norm, (B, L, D)."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput | tuple:
        """Run the model on (B, L) ids, of which (B, L) `attention_mask` says which are real."""
        output = self.genomic(input_ids, lengths=_lengths(attention_mask), output_hidden_states=True)
        states = output.hidden_states
        hidden = tuple(states) if output_hidden_states else None
        return _given(BaseModelOutput(last_hidden_state=states[-1], hidden_states=hidden), return_dict)


class _WithHead(GenotokPreTrainedModel):
    task: str
    output: type[ModelOutput]

    def get_output_embeddings(self) -> torch.nn.Module:
        """The layer in front of the logits."""
        return self.genomic.head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple:
        """Run the model on (B, L) ids; `labels` as `GenomicLM` takes them, which is as transformers does."""
        output = self.genomic(
            input_ids,
            task=self.task,
            labels=labels,
            lengths=_lengths(attention_mask),
            output_hidden_states=bool(output_hidden_states),
        )
        hidden = tuple(output.hidden_states) if output_hidden_states else None
        return _given(self.output(loss=output.loss, logits=output.logits, hidden_states=hidden), return_dict)


class GenotokForCausalLM(_WithHead):
    """Prediction of the next token."""

    task, output = "lm", CausalLMOutput


class GenotokForMaskedLM(_WithHead):
    """Prediction of masked tokens."""

    task, output = "mlm", MaskedLMOutput


AutoConfig.register(MODEL_TYPE, GenotokConfig, exist_ok=True)
AutoModel.register(GenotokConfig, GenotokModel, exist_ok=True)
AutoModelForCausalLM.register(GenotokConfig, GenotokForCausalLM, exist_ok=True)
AutoModelForMaskedLM.register(GenotokConfig, GenotokForMaskedLM, exist_ok=True)
