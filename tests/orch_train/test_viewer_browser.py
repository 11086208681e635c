"""The viewer in a real headless Chromium: what a person sees, by keyboard and by address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orch_train.run.metrics_file import MetricsWriter
from orch_train.viewer.export import export_page
from orch_train.viewer.run_data import RunData
from orch_train.viewer.run_list import RunList
from orch_train.viewer.server import ViewServer
from tests.orch_train.browser import Browser, find_browser
from tests.orch_train.viewer_runs import (
    HOSTILE,
    HOSTILE_TASK,
    make_quickstart,
    make_run,
    result,
    step_replies,
    write_steps,
)

pytestmark = pytest.mark.skipif(
    find_browser() is None,
    reason="no Chromium found (apt-get install chromium, or set ORCH_CHROMIUM): viewer not tested",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = find_browser()
    assert found is not None
    browser = Browser(found, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    """Whatever a test does: no script error, no policy violation, no dialog, no outside address."""
    for log in (browser.complaints, browser.requests, browser.dialogs):
        log.clear()
    yield
    assert browser.complaints == [] and browser.dialogs == []
    inside = ("http://127.0.0.1:", "about:", "data:,", "file://")
    assert all(url.startswith(inside) for url in browser.requests)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / "first", 3), make_run(folder / "second", 2, lr=0.5)]


@pytest.fixture(scope="module")
def one(runs: list[Path]) -> Iterator[str]:
    server = ViewServer([RunData(runs[0])])
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The quick start's folder, served."""
    server = ViewServer(RunList(make_quickstart(tmp_path_factory.mktemp("quick") / "start")))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def both(runs: list[Path]) -> Iterator[str]:
    server = ViewServer([RunData(run) for run in runs])
    server.start()
    yield server.url
    server.stop()


_DRAWN = """
((card, kind) => {
  const wanted = document.createElement('canvas').getContext('2d');
  wanted.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--${kind}`);
  wanted.fillRect(0, 0, 1, 1);
  const [r, g, b] = wanted.getImageData(0, 0, 1, 1).data;
  const canvas = card.querySelector('canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] > 200) count += 1;
  }
  return count;
})(document.querySelector(`[data-title=%s]`), '%s')
"""


def _titles(browser: Browser) -> list[str]:
    found: list[str] = browser.run(
        "[...document.querySelectorAll('.chart')].filter((c) => c.querySelector('canvas'))"
        ".map((c) => c.dataset.title)"
    )
    return found


def _drawn(browser: Browser, title: str, kind: str) -> int:
    """How many pixels of a chart have the colour of a series."""
    return int(browser.run(_DRAWN % (json.dumps(title), kind)))


def _wait_for_charts(browser: Browser, count: int = 8) -> None:
    browser.wait(f"plots.length >= {count} && plots.every((plot) => plot.status === 1)")


def _legend(browser: Browser, title: str) -> list[str]:
    """The rows of a chart's legend that can be seen: name and value."""
    found: list[str] = browser.run(
        f"[...document.querySelectorAll('[data-title={json.dumps(title)}] .u-series')]"
        ".filter((row) => row.checkVisibility()).map((row) => row.textContent)"
    )
    return found


def test_curves_and_the_time_split_are_drawn(browser: Browser, one: str) -> None:
    browser.open(one)
    _wait_for_charts(browser)
    titles = _titles(browser)
    for title in ("Reward", "Success", "Policy loss", "Entropy", "Tokens per second"):
        assert title in titles
    assert "Seconds per step" in titles and "Stop reasons" in titles
    held_out = browser.run(
        "document.querySelector('[data-title=\"Held out by domain\"]').innerText"
    )
    assert "ship" in held_out and "Held out: pass@k" not in titles
    for title, kind in (("Reward", "k0"), ("Seconds per step", "k2"), ("Stop reasons", "k1")):
        assert _drawn(browser, title, kind) > 20, title
    assert _drawn(browser, "Reward", "k1") == 0
    label = browser.run(
        "document.querySelector('[data-title=\"Policy loss\"] .plot').getAttribute('aria-label')"
    )
    assert label == "Policy loss: loss last \N{MINUS SIGN}0.3"
    # 3.5 s a step: 2 learning, 0.75 generating, 0.25 in environments, 0.5 elsewhere.
    legend = browser.run("document.querySelector('[data-title=\"Seconds per step\"]').innerText")
    assert all(part in legend for part in ("learn 57.1%", "generate 21.4%", "other 14.3%"))


def _move(browser: Browser, title: str, x: float, *, press: bool = False) -> None:
    """Put the mouse at a share of a chart's width, and click there."""
    box = f"document.querySelector('[data-title={json.dumps(title)}] .u-over')"
    browser.run(f"{box}.scrollIntoView({{ block: 'center' }})")
    left, top, width = browser.run(
        f"(() => {{ const b = {box}.getBoundingClientRect(); return [b.left, b.top, b.width]; }})()"
    )
    where = {"x": left + x * width, "y": top + 50}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **where)
    for kind in ("mousePressed", "mouseReleased") if press else ():
        browser.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)


def test_a_click_on_a_curve_leads_to_the_steps_trajectories(browser: Browser, one: str) -> None:
    browser.open(one)
    _wait_for_charts(browser)
    _move(browser, "Reward", 0.98, press=True)
    browser.drawn("#/trajectories?step_from=3&step_to=3")
    assert "6 trajectories" in browser.text()


def test_the_legend_shows_the_values_under_the_mouse_and_else_the_newest(
    browser: Browser, one: str
) -> None:
    browser.open(one)
    _wait_for_charts(browser)
    minus = "\N{MINUS SIGN}"
    assert _legend(browser, "Policy loss") == ["step3", f"loss{minus}0.3"]
    _move(browser, "Policy loss", 0.02)
    browser.wait(
        "document.querySelector('[data-title=\"Policy loss\"] .u-value').innerText === '1'"
    )
    assert _legend(browser, "Policy loss") == ["step1", f"loss{minus}0.1"]
    _move(browser, "Seconds per step", 0.5)
    browser.wait(
        "document.querySelector('[data-title=\"Seconds per step\"] .u-value').innerText === '2'"
    )
    # Each layer's own value, although it is drawn on top of others.
    assert "learn 57.1%2" in _legend(browser, "Seconds per step")
    assert _legend(browser, "Policy loss") == ["step3", f"loss{minus}0.3"]


def test_smoothing_lays_a_calmer_curve_over_what_was_measured(browser: Browser, one: str) -> None:
    browser.open(one + "#/overview?smooth=0.9")
    _wait_for_charts(browser)
    drawn, measured = browser.run(
        "(() => { const p = plots.find((p) => p.root.closest('[data-title=\"Policy loss\"]'));"
        "return [p.data[1], p.data[2]]; })()"
    )
    assert measured == [-0.1, -0.2, -0.3]
    assert drawn[0] == measured[0] and measured[2] < drawn[2] < drawn[1] < drawn[0]
    assert len(_legend(browser, "Policy loss")) == 2


def test_hostile_text_is_text(browser: Browser, one: str) -> None:
    browser.open(one + "#/list")
    key = json.dumps(HOSTILE_TASK)
    browser.run(
        f"[...document.querySelectorAll('a.open')].find((a) => a.textContent === {key}).click()"
    )
    browser.wait("location.hash.startsWith('#/episode') && document.querySelector('.result pre')")
    assert browser.run("document.querySelector('h1').textContent") == HOSTILE_TASK
    assert browser.run("document.querySelector('.result pre').textContent") == HOSTILE
    assert HOSTILE in browser.text()  # the account's sentence, too
    assert browser.run("document.querySelectorAll('img, b[onclick], main script').length") == 0
    browser.press("g")
    browser.wait("document.querySelectorAll('.column').length === 3")
    assert browser.run("document.querySelectorAll('img, main script').length") == 0


def test_even_a_hole_in_the_page_would_run_nothing(browser: Browser, one: str) -> None:
    """The policy holds by itself: markup is refused, and so is every inline script."""
    browser.open(one)
    refused = browser.run(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return ''; }"
        "catch (problem) { return problem.name; } })()"
    )
    assert refused == "TypeError"
    assert browser.run("fetch('http://localhost:1/x').then(() => 1, () => 0)") == 0
    assert any("Content Security Policy" in text for text in browser.complaints)
    browser.complaints.clear()  # these were ours


def test_a_trajectory_shows_what_each_call_earned(browser: Browser, one: str) -> None:
    browser.open(one + "#/episode?step=2&group=2%3Aa&member=2")
    call = browser.run("document.querySelector('.call').innerText")
    for part in ("find", "+1.000", "gold call 1", "atomic 1.00", "orchestration 0.50", "= equal"):
        assert part in " ".join(call.split()), part
    text = browser.text()
    assert "unknown tool" in text and "Done by 2." in text
    assert "Matches gold call 1." in text and "no gold call" in text
    assert "+0.50" in browser.run("document.querySelector('table.group .current').innerText")


def test_tokens_come_on_demand_with_logprob_mask_and_version(browser: Browser, one: str) -> None:
    browser.open(one + "#/episode?step=2&group=2%3Aa&member=2")
    assert not any("/api/tokens" in url for url in browser.requests)
    browser.press("t")
    browser.wait("document.querySelectorAll('.tok.act').length === 4")
    assert "tokens=1" in browser.run("location.hash")
    readout = "document.querySelector('.token-readout').innerText"
    browser.run("document.querySelector('.stream').focus()")
    for _ in range(3):
        browser.press("ArrowRight")
    told = browser.run(readout)
    assert "position 4 · id 67" in told and "mask 1" in told
    assert "log-probability -3.5000" in told and "weight version 3" in told
    browser.run("document.querySelector('.ctx').click()")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert "mask 0" in browser.run(readout)


def test_an_address_is_all_it_takes(browser: Browser, one: str) -> None:
    """Filters, order and page live in the address, and so does an open token view."""
    browser.open(one + "#/list?reward_to=0.5&sort=reward&order=asc&success=no")
    assert browser.run("document.getElementById('total').innerText").startswith("6 trajectories")
    rewards = browser.run(
        "[...document.querySelectorAll('tbody tr td:nth-child(3)')].map((c) => c.innerText.trim())"
    )
    assert rewards == ["0.000"] * 3 + ["0.500"] * 3
    browser.open(one + "#/episode?step=1&group=1%3Aa&member=0&tokens=1")
    assert browser.run("document.querySelectorAll('.tok.act').length") == 4


def test_the_list_is_read_by_keyboard(browser: Browser, one: str) -> None:
    browser.open(one)
    browser.press("l")
    browser.wait("document.querySelectorAll('tr.row').length === 18")
    for key in ("j", "j", "k"):
        browser.press(key)
    assert (
        browser.run(
            "[...document.querySelectorAll('tr.row')].findIndex((r) => r.matches('.marked'))"
        )
        == 0
    )
    browser.press("j")
    browser.press("Enter")
    browser.wait("document.querySelector('h1')")
    assert "member 1" in browser.text()
    browser.press("]")
    browser.wait("document.querySelector('.sub').innerText.includes('member 2')")
    browser.press("[")
    browser.wait("document.querySelector('.sub').innerText.includes('member 1')")
    browser.press("?")
    browser.wait("document.querySelector('dialog[open]')")
    browser.run("document.querySelector('dialog').close()")
    browser.press("l")
    browser.wait("document.getElementById('filter-task')")
    browser.press("/")
    assert browser.run("document.activeElement.id") == "filter-task"


def test_the_theme_follows_the_system_and_the_key(browser: Browser, one: str) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.resize(1200, 800)
    browser.open(one)
    light = browser.run(colour)
    browser.resize(1200, 800, dark=True)
    dark = browser.run(colour)
    browser.press("d")
    assert browser.run(colour) == light != dark
    browser.open(one)
    assert browser.run(colour) == light  # remembered
    browser.run("localStorage.clear()")
    browser.resize(1400, 900)


def test_charts_take_the_colours_of_the_theme(browser: Browser, one: str) -> None:
    browser.resize(1400, 900)
    browser.open(one)
    _wait_for_charts(browser)
    light = browser.run("plots[0].series[1].stroke(plots[0], 1)")
    browser.press("d")
    browser.wait(f"plots.length >= 8 && plots[0].series[1].stroke(plots[0], 1) !== '{light}'")
    _wait_for_charts(browser)
    assert _drawn(browser, "Reward", "k0") > 20
    browser.run("localStorage.clear()")


def test_two_runs_share_their_charts_and_their_tasks(browser: Browser, both: str) -> None:
    browser.open(both)
    _wait_for_charts(browser)
    assert [row[:5] for row in _legend(browser, "Reward")] == ["step3", "first", "secon"]
    assert _drawn(browser, "Reward", "run0") > 0 and _drawn(browser, "Reward", "run1") > 20
    assert {"Seconds per step: first", "Seconds per step: second"} <= set(_titles(browser))
    browser.press("s")
    browser.wait("document.querySelectorAll('tr.row').length === 2")
    browser.go("#/task?task=a")
    assert browser.run("document.querySelectorAll('.columns').length") == 2
    assert browser.run("document.querySelectorAll('.column').length") == 6
    browser.go("#/config")
    assert browser.run("document.querySelector('tr.differs').innerText").startswith("training.")


def test_the_page_follows_a_run_that_goes_on(browser: Browser, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "live", 0)
    server = ViewServer([RunData(folder)])
    server.start()
    try:
        browser.open(server.url)
        assert "No results yet" in browser.text()
        write_steps(folder, 1, 2)
        browser.run("lookAgain()")
        _wait_for_charts(browser)
        write_steps(folder, 3, 3)
        browser.run("lookAgain()")
        _wait_for_charts(browser)
        # Those of the earlier page are freed.
        browser.wait("plots.length === document.querySelectorAll('.chart canvas').length")
        browser.wait("plots.length >= 8 && plots.every((plot) => plot.data[0].at(-1) === 3)")
        assert "step 3" in browser.run("document.getElementById('top').innerText")
    finally:
        browser.call("Page.navigate", url="about:blank")
        server.stop()


def test_a_damaged_store_is_told_on_the_page(browser: Browser, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "bad", 2)
    (folder / "rollouts.db").write_bytes(b"no database" * 500)
    server = ViewServer([RunData(folder)])
    server.start()
    try:
        browser.open(server.url)
        browser.wait("document.querySelector('[data-title=Reward] canvas')")
        assert "rollouts.db cannot be read" in browser.run(
            "document.getElementById('notices').innerText"
        )
        browser.go("#/list")
        assert "No trajectories" in browser.text()
        browser.go("#/nowhere")
        assert "no such view" in browser.text()
    finally:
        browser.call("Page.navigate", url="about:blank")
        server.stop()


def test_an_exported_page_works_alone(browser: Browser, runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    export_page([RunData(run) for run in runs], out)
    browser.open(out.as_uri())
    _wait_for_charts(browser)
    assert _drawn(browser, "Reward", "run1") > 20
    browser.go("#/list?sort=reward&order=asc&success=no")
    assert browser.run("document.querySelectorAll('tr.row').length") == 6
    browser.press("j")
    browser.press("Enter")
    browser.wait("document.querySelector('.call')")
    browser.press("t")
    browser.wait("document.querySelectorAll('.tok.act').length === 4")
    browser.go("#/task?task=a")
    assert browser.run("document.querySelectorAll('.column').length") == 6
    assert {url.split("#")[0] for url in browser.requests} <= {
        "about:blank",
        out.as_uri(),
        "data:,",
    }


def test_a_folder_of_runs_is_a_list_and_a_story_and_leads_to_each_run(
    browser: Browser, folder: str
) -> None:
    browser.open(folder)
    _wait_for_charts(browser, 3)
    rows = browser.run("[...document.querySelectorAll('tr.row')].map((r) => r.innerText)")
    assert len(rows) == 2 and "GRPO after sft" in " ".join(rows) and "3 of 3" in " ".join(rows)
    assert browser.run("document.querySelectorAll('.spark polyline').length") == 2
    text = browser.text()
    assert "null" not in text and "From the warm start on" in text
    assert "before GRPO 25.0% [0, 40] · after 75.0% [50, 90]" in text
    assert _titles(browser) == ["Warm start: loss", "GRPO: reward", "Held out, over both"]
    ranges = browser.run("plots.map((p) => [p.scales.x.min, p.scales.x.max])")
    assert ranges == [[0, 13.5]] * 3
    browser.run("document.querySelector('a.open[href$=\"of=grpo\"]').click()")
    browser.drawn("#/overview?of=grpo")
    assert "From the warm start on" in browser.text()
    browser.press("l")
    browser.wait("document.querySelectorAll('tr.row').length === 18")
    browser.press("j")
    browser.press("Enter")
    browser.wait("document.querySelector('.call')")
    assert "of=grpo" in browser.run("location.hash")
    browser.press("r")
    browser.wait("document.querySelectorAll('.spark').length === 2")
    browser.run("[...document.querySelectorAll('input[type=checkbox]')][0].click()")
    browser.wait("document.querySelectorAll('input:checked').length === 1")
    browser.run("[...document.querySelectorAll('input[type=checkbox]')][1].click()")
    browser.wait("[...document.querySelectorAll('a.button')].some((a) => a.href.includes('with='))")
    browser.run("document.querySelector('a.button').click()")
    browser.wait("state.runs.length === 2 && document.querySelector('[data-title=Loss] canvas')")


def test_an_exported_folder_has_all_of_its_runs(browser: Browser, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    export_page(RunList(make_quickstart(tmp_path / "q")), out)
    browser.open(out.as_uri())
    _wait_for_charts(browser, 3)
    browser.go("#/trajectories?of=grpo&success=no")
    assert browser.run("document.querySelectorAll('tr.row').length") == 6
    browser.go("#/tasks?of=grpo")
    assert browser.run("document.querySelectorAll('tr.row').length") == 2
    browser.go("#/overview?of=sft")
    browser.wait("document.querySelector('[data-title=Loss] canvas')")


def test_the_curves_stand_under_headings_reward_first(browser: Browser, one: str) -> None:
    browser.open(one)
    _wait_for_charts(browser)
    heads = browser.run("[...document.querySelectorAll('h2')].map((h) => h.innerText)")
    wanted = ["Learning", "What the reward is made of", "Health", "Speed and length"]
    assert [head for head in heads if head in wanted] == wanted
    assert _titles(browser)[0] == "Reward"
    tabs = browser.run(
        "[...document.querySelectorAll('nav[aria-label=views] a')].map((a) => "
        "[a.innerText.toLowerCase(), a.hash])"
    )
    assert all(hash_ == f"#/{name}" for name, hash_ in tabs) and len(tabs) == 4
    browser.go("#/list")  # addresses that were sent before
    assert browser.run("document.querySelectorAll('tr.row').length") == 18
    browser.go("#/config")
    assert "training.iterations" in browser.text()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A run with every number that the page says more about than its value."""
    folder = make_run(tmp_path_factory.mktemp("told") / "run", 0)
    (folder / "config.yaml").write_text(
        "{training: {iterations: 3}, environment: {env_config: {reward: graduated}}}"
    )
    writer = MetricsWriter(folder, tensorboard=False)

    def measured(success: float, tasks: int) -> dict[str, object]:
        ends = {"mean": success, "low": success / 2, "high": 1.0}
        return {"success": success, "n": tasks, "avg_at_1": ends, "pass_at_1": ends}

    writer.write({"training_iteration": 0, "evaluation": measured(0.25, 16)})
    for step in (1, 2, 3):
        made = result(
            step, step_replies(step), evaluation=measured(step / 4, 16 if step < 3 else 8)
        )
        made["learners"]["default_policy"] |= {"mismatch_kl": 6.9e-13 / step, "ratio_ess": 0.9}
        made["env_runners"]["reward"] = {"matched": 0.5, "extra_calls": 0.6 * step}
        writer.write(made)
    writer.close()
    server = ViewServer([RunData(folder)])
    server.start()
    yield server.url
    server.stop()


def test_rates_over_other_tasks_are_not_joined_and_have_intervals(
    browser: Browser, told: str
) -> None:
    browser.open(told)
    _wait_for_charts(browser)
    assert [row.split(" tasks")[0] for row in _legend(browser, "Held out: success")] == [
        "step3",
        "sampled, 16",
        "sampled, 8",
    ]
    assert "with 95% intervals" in browser.run(
        "document.querySelector('[data-title=\"Held out: success\"]').innerText"
    )
    low, high = browser.run(
        "(({ scales }) => [scales.y.min, scales.y.max])(plots.find((p) => "
        "p.root.closest('[data-title=\"Held out: success\"]')))"
    )
    assert low <= 0.125 and high >= 1.0  # the band fits
    assert "Held out: pass@k" not in _titles(browser)  # pass@1 is success again


def test_all_curves_start_and_end_alike_and_a_part_can_be_looked_at(
    browser: Browser, told: str
) -> None:
    browser.open(told)
    _wait_for_charts(browser)
    bars = "['Seconds per step', 'Stop reasons'].includes(p.root.closest('.chart').dataset.title)"
    ranges = browser.run(
        f"plots.filter((p) => !({bars})).map((p) => [p.scales.x.min, p.scales.x.max])"
    )
    assert ranges == [[0, 3]] * len(ranges) and len(ranges) > 8
    assert browser.run(f"plots.filter((p) => {bars}).map((p) => p.scales.x.min)") == [-0.5] * 2
    browser.run("plots[0].setScale('x', { min: 1.5, max: 2.5 })")
    browser.wait("plots[0].scales.x.min === 1.5")


def test_rounding_reads_as_none_and_limits_are_drawn(browser: Browser, told: str) -> None:
    browser.open(told)
    _wait_for_charts(browser)
    tiles = browser.run("document.querySelector('.tiles').innerText").split("\n")
    assert "~0" in tiles and "from ~0" in tiles
    cut = (
        "[...document.querySelectorAll('.tile .value, .chart .note')]"
        ".filter((node) => node.scrollWidth > node.clientWidth)"
    )
    for width in (1400, 420):
        browser.resize(width, 900)
        browser.wait(f"{cut}.length === 0")
        browser.wait("document.documentElement.scrollWidth <= innerWidth")
    browser.resize(1400, 900)
    assert _legend(browser, "Mismatch KL")[1] == "KL~0"
    assert _drawn(browser, "Effective sample size", "warn") > 20
    assert _drawn(browser, "Mismatch KL", "warn") == 0  # far below


def test_a_long_name_does_not_widen_the_page(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "long.html"
    export_page([RunData(make_run(tmp_path / ("n" * 240), 1))], page)
    browser.open(page.as_uri())
    for width in (1400, 420):
        browser.resize(width, 900)
        browser.wait("document.documentElement.scrollWidth <= innerWidth", seconds=2)
    browser.resize(1400, 900)


def test_counts_and_shares_have_their_own_charts(browser: Browser, told: str) -> None:
    browser.open(told)
    _wait_for_charts(browser)
    assert [row[:6] for row in _legend(browser, "Reward components")[1:]] == ["matche"]
    assert [row[:6] for row in _legend(browser, "Reward components: counts")[1:]] == ["extra "]


def test_a_group_fits_the_window_and_the_best_paid_comes_first(browser: Browser, one: str) -> None:
    browser.open(one + "#/group?step=2&group=2%3Aa")
    heads = browser.run(
        "[...document.querySelectorAll('.column header a')].map((a) => a.innerText)"
    )
    assert heads == ["member 2", "member 1", "member 0"]
    assert "turn 1" in browser.text() and "turn 0" not in browser.text()
    for width in (1400, 420):
        browser.resize(width, 900)
        inner = "document.querySelector('.columns')"
        browser.wait(f"{inner}.scrollWidth <= {inner}.clientWidth")
    browser.resize(1400, 900)


def test_people_count_turns_and_calls_from_one(browser: Browser, one: str) -> None:
    browser.open(one + "#/episode?step=2&group=2%3Aa&member=2")
    text = browser.text()
    assert "assistant · turn 1" in text and "call 1.1" in text and "call 1.2" in text
    assert "turn 0" not in text and "call 0" not in text


def test_the_list_leads_to_the_best_the_worst_and_what_disagrees(
    browser: Browser, one: str
) -> None:
    browser.open(one + "#/trajectories")
    heads = browser.run("[...document.querySelectorAll('thead th')].map((h) => h.innerText)")
    assert "group" not in heads and len(set(heads)) == len(heads)
    links = "[...document.querySelectorAll('.shortcuts a')]"
    assert browser.run(f"{links}.map((a) => a.innerText)") == [
        "best",
        "worst",
        "reward high, success no",
        "reward low, success yes",
    ]
    browser.run(f"{links}[2].click()")
    browser.drawn("#/trajectories?step_from=3&step_to=3&sort=reward&order=desc&success=no")
    rewards = browser.run(
        "[...document.querySelectorAll('tbody tr td:nth-child(3)')].map((c) => c.innerText.trim())"
    )
    assert rewards == ["0.500", "0.000"]


def test_a_success_that_was_cut_off_explains_itself(browser: Browser, one: str) -> None:
    browser.open(one)
    shown = browser.run(
        "el('p', {}, stopBadge({ stop: 'output_truncated', success: true })).outerHTML"
    )
    assert "done before that" in shown and "cut off at the most tokens of a turn" in shown
    plain = browser.run("el('p', {}, stopBadge({ stop: 'answered', success: true })).innerText")
    assert plain == "answered"
