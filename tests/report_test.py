"""Pages about runs: what they show is true, and no name or word becomes markup."""

import errno
import json
import math
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from begun_runs import CONFIG, LINE, begin
from mistakes_test import refused

from glrnn import report, runs, score
from glrnn.config import Config, Layer, Phase, Stage, experiment
from glrnn.ground.losses import to_perplexity
from glrnn.ground.validation import to_json
from glrnn.reports import drawing, gradients, learning, page
from glrnn.reports.epochs import read
from glrnn.reports.repeat import recipe, source_of
from glrnn.reports.samples import write
from glrnn.storage import run_folder
from glrnn.storage.metrics_log import read_epochs

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")

EXPERIMENTS = [
    path
    for path in sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
    if "\nconfig = " in path.read_text()
]
EVIL = "<script>alert(1)</script>&\"'\x1b[2J\u202e"
EVIL_NAME = "<img src=x onerror=alert(1)>$x$"
# The only elements of a page outside of its figures, and those within.
ELEMENTS = set(
    "html head meta title style body main h1 h2 h3 p ul li dl dt dd div figure "
    "figcaption table thead tbody tr th td blockquote ol span pre code footer section "
    "a".split()
)
SVG = set("svg g path text tspan defs clippath rect use line polyline".split())


class Reader(HTMLParser):
    """The elements, ids, attributes and text of a page, whose elements are closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.ids, self.attributes = set(), [], set()
        self.text, self.open = "", []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.ids += [value for key, value in attrs if key == "id"]
        self.attributes |= {key for key, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(path):
    """What a page shows, which is safe."""
    source = path.read_text()
    shown = Reader(source)
    assert shown.elements <= ELEMENTS | SVG
    assert not {name for name in shown.attributes if name.startswith("on")}
    assert len(shown.ids) == len(set(shown.ids))
    assert "default-src 'none'" in source
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', source))
    assert used <= set(shown.ids)
    assert all(each.isprintable() or each == "\n" for each in source)
    return shown


def reported(*arguments):
    report.main([str(argument) for argument in arguments])


@pytest.fixture
def start(tmp_path):
    """Begins a run with metrics, of these validation losses or lines."""

    def start(name, *epochs, config=CONFIG):
        lines = [
            each if isinstance(each, dict) else LINE | {"epoch": n, "valid_loss": each}
            for n, each in enumerate(epochs, 1)
        ]
        return begin(tmp_path / "runs" / name, lines, config)

    return start


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def test_a_page_has_the_numbers_of_the_run(copied, capsys):
    reported(copied, "--sentence", "the cat sat <b>")
    assert capsys.readouterr().out == f"written: {copied / 'report.html'}\n"
    shown = checked(copied / "report.html")
    run = run_folder.read(copied)
    summary = run.read_summary(1)
    for loss in (summary.test_loss, summary.raw_valid_loss):
        assert f"{to_perplexity(loss):.2f}" in shown.text
    for title in ("Learning curves", "Gradient norms", "Phases", "To repeat it"):
        assert title in shown.text
    assert "[<b>]" in shown.text
    assert run.origin.sha256 in shown.text
    assert run.origin.machine["jax"] in shown.text
    assert "This resumes it" not in shown.text


def test_surprisals_are_those_of_score(copied, capsys):
    line = "saw the cat on <unk> mat"
    writing = write(run_folder.read(copied), line)
    (copied.parent / "line.txt").write_text(line)
    score.main([str(copied), str(copied.parent / "line.txt"), "--words"])
    rows = capsys.readouterr().out.splitlines()[1:]
    expected = [float(row.split("\t")[3]) for row in rows]
    assert [word.bits for word in writing.sentence] == pytest.approx(expected, abs=1e-4)
    assert writing.perplexity == pytest.approx(2 ** np.mean(expected), rel=1e-4)
    assert [word.unknown for word in writing.sentence].index(True) == 4


def test_the_sentence_is_of_the_runs_own_text_or_a_sample(copied):
    run = run_folder.read(copied)
    texts = Path(run.origin.data)
    first = (texts / "valid.txt").read_text().splitlines()[0]
    assert " ".join(word.word for word in write(run).sentence[:-1]) == first
    # What is in that folder now may be somebody's letters.
    other = run.origin.splits_sha256 | {"valid": "0"}
    run = run._replace(origin=replace(run.origin, splits_sha256=other))
    writing = write(run)
    assert writing.source.startswith("the first sample")
    words = " ".join(word.word for word in writing.sentence[:-1])
    assert words == writing.samples[0]


def drawn(draw, width, **how):
    with drawing.new_figure(width, 400) as figure:
        draw(figure, **how)
        drawing.as_png(figure)
        return figure


@pytest.mark.parametrize("width", [drawing.WIDE, drawing.NARROW])
def test_curves_are_the_numbers_of_the_metrics(copied, width):
    run = run_folder.read(copied)
    records, epochs = read_epochs(run), read(run)
    how = {"epochs": epochs, "config": run.config}
    (axes,) = drawn(learning.draw_learning, width, **how).axes
    lines = [line for line in axes.lines if line.get_label() in ("validation", "_")]
    drawn_numbers = np.concatenate([line.get_ydata() for line in lines])
    raw_label = "validation, raw parameters"
    (line,) = [line for line in axes.lines if line.get_label() == raw_label]
    raw = line.get_ydata()
    for record in records:
        assert record.valid_loss in drawn_numbers
        assert (record.raw_valid_loss in raw) == record.averaging
    # As labelled.
    ticks = axes.get_yticks()
    labels = [
        float(text.get_text().replace(",", "")) for text in axes.get_yticklabels()
    ]
    np.testing.assert_allclose(np.exp(ticks), labels, rtol=1e-4)
    above, *_ = drawn(gradients.draw_gradients, width, **how).axes
    norms = [value for line in above.lines for value in line.get_ydata()]
    (limit,) = run.config.phases[0].main.max_norms
    for record in records:
        assert np.float32(record.gradient_norm["all"]) in np.float32(norms)
    assert limit in norms


def test_a_figure_takes_its_colours_from_the_page(copied):
    run = run_folder.read(copied)
    how = {"epochs": read(run), "config": run.config}
    with drawing.new_figure(drawing.WIDE, 400) as figure:
        learning.draw_learning(figure, **how)
        svg = drawing.as_svg(figure, "a")
    style = (page.TEMPLATES / "style.css").read_text()
    light, dark = style.split("@media", 1)[0], style.split("@media", 2)[1]
    for color, variable in drawing.COLORS.items():
        assert color not in svg.lower()
        assert f"--{variable}: {color};" in light
        assert f"--{variable}: #" in dark
    assert "var(--series-1)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) == set()
    ElementTree.fromstring(svg)


def test_nothing_of_a_hostile_run_is_markup(copied, tmp_path, capsys):
    folder = tmp_path / EVIL_NAME
    words = json.loads((copied / "vocabulary.json").read_text())
    words[words.index("cat")] = EVIL
    words[words.index("sat")] = "\ud800"
    (copied / "vocabulary.json").write_text(json.dumps(words))
    origin = json.loads((copied / "origin.json").read_text())
    origin |= {"vocabulary_sha256": "", "experiment": f"{EVIL}.py", "data": EVIL}
    origin |= {"sha256": EVIL, "splits_sha256": {EVIL: EVIL}, "machine": {EVIL: EVIL}}
    (copied / "origin.json").write_text(json.dumps(origin))
    lines = (copied / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first |= {"train_loss": math.inf, "raw_valid_loss": math.nan, "valid_loss": 1e30}
    first |= {"warnings": [{"kind": "unstable", "text": EVIL}], "seconds": 1e300}
    last = json.loads(lines[-1]) | {"gradient_norm": {EVIL: 1.0, "all": 1e-300}}
    text = "\n".join(
        [json.dumps(first), EVIL, *lines[1:], json.dumps(last), lines[0][:9]]
    )
    (copied / "metrics.jsonl").write_text(text, "utf-8", "replace")
    copied.rename(folder)
    reported(folder, "--sentence", EVIL, "--png", tmp_path / "png")
    shown = checked(folder / "report.html")
    escaped = EVIL.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")
    assert shown.text.count(escaped) >= 6
    assert "line 2 of metrics.jsonl cannot be read" in shown.text
    assert EVIL_NAME in shown.text
    runs_page = tmp_path / "all.html"
    with pytest.raises(SystemExit):  # a line of the metrics is damaged
        runs.main([str(tmp_path), "--html", str(runs_page)])
    checked(runs_page)
    assert {path.name for path in (tmp_path / "png").iterdir()} == {
        "learning.png",
        "gradients.png",
    }


def test_several_runs_are_compared(copied, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "_other"
    shutil.copytree(copied, other)
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join(lines[:2]))
    (other / "phase_1" / "summary.json").unlink()
    reported(copied, other, "--png", tmp_path / "png")
    shown = checked(tmp_path / "report.html")
    assert "valid after 2 epochs" in shown.text
    assert "The run is not finished" in shown.text
    assert "_other" in shown.text
    found = read_epochs(run_folder.read(copied))
    best = to_perplexity(min(epoch.valid_loss for epoch in found[:2]))
    assert f"{best:.2f}" in shown.text
    assert "comparison.png" in os.listdir(tmp_path / "png")
    assert not (copied / "report.html").exists()


def test_a_run_under_way_without_a_checkpoint(start, tmp_path, capsys):
    run = start("one", 3.0, 2.5)
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"phase": 1, "sta')
    reported(run.folder)
    shown = checked(run.folder / "report.html")
    assert "no samples: no checkpoint in" in shown.text
    assert "This resumes it" in shown.text
    assert "12.18" in shown.text
    assert "1/2 main 2/9" in shown.text


def test_a_run_without_epochs_is_one_line(start):
    run = start("new")
    said = refused(report.main, run.folder)
    assert said == (
        f"error: no epoch of {run.folder} is over yet, so there is nothing to report"
    )
    (run.folder / "metrics.jsonl").write_text("{\n")
    assert "line 1 of metrics.jsonl cannot be read" in refused(report.main, run.folder)
    assert not (run.folder / "report.html").exists()


DEEP = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),) * 10,
    phases=tuple(
        Phase(
            layers,
            replace(Phase().dropout, hidden=(0.0,) * (layers - 1)),
            main=Stage(300, max_norms=(0.1,) * (layers + 1)),
        )
        for layers in range(1, 11)
    ),
    batch_size=4,
    valid_batch_size=2,
)


@pytest.mark.thorough
def test_ten_layers_and_thousands_of_epochs(start, capsys):
    names = ["embedding", *(f"layer {number}" for number in range(1, 11))]
    lines = [
        {
            "phase": phase,
            "stage": "main",
            "epoch": epoch,
            "valid_loss": 5 + math.sin(epoch),
            "gradient_norm": dict.fromkeys(names[: phase + 1], epoch / 7),
            "clipped": dict.fromkeys(names[: phase + 1], 0.5),
            "triggered": True,
        }
        for phase in range(1, 11)
        for epoch in range(1, 301)
    ]
    run = start("deep", *lines, config=DEEP)
    reported(run.folder)
    shown = checked(run.folder / "report.html")
    assert "Of 3,000 epochs the curves keep the lowest and the highest" in shown.text
    assert "10 layers" in shown.text
    assert "averaging begins" in shown.text
    assert (run.folder / "report.html").stat().st_size < 2**21


def test_losses_that_cannot_be_drawn_are_told(start, capsys):
    run = start("huge", 1e30)
    reported(run.folder)
    shown = checked(run.folder / "report.html")
    assert "no loss is finite and small enough to draw" in shown.text


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_is_written_as_it_is(path):
    config = experiment.load(path)
    names: dict = {}
    exec("\n".join(source_of(config)), names)
    assert names["config"] == config


def test_the_command_repeats_what_was_unusual(start, monkeypatch):
    run = start("one")
    numerics = replace(
        run.origin.numerics, enable_x64=True, matmul_precision="bfloat16"
    )
    run = run._replace(origin=replace(run.origin, numerics=numerics))
    assert recipe(run).command == (
        "JAX_ENABLE_X64=1 python -m glrnn.train experiment.py --data FOLDER "
        "--matmul-precision bfloat16 --workdir runs/again"
    )


def test_a_page_replaces_no_file_of_a_run(copied, tmp_path):
    before = (copied / "metrics.jsonl").read_bytes()
    told = "is no name of a page"
    assert told in refused(report.main, copied, "--output", copied / "metrics.jsonl")
    inner = copied / "phase_1" / "a.html"
    assert "is inside the run" in refused(report.main, copied, "--output", inner)
    assert "is inside the run" in refused(report.main, copied, "--png", copied / "png")
    assert (copied / "metrics.jsonl").read_bytes() == before


def test_a_link_in_the_place_of_a_page_is_not_followed(copied, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    (copied / "report.html").symlink_to(tmp_path / "mine")
    reported(copied)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (copied / "report.html").is_symlink()


def full(*names):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_page_that_cannot_be_written_leaves_the_old_one(copied, monkeypatch, capsys):
    (copied / "report.html").write_text("old")
    monkeypatch.setattr(
        os, "replace", lambda *names: (_ for _ in ()).throw(OSError(28, "full"))
    )
    assert "cannot write" in refused(report.main, copied)
    assert (copied / "report.html").read_text() == "old"


def test_what_is_missing_is_named_at_once(copied, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "is_installed", lambda name: name != "matplotlib")
    told = (
        "a page needs matplotlib, which is not installed: pip install 'glrnn[report]'"
    )
    assert told in refused(report.main, copied)
    monkeypatch.setattr(page, "is_installed", lambda name: False)
    told = "a page needs matplotlib and jinja2, which are not installed"
    assert told in refused(report.main, copied)
    told = "a page needs jinja2, which is not"
    assert told in refused(runs.main, copied, "--html", tmp_path / "a.html")


def test_the_page_of_runs_links_to_their_reports(start, tmp_path, capsys):
    one, two = start("one & <b>", 3.0), start("two")
    (one.folder / "report.html").touch()
    runs.main([str(tmp_path / "runs"), "--html", str(tmp_path / "all.html")])
    source = (tmp_path / "all.html").read_text()
    checked(tmp_path / "all.html")
    assert 'href="runs/one%20%26%20%3Cb%3E/report.html"' in source
    assert source.count("href=") == 1
    assert f"python -m glrnn.train {two.folder}" in source


def test_a_run_with_a_report_is_still_trained(copied, capsys):
    """It is a regular file, and no other file of the run."""
    from glrnn import train

    reported(copied)
    train.main([str(copied)])
    assert (copied / "report.html").is_file()


def test_every_config_is_repeated_from_json(start):
    run = start("one")
    names: dict = {}
    exec("\n".join(recipe(run).source), names)
    assert to_json(names["config"]) == (run.folder / "config.json").read_text()
    assert names["config"] == CONFIG
