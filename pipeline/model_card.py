"""Model cards of exported networks: what goes in, how pictures are prepared for it, and what comes out."""

from pathlib import Path
from typing import Literal

from fanfold.data.pictures import SHRINK, Preprocessing
from fanfold.pipeline.files import write_bytes
from fanfold.tasks.learner import Learner

Format = Literal["onnx", "torch"]

_CALLS = {
    "torch": ["program = torch.export.load({!r}).module()", "outputs = program(images)"],
    "onnx": [
        "session = onnxruntime.InferenceSession({!r})",
        'outputs = session.run(None, {{"images": images.numpy()}})',
    ],
}


def card_of(path: Path) -> Path:
    """Where the model card of an exported file lies: a name that no other file is likely to have."""
    return path.with_name(f"{path.name}.md")


def write_card(
    path: Path, kind: Format, learner: Learner, preprocessing: Preprocessing, outputs: list[str], origin: str
) -> None:
    """Write a model card beside an exported file (Mitchell and others, FAccT 2019, in short)."""
    p = preprocessing
    colour = "red, green and blue" if p.channels == 3 else "grey"
    lines = [
        f"# {path.name}",
        "",
        f"{learner.algorithm.name} on {learner.model.name if hasattr(learner.model, 'name') else 'a model'}.",
        *([f"Trained on {origin}."] if origin else []),
        "",
        f"Input: `images` `[n, {p.channels}, {p.size}, {p.size}]`, float32 from 0 to 1, {colour}.",
        *_prepared(p),
        *(["The network itself takes the mean over a picture and its mirror image: give it each once."] * learner.flip),
        "",
        "```python",
        "import numpy as np",
        f"import {'torch' if kind == 'torch' else 'onnxruntime, torch'}",
        "from PIL import Image, ImageOps",
        "",
        *opening(p),
        *(line.format(path.name) for line in _CALLS[kind]),
        "```",
        "",
        f"Output: {outputs[0]}",
        *outputs[1:],
        "",
        "Each picture is judged by itself. Pictures of other kinds than it was trained and measured on are judged with",
        "more confidence than is due.",
    ]
    write_bytes(card_of(path), ("\n".join(lines) + "\n").encode("utf-8", "replace"))


def _prepared(preprocessing: Preprocessing) -> list[str]:
    """How pictures must be prepared, in words."""
    p = preprocessing
    turned = f"Pictures must be prepared as in training: turned as EXIF says, transparent ones laid on {p.background},"
    if p.handwriting:
        ink = {True: "inverted", False: "as it is", "auto": "inverted where the border is light"}[p.invert]
        return [turned, f"{ink} (ink is bright on 0), padded to a square by the border's median, and averaged by area."]
    how = f"scaled and padded to a square by {p.background}," if p.fit == "pad" else "the square in the middle scaled,"
    return [turned, f"{how} by Pillow's filter BICUBIC. Another filter, even another bicubic one, changes labels."]


def opening(preprocessing: Preprocessing) -> list[str]:
    """The lines of Python that open `picture.jpg` as `images` `[1, channels, height, width]`."""
    p, mode = preprocessing, "RGB" if preprocessing.channels == 3 else "L"
    upright = f'picture = ImageOps.exif_transpose(picture).convert("{mode}")'
    if p.handwriting:
        inverted = "ink, border = 255 - ink, 255 - border"
        if p.invert == "auto":
            inverted = "ink, border = (255 - ink, 255 - border) if border.mean() >= 128 else (ink, border)"
        return [
            'picture = Image.open("picture.jpg")',
            upright,
            "ink = np.array(picture)",
            "border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])",
            *([inverted] if p.invert else []),
            "side = max(ink.shape)",
            "before = [(side - length) // 2 for length in ink.shape]",
            "around = [(start, side - length - start) for start, length in zip(before, ink.shape)]",
            "ink = np.pad(ink, around, constant_values=int(np.median(border)))",
            f"ink = ink.repeat({p.size}, 0).reshape({p.size}, side, side).mean(1)",
            f"ink = ink.repeat({p.size}, 1).reshape({p.size}, {p.size}, side).mean(2)",
            "images = torch.from_numpy(np.floor(ink + 0.5)).float()[None, None] / 255",
        ]
    size, least = (p.size, p.size), (SHRINK * p.size, SHRINK * p.size)
    corner = f"(({p.size} - picture.width) // 2, ({p.size} - picture.height) // 2)"
    padded = [
        f"picture = ImageOps.contain(picture, {size}, Image.Resampling.BICUBIC)",
        f'square = Image.new("RGB", {size}, "{p.background}").convert("{mode}")',
        f"square.paste(picture, {corner})",
    ]
    return [
        'picture = Image.open("picture.jpg")',
        f"picture.draft(None, {least})  # a large JPEG is decoded smaller, as in training",
        upright,
        *(padded if p.fit == "pad" else [f"picture = ImageOps.fit(picture, {size}, Image.Resampling.BICUBIC)"]),
        f"images = torch.from_numpy(np.array({'square' if p.fit == 'pad' else 'picture'}))"
        + (".permute(2, 0, 1)[None] / 255" if p.channels == 3 else "[None, None] / 255"),
    ]
