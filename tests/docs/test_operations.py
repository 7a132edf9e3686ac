"""docs/operations.md has every sentence that a user can get, and none that nobody gets any more."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "operations.md"
C_STRING = r'"((?:[^"\\]|\\.)*)"'
# region_reason("…" "…"), agent_reason(reason, error, "…"), and tenant_complain(NAME "…"): stderr.
C_SENTENCE = re.compile(
    r"(?:region_reason\(|agent_reason\([^,]+,[^,]+,|tenant_complain\()"
    rf"\s*(?:[A-Z_]+ )?((?:{C_STRING}\s*)+)"
)
WORD = re.compile(r"[a-zA-Z]+")
PRINTF = re.compile(r"%[-#0+ ]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|z|j|t)?[a-zA-Z]")
ROW = re.compile(r"^\| `(.+?)` \|", re.MULTILINE)


def text_of(node: ast.expr) -> str | None:
    """What a string says, with … for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) or "…" for value in node.values)
    return None


def python_sentences() -> Iterator[str]:
    sources = [REPOSITORY / "agent", REPOSITORY / "plugin"]
    for path in sorted(path for source in sources for path in source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "BadParameter" or (name.endswith("Error") and not hasattr(builtins, name)):
                sentence = text_of(node.args[0])
                if sentence is not None and len(WORD.findall(sentence)) > 1:
                    yield sentence


def c_sentences() -> Iterator[str]:
    for path in sorted((REPOSITORY / "native").rglob("*.c")):
        for call in C_SENTENCE.findall(path.read_text()):
            parts = re.findall(C_STRING, call[0])
            sentence = PRINTF.sub("…", "".join(parts))
            if len(WORD.findall(sentence)) > 1:
                yield sentence


def sentences() -> set[str]:
    found = {sentence for source in (python_sentences(), c_sentences()) for sentence in source}
    # Backquotes and bars would end a cell of the table.
    return {re.sub(r"\s+", " ", sentence.replace("`", "'")).strip() for sentence in found}


def test_every_sentence_is_on_the_page_and_no_other() -> None:
    on_page = set(ROW.findall(PAGE.read_text().split("## Messages")[1]))
    assert sentences() - on_page == set(), "missing on the page"
    assert on_page - sentences() == set(), "said by nobody"
