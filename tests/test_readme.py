"""The README's first lines of code print what stands below them."""

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_first_lines_of_code_print_the_line_below_them(capsys):
    code = README.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    *_, said = code.strip().splitlines()
    exec(code, {})
    assert capsys.readouterr().out.strip() == said.removeprefix("# ")
