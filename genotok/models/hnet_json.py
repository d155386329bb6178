"""The JSON configuration of H-Net's own code."""

from typing import Any

from genotok.models.config_values import check_keys, is_a


def from_hnet_json(values: dict[str, Any]) -> dict[str, Any]:
    """Translate the JSON of H-Net's own code (github.com/goombalab/hnet, configs/) to genotok's keys."""
    values = dict(values)
    ssm, attention = values.pop("ssm_cfg", {}), values.pop("attn_cfg", {})
    check_keys("ssm_cfg", ssm, {"d_state", "d_conv", "expand", "chunk_size"}, set())
    heads = {"num_heads", "rotary_emb_dim", "window_size"}
    check_keys("attn_cfg", attention, heads, heads)
    if "d_intermediate" in values:
        values["d_intermediate"] = _up_to_128(values["d_intermediate"])
    return {
        "layout": values.pop("arch_layout"),
        "tokenizer": "byte",
        "attention": {
            "heads": attention["num_heads"],
            "rotary_dim": attention["rotary_emb_dim"],
            "window": attention["window_size"],
        },
        "mamba2": ssm,
        **values,
    }


def _up_to_128(width: Any) -> Any:
    """H-Net's code takes the next multiple of 128 for every MLP width."""
    if isinstance(width, list):
        return [_up_to_128(part) for part in width]
    return -(-width // 128) * 128 if is_a(int, width) else width
