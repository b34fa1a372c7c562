"""A report in a real browser: its policy lets its own style through and nothing else, and nothing runs off the page."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from symbi import AuditLog
from symbi.audit.framework import load
from symbi.audit.report import report

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
_LOOK = """
<script>
  const wide = [...document.querySelectorAll("body *")].filter(
    one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll")).map(one => one.outerHTML.slice(0, 80));
  const bars = [...document.querySelectorAll("svg rect")].map(one => one.getBoundingClientRect().height);
  const out = document.createElement("pre");
  out.id = "answers";
  out.textContent = JSON.stringify({ wide, bars, paint: getComputedStyle(document.querySelector("header")).backgroundColor,
    links: [...document.querySelectorAll("a[href^='#']")].filter(one => !document.querySelector(one.getAttribute("href"))).length });
  document.body.append(out);
</script>
"""


def _open(tmp_path: Path, html: str, *, width: int) -> subprocess.CompletedProcess[str]:
    page = tmp_path / "report.html"
    page.write_text(html, encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    command += ["--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def page(tmp_path: Path) -> str:
    with AuditLog.open(tmp_path / "trail", "a") as log:
        for number in range(30):
            log.append(
                "operation.denied", "a" * 200, {"number": number, "resource": 'Tool::"' + "x" * 200 + '"'}
            )
    return report(log, load("ai-act")).to_html()


@pytest.mark.browser
def test_rh2_the_browser_applies_the_pages_own_style_and_would_refuse_another(
    tmp_path: Path, page: str
) -> None:
    good = _open(tmp_path, page, width=1200)
    assert 'class="tile' in good.stdout
    assert "CONSOLE" not in good.stderr, good.stderr[-2000:]
    bad = _open(tmp_path, page.replace("body{margin:0", "body{margin:1px", 1), width=1200)
    assert "Content Security Policy" in bad.stderr


@pytest.mark.browser
def test_nothing_runs_off_the_page_and_every_link_leads_somewhere(tmp_path: Path, page: str) -> None:
    open_page = page.replace('http-equiv="Content-Security-Policy"', 'name="without"', 1)
    done = _open(tmp_path, open_page.replace("</body>", f"{_LOOK}</body>"), width=1200)
    _, begin, rest = done.stdout.partition('<pre id="answers">')
    assert begin, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(rest.partition("</pre>")[0].replace("&lt;", "<").replace("&gt;", ">"))
    assert found["wide"] == []
    assert found["links"] == 0
    assert found["bars"]
    assert min(found["bars"]) > 0
    assert found["paint"] == "rgb(18, 57, 91)"
