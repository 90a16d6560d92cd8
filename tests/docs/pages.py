"""What the pages say: their links and anchors, their blocks of code, and every command in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "outputs/README.md")]
    + list((ROOT / "docs").glob("*.md"))
)
#: First words that make a line a command, behind assignments such as NAME=value.
STARTS = ("python", "python3", "pip", "make", "pytest", "wandb", "hf", "pip-audit", "git", "eval", "source", "tests/")
SHELL = ("bash", "sh", "console")
FENCE = re.compile(r"^( *)```+ *([^\n]*)\n(.*?)^\1```+ *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code. info : what stands behind the fence's backticks, "" for an indented block."""

    page: str
    line: int
    info: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command as written, without its comment. block : it stands in a block of code, not in a sentence."""

    page: str
    line: int
    text: str
    block: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """Fenced blocks, then indented ones that stand behind an empty line."""
    text, name = page.read_text(encoding="utf-8"), name_of(page)
    for found in FENCE.finditer(text):
        yield Block(name, text.count("\n", 0, found.start()) + 1, found[2].strip(), found[3])
    rest = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text).split("\n")
    start = None
    for i, line in enumerate([*rest, "end"]):
        indented = line.startswith("    ")
        if start is None and indented and not (rest[i - 1].strip() if i else ""):
            start = i
        elif start is not None and not indented and line.strip():
            yield Block(name, start + 1, "", "\n".join(part[4:] for part in rest[start:i]).rstrip())
            start = None


def files(page: Path) -> dict[str, str]:
    """Name -> content of the files that a page shows: fences such as ```python name.py."""
    found = (block.info.split(" ") for block in blocks(page))
    names = [words[1] if len(words) == 2 and words[0] not in SHELL else "" for words in found]
    return {name: block.text for name, block in zip(names, blocks(page), strict=True) if name}


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows, as its reader would."""
    for name, content in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def sentences(page: Path) -> str:
    """The page without its blocks, line for line."""
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))
    return "\n".join("" if line.startswith("    ") else line for line in text.split("\n"))


def commands(page: Path) -> Iterator[Command]:
    """Every command of a page, in blocks and between backticks."""
    for block in blocks(page):
        if block.info in ("", *SHELL):
            yield from _of_block(block)
    text = sentences(page)
    for found in re.finditer(r"`([^`]+)`", text):
        words = re.sub(r"\s+", " ", found[1]).strip()
        if is_command(words):
            yield Command(name_of(page), text.count("\n", 0, found.start()) + 1, words, block=False)


def _of_block(block: Block) -> Iterator[Command]:
    line, start, whole = block.line + bool(block.info), 0, ""
    for i, part in enumerate(block.text.split("\n")):
        start = start if whole else line + i
        piece = part.rstrip().removesuffix("\\").rstrip()
        whole = f"{whole} {piece.lstrip()}" if whole else piece
        if part.rstrip().endswith("\\"):
            continue
        text = re.sub(r"(^|\s+)#.*$|\s{4,}\S.*$", "", whole).strip().removeprefix("$ ")
        if is_command(text) or (text and block.info in SHELL):
            yield Command(block.page, start, text, block=True)
        whole = ""


def is_command(text: str) -> bool:
    """Whether `text` begins as a command does and says more than its first word."""
    words = re.sub(r"^(?:[A-Z][A-Z0-9_]*=\S* )+", "", text).split(" ")
    return len(words) > 1 and words[-1] != "-m" and (words[0] in STARTS or words[0].startswith("tests/"))


def spelled_out(text: str) -> list[list[str]]:
    """The words of a command, once for each of its alternatives a|b, without what is optional: [word] and "..."."""
    text = re.sub(r"^(?:[A-Z][A-Z0-9_]*=\S* )+", "", text)
    text = re.sub(r"(?<= )\[[^\[\]=]*(?:=[^\[\]]*)?\](?= |$)|(?<= )\.\.\.(?= |$)", "", text)
    lines: list[list[str]] = [[]]
    for word in shlex.split(text):
        choices = word.split("|") if re.fullmatch(r"[a-z]+(\|[a-z]+)+", word) else [word]
        lines = [[*line, choice] for line in lines for choice in choices]
    return lines


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the generator name them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        n = 0
        while (name := f"{slug}-{n}" if n else slug) in found:
            n += 1
        found.add(name)
    return found


def links(page: Path) -> Iterator[tuple[int, str]]:
    """(line, target) of every link and picture, in Markdown or HTML."""
    text = sentences(page)
    for found in re.finditer(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"", text):
        yield text.count("\n", 0, found.start()) + 1, found[1] or found[2]
